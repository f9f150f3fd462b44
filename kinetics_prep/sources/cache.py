"""What was downloaded, and what was refused, kept for the next run.

    CACHE/
      videos/3f/3f9a…      the files, each under the sha256 of its bytes
      entries/a0/….json    which file holds a video, or a piece of one, and where it came from
      refusals/a0/….json   what a source said of a video that it did not give
      partial/  locks/     downloads that are under way
      hosts/               how often each host was asked, and until when it is left alone
      archives/            what stands where in tar archives
      ledger/              what became of each annotation row, by `kinetics-prep download`

A video is known by its id, wherever it came from. So data sets may share a cache if their ids do, as those of YouTube.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.errors import BY_REASON, Again, BadOption, ClipError, NotFound
from kinetics_prep.sources.fetched import Fetched
from kinetics_prep.sources.fetching import Fetching
from kinetics_prep.storage.files import locked_file, sha256_of, write_json

_REMEMBERED = (Again.NEVER, Again.OTHER_SOURCE, Again.WITH_COOKIES, Again.ELSEWHERE)
_LOCKS = 4096


@dataclasses.dataclass(frozen=True)
class Kept:
    """An entry: the file that holds a video or a piece of it."""

    key: str
    name: str
    origin: str
    source: str
    begins_seconds: float | None
    attempts: int
    sha256: str
    bytes: int
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        is_sha256 = len(self.sha256) == 64 and set(self.sha256) <= set("0123456789abcdef")
        if not is_sha256 or not isinstance(self.bytes, int) or not isinstance(self.name, str):
            raise ValueError("not an entry of a cache")

    def fetched(self, path: Path, is_new: bool) -> Fetched:
        """The file that it is about."""
        return Fetched(
            path=path,
            name=self.name,
            origin=self.origin,
            begins_seconds=self.begins_seconds,
            attempts=self.attempts,
            sha256=self.sha256,
            source=self.source,
            notes=tuple(map(str, self.notes)),
            is_new=is_new,
        )


class Cache:
    """A folder of downloads.

    Args:
      reads_bytes: whether a file is compared with the sha256 under which it stands whenever it is asked for, or only
        its size, which is enough for who does not use it.

    Raises:
      BadOption: if it cannot be made.
    """

    kind = name = "cache"
    is_remote = False

    def __init__(self, folder: Path, reads_bytes: bool = True):
        self.folder, self.reads_bytes = folder, reads_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadOption(f"--cache {folder} cannot be made: {error.strerror}") from None

    @staticmethod
    def key(row: PlannedRow, is_piece: bool) -> str:
        """What a file is known by: the clip itself, or the whole video."""
        if is_piece:
            annotation = Annotation(row.media_id, row.start_seconds, row.end_seconds, row.split)
            return f"clip {annotation.clip_id}"
        return f"video {row.media_id}"

    @contextlib.contextmanager
    def fetch(self, row: PlannedRow) -> Iterator[Fetched]:
        """The clip of a row, or else its whole video.

        Raises:
          NotFound: if neither is here.
        """
        found = self.find(row)
        if found is None:
            raise NotFound(f"{row.media_id} is not in --cache", attempts=0)
        yield found

    def find(self, row: PlannedRow) -> Fetched | None:
        """What is here for a row."""
        return self.find_key(self.key(row, is_piece=True)) or self.find_key(self.key(row, is_piece=False))

    def find_key(self, key: str) -> Fetched | None:
        """What is here under a key, if it is still what came."""
        path = self._path("entries", key)
        try:
            kept = Kept(**json.loads(path.read_text("utf-8")))
            video = self._video(kept.sha256)
            if kept.key == key and self._is_sound(kept, video):
                return kept.fetched(video, is_new=False)
        except (OSError, ValueError, TypeError):
            pass  # as if it had never come
        return None

    def _is_sound(self, kept: Kept, video: Path) -> bool:
        if video.stat().st_size != kept.bytes:
            return False
        return not self.reads_bytes or sha256_of(video) == kept.sha256

    def has(self, row: PlannedRow) -> bool:
        """Whether there is an entry for a row; its bytes are not looked at."""
        return any(self._path("entries", self.key(row, is_piece)).exists() for is_piece in (True, False))

    def keep(self, kept: Kept, path: Path) -> Fetched:
        """Takes a file in, under the sha256 of its bytes."""
        video = self._video(kept.sha256)
        video.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "rb") as file:
            os.fsync(file.fileno())  # the entry must not survive a power cut that the bytes do not
        os.replace(path, video)
        write_json(self._path("entries", kept.key), dataclasses.asdict(kept), self.folder / "partial")
        self._path("refusals", kept.key).unlink(missing_ok=True)
        return kept.fetched(video, is_new=True)

    def partial(self, name: str) -> Path:
        """Where a download may grow."""
        folder = self.folder / "partial"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    @contextlib.contextmanager
    def turn(self, key: str) -> Iterator[None]:
        """Keeps others from getting the same at the same time."""
        number = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) % _LOCKS
        with locked_file(self.folder / "locks" / f"{number:04d}"):
            yield

    # Refusals ------------------------------------------------------------------------------------

    def note_refusal(self, key: str, source: str, error: ClipError, fetching: Fetching) -> None:
        """Notes that a source did not give a video, and why."""
        path = self._path("refusals", key)
        refusals = self._refusals(path) | {
            source: {
                "reason": error.reason,
                "message": str(error),
                "attempts": error.attempts,
                "with_cookies": fetching.cookies is not None,
                "through_proxy": fetching.proxy is not None,
                "seconds_since_1970": time.time(),
            }
        }
        write_json(path, refusals, self.folder / "partial")

    def refusal(self, key: str, source: str, fetching: Fetching) -> ClipError | None:
        """What a source said of a video before, if there is no use in asking it again."""
        noted = self._refusals(self._path("refusals", key)).get(source)
        try:
            kind = BY_REASON[noted["reason"]]
            changed = (kind.again is Again.WITH_COOKIES and fetching.cookies and not noted["with_cookies"]) or (
                kind.again is Again.ELSEWHERE and fetching.proxy and not noted["through_proxy"]
            )
            if kind.again not in _REMEMBERED or kind.reason in fetching.ask_again or changed:
                return None
            when = time.strftime("%Y-%m-%d", time.gmtime(noted["seconds_since_1970"]))
            return kind(f"{noted['message']} (on {when})", attempts=0)
        except (KeyError, TypeError, ValueError, OverflowError):
            return None

    def _refusals(self, path: Path) -> dict:
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    # Places --------------------------------------------------------------------------------------

    def _path(self, folder: str, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / folder / name[:2] / f"{name}.json"

    def _video(self, sha256: str) -> Path:
        return self.folder / "videos" / sha256[:2] / sha256
