"""Refusals: why a source did not give a video, on disk, so that later runs do not request it again."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from kinetics_prep.errors import BY_REASON, Again, ClipError
from kinetics_prep.sources.fetching import Fetching
from kinetics_prep.storage.files import write_json

_REMEMBERED = (Again.NEVER, Again.OTHER_SOURCE, Again.WITH_COOKIES, Again.ELSEWHERE)


class Refusals:
    """A folder of refusals. Each file holds those of all sources for a video, or for a piece of a video.

    Args:
      scratch: a folder on the same disk, for files that are not complete yet.
    """

    def __init__(self, folder: Path, scratch: Path):
        self._folder, self._scratch = folder, scratch

    def note(self, key: str, source: str, error: ClipError, fetching: Fetching) -> None:
        """Adds the refusal of a source.

        Args:
          key: that of the video in the cache.
          source: the text after --videos, without passwords.
        """
        path = path_of_key(self._folder, key)
        refusals = _read(path) | {
            source: {
                "reason": error.reason,
                "message": str(error),
                "attempts": error.attempts,
                "with_cookies": fetching.cookies is not None,
                "through_proxy": fetching.proxy is not None,
                "seconds_since_1970": time.time(),
            }
        }
        write_json(path, refusals, self._scratch)

    def find(self, key: str, source: str, fetching: Fetching) -> ClipError | None:
        """The refusal of a source in an earlier run; None if there is none, or if a further request may help."""
        refusal = _read(path_of_key(self._folder, key)).get(source, {})
        try:
            kind = BY_REASON[refusal["reason"]]
            if not _is_final(kind, refusal, fetching):
                return None
            day = time.strftime("%Y-%m-%d", time.gmtime(refusal["seconds_since_1970"]))
            return kind(f"{refusal['message']} (on {day})", attempts=0)
        except (KeyError, TypeError, ValueError, OverflowError, OSError):  # OSError: a date that no calendar has
            return None  # a damaged refusal counts as none

    def forget(self, key: str) -> None:
        """Deletes the refusals of all sources for a video."""
        path_of_key(self._folder, key).unlink(missing_ok=True)


def _is_final(kind: type[ClipError], refusal: dict[str, Any], fetching: Fetching) -> bool:
    """Whether a further request is useless: the reason does not pass, and there are no new cookies and no new proxy."""
    if kind.again not in _REMEMBERED or kind.reason in fetching.ask_again:
        return False
    has_new_cookies = fetching.cookies and not refusal["with_cookies"]
    has_new_proxy = fetching.proxy and not refusal["through_proxy"]
    return not (
        (kind.again is Again.WITH_COOKIES and has_new_cookies) or (kind.again is Again.ELSEWHERE and has_new_proxy)
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def path_of_key(folder: Path, key: str) -> Path:
    """The path of the JSON file for a key, in one of 256 folders below `folder`."""
    name = hashlib.sha256(key.encode()).hexdigest()
    return folder / name[:2] / f"{name}.json"
