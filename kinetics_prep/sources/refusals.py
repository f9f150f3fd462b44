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
      run: the run's id. What was refused in this run is not requested again in it.
    """

    def __init__(self, folder: Path, scratch: Path, run: str):
        self._folder, self._scratch, self._run = folder, scratch, run

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
                "run": self._run,
            }
        }
        write_json(path, refusals, self._scratch)

    def find(self, key: str, source: str, fetching: Fetching) -> ClipError | None:
        """The refusal of a source; None if there is none, or if a further request may help."""
        refusal = _read(path_of_key(self._folder, key)).get(source, {})
        try:
            kind = BY_REASON[refusal["reason"]]
            if not _is_final(kind, refusal, fetching, of_this_run=refusal.get("run") == self._run):
                return None
            day = time.strftime("%Y-%m-%d", time.gmtime(refusal["seconds_since_1970"]))
            message = f"{refusal['message']} (on {day})"
            message.encode()  # a forged one may be no text that a ledger can hold
            return kind(message, attempts=0)
        except (KeyError, TypeError, ValueError, OverflowError, OSError):  # OSError: a date that no calendar has
            return None  # a damaged refusal counts as none

    def forget(self, key: str, source: str | None) -> None:
        """Deletes the refusal of a source for a video; those of all sources if it is None."""
        path = path_of_key(self._folder, key)
        refusals = _read(path)
        others = {name: refusal for name, refusal in refusals.items() if name != source and source is not None}
        if others and others != refusals:
            write_json(path, others, self._scratch)
        elif not others:
            path.unlink(missing_ok=True)


def _is_final(kind: type[ClipError], refusal: dict[str, Any], fetching: Fetching, of_this_run: bool) -> bool:
    """Whether a further request is useless: the reason does not pass, and there are no new cookies and no new proxy.

    Args:
      of_this_run: whether the source was asked in this run.
    """
    if kind.again not in _REMEMBERED:
        return False
    if of_this_run:
        return True
    if kind.reason in fetching.ask_again:
        return False
    has_new_cookies = fetching.cookies and not refusal["with_cookies"]
    has_new_proxy = fetching.proxy and not refusal["through_proxy"]
    return not (
        (kind.again is Again.WITH_COOKIES and has_new_cookies) or (kind.again is Again.ELSEWHERE and has_new_proxy)
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def path_of_key(folder: Path, key: str) -> Path:
    """The path of the JSON file for a key, in one of 256 folders below `folder`."""
    name = hashlib.sha256(key.encode()).hexdigest()
    return folder / name[:2] / f"{name}.json"
