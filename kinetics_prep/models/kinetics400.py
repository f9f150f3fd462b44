"""The 400 classes of Kinetics-400, in the order of their ids.

The order is that of the plain label strings, sorted. DeepMind's `label_map.txt` has the same order, and so have its
weights. The labels come from the Kinetics annotations (Kay et al., "The Kinetics Human Action Video Dataset", 2017),
which Google LLC publishes under the Creative Commons Attribution 4.0 International licence.
"""

import functools
from importlib import resources

from kinetics_prep.errors import BadOption

CLASSES = 400

_FILE = resources.files("kinetics_prep.models").joinpath("kinetics400_labels.txt")


@functools.cache
def labels() -> tuple[str, ...]:
    """The labels; the place of a label is its class id. The file is read once, at the first call.

    Raises:
      BadOption: if the file of this installation does not hold 400 different labels, sorted.
    """
    return parse(_FILE.read_text("utf-8"))


def parse(text: str) -> tuple[str, ...]:
    """The labels of a file with one label a line.

    Raises:
      BadOption: if there are not 400 of them, all different and sorted. In another order each label would name the
        class of another.
    """
    lines = tuple(text.splitlines())
    if len(lines) != CLASSES or list(lines) != sorted(set(lines)):
        raise BadOption(f"kinetics400_labels.txt holds {len(lines)} lines, expected {CLASSES} different labels, sorted")
    return lines
