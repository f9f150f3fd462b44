"""Entry: which file of the cache holds a video, why it is there, and what was found wrong with it.

The file in `entries/` for a video holds its first entry, and under "others" those that are tried after it. Entries of
earlier versions lack the fields from `place` on; fields of later versions are passed over.
"""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kinetics_prep.errors import BY_REASON, ClipError
from kinetics_prep.sources.fetched import Fetched

_LAST_SECOND = 250_000_000_000
"""Since 1970; later there are five digits in a year."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """Why a file is no use for a clip."""

    reason: str
    message: str
    seconds_since_1970: float

    def __post_init__(self) -> None:
        _expect(_is_text(self.reason) and _is_text(self.message) and _is_time(self.seconds_since_1970))

    def error(self, attempts: int) -> ClipError | None:
        """The same as an error; None if only a later version knows its reason."""
        kind = BY_REASON.get(self.reason)
        return kind and kind(f"{self.message} (on {day(self.seconds_since_1970)})", attempts)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What became of the last request for the video, if it brought no other file."""

    outcome: str
    seconds_since_1970: float

    def __post_init__(self) -> None:
        _expect(_is_text(self.outcome) and _is_time(self.seconds_since_1970))

    def __str__(self) -> str:
        return f"requested again on {day(self.seconds_since_1970)}: {self.outcome}"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A file that holds a video, or a piece of a video, and where it came from.

    Raises:
      ValueError: if a field has a value that no version writes.
    """

    key: str
    name: str
    origin: str
    source: str
    begins_seconds: float | None
    attempts: int
    sha256: str
    bytes: int
    notes: tuple[str, ...] = ()
    place: str | None = None
    """The text after --videos that it came from, without passwords."""
    seconds_since_1970: float | None = None
    """When it was downloaded."""
    asked_for: str | None = None
    """Why another file of the video had been refused, which is why this one was requested; None if it was the first."""
    run: str | None = None
    """The run that requested it last."""
    answer: Answer | None = None
    """What became of that request, if it was not the first."""
    found: Mapping[str, Finding] = dataclasses.field(default_factory=dict)
    """What is wrong with the file, by the id of the clip that was wanted."""

    def __post_init__(self) -> None:
        # The sha256 becomes part of a path, most others become columns of a ledger.
        texts = (self.key, self.name, self.origin, self.source, self.sha256, *self.notes)
        optional_texts = (self.place, self.asked_for, self.run)
        _expect(all(map(_is_text, texts)) and all(text is None or _is_text(text) for text in optional_texts))
        _expect(len(self.sha256) == 64 and set(self.sha256) <= set("0123456789abcdef"))
        _expect(_is_count(self.attempts) and _is_count(self.bytes))
        _expect(self.begins_seconds is None or _is_time(self.begins_seconds))
        _expect(self.seconds_since_1970 is None or _is_time(self.seconds_since_1970))

    def fetched(self, path: Path, is_new: bool) -> Fetched:
        """The file of this entry, which is at `path`."""
        return Fetched(
            path=path,
            name=self.name,
            origin=self.origin,
            begins_seconds=self.begins_seconds,
            attempts=self.attempts,
            sha256=self.sha256,
            source=self.source,
            notes=self.notes,
            is_new=is_new,
            key=self.key,
        )


def read(path: Path, key: str) -> list[Entry]:
    """The entries for a key in a file, the best first; those that are damaged are left out."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    if not isinstance(content, dict):
        return []
    others = content.get("others")
    parsed = map(_parse, [content, *(others if isinstance(others, list) else [])])
    return [entry for entry in parsed if entry is not None and entry.key == key]


def as_json(entries: Sequence[Entry]) -> dict[str, Any]:
    """What is written for the entries of a key."""
    first, *others = map(dataclasses.asdict, entries)
    return first | {"others": others}


def day(seconds_since_1970: float) -> str:
    """The day of a time, in UTC, such as 2025-01-31."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds_since_1970))


def without_half_characters(text: str) -> str:
    """A text that can be written as UTF-8: "?" for each half of a surrogate pair."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _parse(content: Any) -> Entry | None:
    try:
        known = _known(Entry, content)
        notes = content.get("notes", [])
        _expect(isinstance(notes, list))
        known["notes"] = tuple(notes)
        known["answer"] = _parse_part(Answer, content.get("answer"))
        known["found"] = _parse_found(content.get("found"))
        return Entry(**known)
    except (TypeError, ValueError):
        return None


def _parse_found(content: Any) -> dict[str, Finding]:
    found = content.items() if isinstance(content, dict) else ()
    findings = ((clip_id, _parse_part(Finding, finding)) for clip_id, finding in found if _is_text(clip_id))
    return {clip_id: finding for clip_id, finding in findings if finding is not None}


def _parse_part(kind: type[Any], content: Any) -> Any:
    """An `Answer` or a `Finding`; None if it is damaged, which does not make the whole entry useless."""
    try:
        return kind(**_known(kind, content))
    except (TypeError, ValueError):
        return None


def _known(kind: type[Any], content: Any) -> dict[str, Any]:
    """The fields of a dataclass that this version knows."""
    if not isinstance(content, dict):
        raise TypeError(f"expected an object, found {type(content).__name__}")
    return {field.name: content[field.name] for field in dataclasses.fields(kind) if field.name in content}


def _expect(is_right: bool) -> None:
    if not is_right:
        raise ValueError("not an entry of a cache")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value == without_half_characters(value)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and type(value) is not bool and 0 <= value < _LAST_SECOND
