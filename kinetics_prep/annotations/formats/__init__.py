"""Annotation formats. A format is one file here and one row in `ANNOTATION_FORMATS`; the tests find it by its row."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from kinetics_prep.annotations.formats import activitynet_json, hmdb51, kinetics_csv, kinetics_json, path_list, ucf101
from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.rows import Row
from kinetics_prep.errors import BadAnnotations


class AnnotationFormat(Protocol):
    """A module that reads annotation files of one format."""

    def recognises(self, path: Path) -> bool:
        """Whether the content of a file looks like this format.

        Raises:
          BadAnnotations: if the file begins like this format and is damaged.
          OSError: if the file cannot be read.
        """

    def read(self, path: Path, default_split: str | None = None) -> Iterator[Row]:
        """Yields a row for every annotation in a file, readable or not.

        Args:
          default_split: the split of rows that do not name one.

        Raises:
          BadAnnotations: if the file as a whole is not of this format, or holds no annotation.
          OSError: if the file cannot be read.
        """


@runtime_checkable
class NumberedLabels(Protocol):
    """A module that reads a format whose labels may be class ids."""

    def with_names(self, path: Path, rows: Iterable[Row], labels: LabelMap | None) -> Iterator[Row]:
        """Yields the rows of a file with labels in place of class ids.

        Raises:
          BadAnnotations: if there are class ids and no label map.
        """


ANNOTATION_FORMATS: dict[str, AnnotationFormat] = {
    "activitynet-json": activitynet_json,
    "kinetics-json": kinetics_json,
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "path-list": path_list,
    "kinetics-csv": kinetics_csv,
}
"""In the order in which `detect` tries them."""

_SHOWN_BYTES = 100


def detect(path: Path) -> str:
    """Returns the name of a file's format, judged by its content.

    Raises:
      BadAnnotations: if no format recognises the file; the message shows how the file begins.
      OSError: if the file cannot be read.
    """
    for name, module in ANNOTATION_FORMATS.items():
        if module.recognises(path):
            return name
    with open(path, "rb") as file:
        beginning = file.read(_SHOWN_BYTES)
    raise BadAnnotations(f"{path} is none of {', '.join(ANNOTATION_FORMATS)}; it begins {beginning!r}")
