"""What a model takes a video for, as lines of text."""

from collections.abc import Iterable

from kinetics_prep.report.text import printable


def in_lines(classes: Iterable[tuple[str, float]]) -> str:
    """Returns a line per class, with its probability first, because labels of some scripts have no fixed width.

    Args:
      classes: (label, probability 0 to 1) of each, in the order of the lines.
    """
    return "\n".join(f"{probability:>7.1%}  {printable(label)}" for label, probability in classes)
