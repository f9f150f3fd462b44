"""Checkpoints: all that a run needs to go on as if it had never stopped.

    RUN/checkpoints/step-00012000.safetensors     weights, moving averages, momentum, the state of random generators

A checkpoint is whole or not there. The last two stay, so that one may be damaged.
"""

import json
import re
from pathlib import Path

import keras
import numpy as np
from safetensors import SafetensorError, numpy, safe_open

from kinetics_prep.errors import CorruptShard, Diverged
from kinetics_prep.storage.files import atomic

KEPT = 2

_NAME = re.compile(r"step-(\d{8})\.safetensors")


def write(folder: Path, step: int, model: keras.Model, digest: str) -> Path:
    """Writes the state of a compiled model after `step` steps, and takes away what is older than the last two.

    Raises:
      Diverged: if a number in it is not finite; nobody could go on from there.
    """
    path = folder / f"step-{step:08d}.safetensors"
    arrays = {name: np.array(variable.numpy(), order="C") for name, variable in _variables(model).items()}
    _expect_finite(arrays, step)
    # Its own `save_file` tells of a full disk in words alone.
    data = numpy.save(arrays, {"step": str(step), "digest": digest})
    with atomic(path, folder) as temporary:
        temporary.write_bytes(data)
    for old in found(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def _expect_finite(arrays: dict[str, np.ndarray], step: int) -> None:
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise Diverged(
                f"after step {step} {name} holds values that are no numbers. Try a lower learning rate in another "
                "--output; checkpoints that are there are of before"
            )


def found(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the oldest first."""
    return sorted(path for path in folder.glob("step-*.safetensors") if _NAME.fullmatch(path.name))


def step_of(path: Path) -> int:
    """After how many steps a checkpoint was written."""
    return int(_NAME.fullmatch(path.name)[1])


def restore(path: Path, model: keras.Model, digest: str) -> int:
    """Puts a compiled model, its optimizer built, into the state of a checkpoint.

    Returns:
      The steps that were done.

    Raises:
      CorruptShard: if the file does not read back, or holds another model's state; the model is as it was.
    """
    variables = _variables(model)
    try:
        with safe_open(path, "np") as file:
            facts = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptShard(f"{path} does not read as a checkpoint: {error}") from None
    if facts.get("digest") != digest:
        raise CorruptShard(f"{path} is of another run: digest {facts.get('digest')!r}, expected {digest!r}")
    if facts.get("step") != str(step_of(path)):
        raise CorruptShard(f"{path} is of step {facts.get('step')!r}: it was renamed")
    expected = {name: (tuple(variable.shape), str(variable.dtype)) for name, variable in variables.items()}
    there = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
    if differing := sorted(name for name in expected.keys() | there.keys() if expected.get(name) != there.get(name)):
        raise CorruptShard(f"{path} does not fit the model: {json.dumps(differing[:10])}")
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return step_of(path)


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    """All variables of a compiled model and its optimizer but those of its metrics, under names that do not depend on
    how many models were made before in this process."""
    metrics = {id(variable) for metric in model.metrics for variable in metric.variables}
    state = [variable for variable in model.variables if id(variable) not in metrics]
    named = {f"model.{k:04d}.{variable.name}": variable for k, variable in enumerate(state)}
    return named | {f"optimizer.{k:04d}.{_last(v.name)}": v for k, v in enumerate(model.optimizer.variables)}


def _last(name: str) -> str:
    return re.sub(r"_\d+$", "", name.rsplit("/", 1)[-1])
