"""The official lists of UCF-101, `trainlist01.txt` to `testlist03.txt`.

    ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1

The folder's name is the class. The number, which test lists do not have, is not used: a class id is the place of the
label among the sorted labels, from 0. A clip is a whole video.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.formats import lines
from kinetics_prep.annotations.rows import Row
from kinetics_prep.errors import BadAnnotations, MalformedRow

_LINE = re.compile(r"(?P<label>\w+)/(?P<id>v_[^/\s]+)\.(?:avi|mp4)(?:\s+\d{1,3})?")


def recognises(path: Path) -> bool:
    """Whether the first lines of a file look like this format."""
    return lines.first_lines_match(path, _LINE)


def read(path: Path, default_split: str | None = None) -> Iterator[Row]:
    """Yields a row for each line.

    Args:
      default_split: the split if the file's name does not begin with train or test.

    Raises:
      BadAnnotations: if neither the name nor `default_split` gives the split, or if there is no line.
    """
    split = next((name for name in ("train", "test") if path.name.lower().startswith(name)), default_split)
    if split is None:
        raise BadAnnotations(f"{path}: its name does not say which split it is; say so with --split")

    def parse(text: str) -> Annotation:
        match = _LINE.fullmatch(text)
        if not match:
            raise MalformedRow(
                f"line is {text!r:.200}, expected one like ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1"
            )
        return Annotation(match["id"], 0.0, None, split, match["label"])

    return lines.rows(path, split, parse)
