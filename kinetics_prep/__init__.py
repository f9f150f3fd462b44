"""Prepares Kinetics-style video data sets: RGB and TV-L1 flow, sharded, every row accounted for."""

__version__ = "0.1.0"
