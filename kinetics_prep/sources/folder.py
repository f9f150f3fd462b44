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


class Folder:
    """A folder and everything below it, listed when opened."""

    is_remote = False

    @staticmethod
    def accepts(text: str) -> bool:
        return "://" not in text

    @classmethod
    def open(cls, text: str, fetching: Fetching, scratch: Path) -> "Folder":
        if not os.path.isdir(text):
            raise BadOption(f"--videos {text!r} is not a folder")
        folder = cls(Path(text).absolute())
        if not folder._files:
            raise BadOption(f"--videos {text!r}: there is no video below this folder")
        return folder

    def __init__(self, root: Path):
        self.root = root
        self._files: dict[str, list[str]] = {}
        """Paths below the root by stem, and also by id for files named with times."""
        for path in filter(naming.may_be_video, naming.walk(root)):
            for word in naming.words(path):
                self._files.setdefault(word, []).append(path)

    def has(self, row: PlannedRow) -> bool:
        """Whether there is a file for a row."""
        return bool(self._matches(row))

    @contextlib.contextmanager
    def fetch(self, row: PlannedRow) -> Iterator[Fetched]:
        """The file of a row; the best one, if several would do.

        Raises:
          NotFound: if there is none.
        """
        matches = self._matches(row)
        if not matches:
            raise NotFound(f"no file {row.media_id}.* or {row.media_id}_<start>_<end>.* below --videos")
        _, _, path, begins_seconds = matches[0]
        name = os.fsencode(path).decode("utf-8", "replace")
        yield Fetched(self.root / path, os.path.basename(name), name, begins_seconds, source="folder")

    def _matches(self, row: PlannedRow) -> list[tuple[int, bool, str, float | None]]:
        """The files that would do, the best one first."""
        candidates = (naming.candidate(path, row) for path in self._files.get(row.media_id, ()))
        return sorted(candidate for candidate in candidates if candidate and (self.root / candidate[2]).is_file())
