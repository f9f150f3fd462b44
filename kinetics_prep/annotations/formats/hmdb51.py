"""The official splits of HMDB-51, one file per class and split: `brush_hair_test_split1.txt` has lines `name.avi 1`.

1 is train, 2 is test, 0 is neither in this split. The file's name begins with the class. A clip is a whole video. The
51 files of a split are given together: `--annotations splits/*_test_split1.txt`.
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
    """Whether the name and the first lines of a file look like this format."""
    return _NAME.fullmatch(path.name) is not None and lines.first_lines_match(path, _LINE)


def read(path: Path, default_split: str | None = None) -> Iterator[Row]:
    """Yields a row for each line that belongs to train or test.

    Args:
      default_split: the split of unreadable rows.

    Raises:
      BadAnnotations: if the file's name does not contain the class, or if there is no such line.
    """
    name = _NAME.fullmatch(path.name)
    if not name:
        raise BadAnnotations(f"{path}: expected a name like brush_hair_test_split1.txt, which says the class")
    label = name["label"]

    def parse(text: str) -> Annotation | None:
        match = _LINE.fullmatch(text)
        if not match:
            raise MalformedRow(f"line is {text!r:.200}, expected one like name.avi 1")
        split = _SPLITS[match["split"]]
        return Annotation(match["id"], 0.0, None, split, label) if split else None

    return lines.rows(path, default_split, parse)
