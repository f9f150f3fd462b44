"""The official splits of HMDB-51, a file a class and split: `brush_hair_test_split1.txt` with lines `name.avi 1`.

1 is train, 2 is test, 0 is neither in this split. The class is what the file's name begins with; a clip is a whole
video. All 51 files of a split are given together: `--annotations splits/*_test_split1.txt`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.formats import lines
from kinetics_prep.annotations.rows import Row
from kinetics_prep.errors import BadAnnotations, MalformedRow

_NAME = re.compile(r"(?P<label>.+)_test_split[1-3]\.txt")
_LINE = re.compile(r"(?P<id>\S+)\.avi\s+(?P<split>[0-2])")
_SPLITS = {"0": None, "1": "train", "2": "test"}


def recognises(path: Path) -> bool:
    """Whether name and first lines look like it."""
    return _NAME.fullmatch(path.name) is not None and lines.are_like(path, _LINE)


def read(path: Path, default_split: str | None = None) -> Iterator[Row]:
    """A row for each line that belongs to train or test.

    Raises:
      BadAnnotations: if the file's name does not say the class; if there is no such line.
    """
    name = _NAME.fullmatch(path.name)
    if not name:
        raise BadAnnotations(f"{path}: expected a name like brush_hair_test_split1.txt, which says the class")

    def annotation(text: str) -> Annotation | None:
        match = _LINE.fullmatch(text)
        if not match:
            raise MalformedRow(f"line is {text!r:.200}, expected one like name.avi 1")
        split = _SPLITS[match["split"]]
        return split and Annotation(match["id"], 0.0, None, split, name["label"])

    return lines.rows(path, default_split, annotation)
