"""Shards -> samples, without Keras: which clip, when, and which part of it."""
