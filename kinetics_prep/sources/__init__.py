"""Places a video can come from. A source is one file here and one row in `SOURCES`.

Each is a class with

* `accepts(text) -> bool`: whether what stands after `--videos` means this kind of source;
* `open(text, scratch) -> source`: checks it;
* `fetch(row) -> context manager of Fetched`: the video of one plan row, there until the context ends.
"""

from pathlib import Path

from kinetics_prep.errors import BadOption
from kinetics_prep.sources.fetched import Fetched
from kinetics_prep.sources.folder import Folder
from kinetics_prep.sources.http import HttpTemplate

SOURCES = {
    "http": HttpTemplate,
    "folder": Folder,
}

__all__ = ["SOURCES", "Fetched", "open_source"]


def open_source(text: str, scratch: Path):
    """The source that `text`, a folder or a URL template, means. Downloads go to `scratch`.

    Raises:
      BadOption: if it is none.
    """
    for kind in SOURCES.values():
        if kind.accepts(text):
            return kind.open(text, scratch)
    raise BadOption(f"--videos {text!r}: expected a folder or an http(s) URL template")
