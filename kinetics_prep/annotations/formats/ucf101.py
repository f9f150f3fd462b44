"""The official lists of UCF-101, `trainlist01.txt` to `testlist03.txt`.

    ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1

The class is the folder's name. The number, which test lists do not have, is not used: class ids are places among the
sorted labels, from 0. A clip is a whole video.
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
    """Whether the first lines look like it."""
    return lines.are_like(path, _LINE)


def read(path: Path, default_split: str | None = None) -> Iterator[Row]:
    """A row for each line. The split is what the file's name begins with, if that is train or test.

    Raises:
      BadAnnotations: if neither the name nor `default_split` says which split it is; if there is no line.
    """
    split = next((name for name in ("train", "test") if path.name.lower().startswith(name)), default_split)
    if split is None:
        raise BadAnnotations(f"{path}: its name does not say which split it is; say so with --split")

    def annotation(text: str) -> Annotation:
        match = _LINE.fullmatch(text)
        if not match:
            raise MalformedRow(
                f"line is {text!r:.200}, expected one like ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1"
            )
        return Annotation(match["id"], 0.0, None, split, match["label"])

    return lines.rows(path, split, annotation)
