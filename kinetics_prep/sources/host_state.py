"""HostState: when a host may get the next request, and until when it is paused.

It is in a file, so that all threads, all processes with the same folder, and the next run see the same state.
"""

import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from kinetics_prep.errors import BY_REASON, RateLimited
from kinetics_prep.storage.locks import locked_file

_LATEST_SECONDS = 1e11
"""The year 5138. Numbers beyond it, and NaN, mean that a file is damaged; the functions of `time` refuse them."""


@dataclasses.dataclass
class HostState:
    """The state of a host; times are in seconds since 1970."""

    next_slot: float = 0.0
    """When the next request may be made."""
    paused_until: float = 0.0
    pauses_in_a_row: int = 0
    """Pauses since the host last answered."""
    failures_in_a_row: int = 0
    reason: str = RateLimited.reason
    """Of the last pause."""
    why: str = ""
    """The host's words before the last pause."""

    @classmethod
    def parse(cls, text: str) -> "HostState":
        """The state in the text of a file; a new state if the file is empty or damaged."""
        try:
            state = cls(**json.loads(text))
            numbers = (state.next_slot, state.paused_until, state.pauses_in_a_row, state.failures_in_a_row)
            if all(-_LATEST_SECONDS < number < _LATEST_SECONDS for number in numbers) and state.reason in BY_REASON:
                return state
        except (ValueError, TypeError):
            pass
        return cls()


def host_file(folder: Path, host: str) -> Path:
    """The path of a host's file."""
    tail = hashlib.sha256(host.encode()).hexdigest()[:12]
    return folder / f"{re.sub('[^A-Za-z0-9.-]', '_', host)[:80]}-{tail}.json"


@contextlib.contextmanager
def locked_state(path: Path) -> Iterator[HostState]:
    """The state in a file, for this thread alone until the context ends; changes of it are written to the file."""
    with locked_file(path) as file:
        text = file.read()
        state = HostState.parse(text)
        yield state
        changed = json.dumps(dataclasses.asdict(state))
        if changed != text:
            file.seek(0)
            file.truncate()
            file.write(changed)
