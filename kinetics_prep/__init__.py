"""Prepares Kinetics-style video data sets: RGB and TV-L1 flow, sharded, every row accounted for."""

from pathlib import Path

__version__ = "0.1.0"

# Installed, schemas/ is a subpackage. In a checkout, where `python -m pipelines.flow` imports this
# folder rather than the installed one, it stands beside.
_checkout = Path(__file__).resolve().parents[1]
if (_checkout / "schemas" / "record.json").exists():
    __path__.append(str(_checkout))
