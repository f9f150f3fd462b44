"""Annotation formats. A format is one file here and one row in `ANNOTATION_FORMATS`; the tests find it by its row.

Each is a module with

* `recognises(path) -> bool`: whether the content looks like it;
* `read(path, default_split) -> Iterator[Row]`: one `Row` for every annotation in the file, readable or not;
* if labels may be numbers, `with_names(path, rows, labels) -> Iterator[Row]`: with what the label map calls them.
"""

from pathlib import Path

from kinetics_prep.annotations.formats import activitynet_json, hmdb51, kinetics_csv, kinetics_json, path_list, ucf101
from kinetics_prep.errors import BadAnnotations

ANNOTATION_FORMATS = {
    "activitynet-json": activitynet_json,
    "kinetics-json": kinetics_json,
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "path-list": path_list,
    "kinetics-csv": kinetics_csv,
}
"""In the order in which a file is tried."""

_SHOWN_BYTES = 100


def detect(path: Path) -> str:
    """The name of a file's format, by its content.

    Raises:
      BadAnnotations: if it has none of them; the message shows how the file begins.
      OSError: if it cannot be read.
    """
    for name, module in ANNOTATION_FORMATS.items():
        if module.recognises(path):
            return name
    with open(path, "rb") as file:
        begins = file.read(_SHOWN_BYTES)
    raise BadAnnotations(f"{path} is none of {', '.join(ANNOTATION_FORMATS)}; it begins {begins!r}")
