"""The weights of a Keras model in memory: its variables by name, out as arrays and in again."""

import math
from collections.abc import Collection, Mapping, Sequence

import keras
import numpy as np

from kinetics_prep.models.weights import Arrays, check_no_problems


def by_name(model: keras.Model) -> dict[str, keras.Variable]:
    """The variables of a model that are its weights, as `<layer>/<variable>`; no states of random generators."""
    return {f"{layer.name}/{variable.name}": variable for layer in model.layers for variable in layer.weights}


def count_parameters(model: keras.Model) -> int:
    """How many numbers a model's weights are, the moving means and variances of batch norm included."""
    return sum(math.prod(variable.shape) for variable in by_name(model).values())


def to_arrays(model: keras.Model) -> Arrays:
    """A model's weights by name: copies, which training does not change."""
    return {name: np.array(keras.ops.convert_to_numpy(variable)) for name, variable in by_name(model).items()}


def restore(model: keras.Model, arrays: Mapping[str, np.ndarray], without: Collection[str] = ()) -> None:
    """Sets the weights of a model: each variable gets its array, and no array is left over.

    Args:
      arrays: by the names of `by_name`.
      without: names of layers that keep what they have, such as a new head. Their arrays, if there are any, are
        ignored.

    Raises:
      BadWeights: naming the arrays that are missing, unknown, or of another shape. The model is then unchanged.
    """
    variables = {name: variable for name, variable in by_name(model).items() if layer_of(name) not in without}
    given = {name: array for name, array in arrays.items() if layer_of(name) not in without}
    problems = [f"{name} is missing" for name in sorted(variables.keys() - given.keys())]
    problems += [f"{name} is unknown" for name in sorted(given.keys() - variables.keys())]
    problems += [
        f"{name} is {_shape_text(given[name].shape)}, expected {_shape_text(variables[name].shape)}"
        for name in sorted(variables.keys() & given.keys())
        if tuple(given[name].shape) != tuple(variables[name].shape)
    ]
    check_no_problems(problems, f"weights do not fit {model.name}")
    for name, variable in variables.items():
        variable.assign(given[name])


def layer_of(name: str) -> str:
    """The layer in the name of an array, `<layer>/<variable>`."""
    return name.rpartition("/")[0]


def _shape_text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a number"
