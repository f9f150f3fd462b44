"""What a model takes a video for, as lines of text."""

from kinetics_prep.report.inspect import printable


def in_lines(classes):
    """A line a class, its probability first so that labels of any script stand in a column.

    Args:
      classes: (label, probability 0 to 1) of each, in the order in which they are to be told.
    """
    return "\n".join(f"{probability:>7.1%}  {printable(label)}" for label, probability in classes)
