"""Checkpoints: everything that a run needs to go on as if it had never stopped.

    RUN/checkpoints/step-00012000.safetensors     weights, moving averages, momentum, the state of random generators

A checkpoint is written whole or not at all. The last two stay, in case one is damaged.
"""

import json
import re
from pathlib import Path

import keras
import numpy as np
from safetensors import SafetensorError, numpy, safe_open

from kinetics_prep.errors import CorruptShard, Diverged
from kinetics_prep.storage.files import atomic_write

KEPT = 2
"""Checkpoints that stay."""

_NAME = re.compile(r"step-(\d{8})\.safetensors")


def write(folder: Path, step: int, model: keras.Model, digest: str) -> Path:
    """Writes the state of a compiled model after `step` steps, and deletes all checkpoints but the last two.

    Args:
      digest: of the run's settings, see `RunFolder.describe`.

    Returns:
      The file's path.

    Raises:
      Diverged: if a number in the state is not finite; a run could not go on from there. No file is written.
    """
    path = folder / f"step-{step:08d}.safetensors"
    arrays = {name: np.array(variable.numpy(), order="C") for name, variable in _variables(model).items()}
    _check_finite(arrays, step)
    # Not safetensors' own `save_file`: its error for a full disk has no errno, only words.
    data = numpy.save(arrays, {"step": str(step), "digest": digest})
    with atomic_write(path, folder) as temporary:
        temporary.write_bytes(data)
    for old in list_checkpoints(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def _check_finite(arrays: dict[str, np.ndarray], step: int) -> None:
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise Diverged(
                f"after step {step} {name} holds values that are not finite. Try a lower learning rate in another "
                "--output; the checkpoints of this run are from before"
            )


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the oldest first."""
    return sorted(path for path in folder.glob("step-*.safetensors") if _NAME.fullmatch(path.name))


def step_of(path: Path) -> int:
    """After how many steps a checkpoint was written, by its name.

    Raises:
      ValueError: if it is not the name of a checkpoint.
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path.name!r} is not the name of a checkpoint")
    return int(match[1])


def restore(path: Path, model: keras.Model, digest: str) -> int:
    """Puts a compiled model, whose optimizer is built, into the state of a checkpoint.

    Args:
      digest: of the run's settings, as given to `write`.

    Returns:
      The steps that were done.

    Raises:
      CorruptShard: if the file does not read back, or holds the state of another run, step or model. The model is not
        changed then.
    """
    variables = _variables(model)
    try:
        with safe_open(path, "np") as file:
            facts = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptShard(f"{path} does not read as a checkpoint: {error}") from None
    if facts.get("digest") != digest:
        raise CorruptShard(f"{path} is of another run: its digest is {facts.get('digest')!r}, expected {digest!r}")
    if facts.get("step") != str(step_of(path)):
        raise CorruptShard(f"{path} is of step {facts.get('step')!r}: it was renamed")
    expected = {name: (tuple(variable.shape), str(variable.dtype)) for name, variable in variables.items()}
    actual = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
    if differing := sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name)):
        raise CorruptShard(f"{path} does not fit the model: {json.dumps(differing[:10])}")
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return step_of(path)


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    """All variables of a compiled model and its optimizer, except those of its metrics.

    By names that do not depend on how many models this process made before: Keras numbers layers and optimizers.
    """
    metrics = {id(variable) for metric in model.metrics for variable in metric.variables}
    state = [variable for variable in model.variables if id(variable) not in metrics]
    named = {f"model.{k:04d}.{variable.name}": variable for k, variable in enumerate(state)}
    return named | {f"optimizer.{k:04d}.{_base_name(v.name)}": v for k, v in enumerate(model.optimizer.variables)}


def _base_name(name: str) -> str:
    """Cuts off path and number: `sgd_3/conv_kernel_momentum_2` -> `conv_kernel_momentum`."""
    return re.sub(r"_\d+$", "", name.rsplit("/", 1)[-1])
