"""Videos in a local folder, at any depth. `naming` says which file is which video."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.errors import BadOption, NotFound
from kinetics_prep.sources import naming
from kinetics_prep.sources.fetched import Fetched
from kinetics_prep.sources.fetching import Fetching
from kinetics_prep.sources.source import Candidate


class Folder:
    """A folder and everything below it, listed when opened. A `LocalSource`."""

    is_remote = False

    @staticmethod
    def accepts(text: str) -> bool:
        """Whether a value of --videos may be a folder: it is not a URL."""
        return "://" not in text

    @classmethod
    def open(cls, text: str, fetching: Fetching, scratch: Path) -> "Folder":
        """Lists the folder.

        Raises:
          BadOption: if it is not a folder, cannot be listed, or there is no video below it.
        """
        if not os.path.isdir(text):
            raise BadOption(f"--videos {text!r} is not a folder")
        folder = cls(Path(text).absolute())
        if not folder._paths:
            raise BadOption(f"--videos {text!r}: there is no video below this folder")
        return folder

    def __init__(self, root: Path):
        self.root = root
        self._paths: dict[str, list[str]] = {}
        """Paths below the root by their lookup words."""
        for path in filter(naming.may_be_video, naming.walk(root)):
            for word in naming.lookup_words(path):
                self._paths.setdefault(word, []).append(path)

    def has(self, row: PlannedRow) -> bool:
        """Whether there is a file for a row."""
        return bool(self._matches(row))

    def candidates(self, row: PlannedRow) -> Iterator[Candidate]:
        """Yields the files that may hold the clip of a row, the best match first.

        Raises:
          NotFound: if there is none.
        """
        matches = self._matches(row)
        if not matches:
            raise NotFound(f"no file {row.media_id}.* or {row.media_id}_<start>_<end>.* below --videos")
        for match in matches:
            name = os.fsencode(match.path).decode("utf-8", "replace")
            path = self.root / match.path
            fetched = Fetched(path, os.path.basename(name), name, match.begins_seconds, source="folder")
            yield contextlib.nullcontext(fetched)

    def _matches(self, row: PlannedRow) -> list[naming.Match]:
        """Files that hold the row's clip, the best match first. Files deleted since the listing are left out."""
        matches = (naming.match(path, row) for path in self._paths.get(row.media_id, ()))
        return sorted(match for match in matches if match and (self.root / match.path).is_file())
