"""Findings about rows: unreadable rows, duplicates, and unusual times."""

from kinetics_prep.annotations.check.tally import Tally
from kinetics_prep.annotations.rows import ReadableRow, UnreadableRow

USUAL_SECONDS = 10.0
"""The length of a clip of Kinetics."""

LATE_SECONDS = 3600.0
"""Later starts are rare, and more often a mistake in the unit."""


def describe_clip(row: ReadableRow) -> str:
    """A row as `file:line: clip id`."""
    return f"{row.file}:{row.line}: {row.annotation.clip_id}"


def unreadable_tally() -> Tally[UnreadableRow]:
    """Counts unreadable rows."""
    return Tally("unreadable", lambda row: str(row.error), is_refused=True)


def duplicates_tally() -> Tally[ReadableRow]:
    """Counts duplicates."""
    return Tally("duplicates: the same video and times", describe_clip, is_refused=True)


def time_tallies() -> list[Tally[ReadableRow]]:
    """Tallies of rows with unusual times. The times of whole videos are not known, and pass as usual."""
    usual, late = f"{USUAL_SECONDS:g} s", f"starts after {LATE_SECONDS:g} s"
    return [
        Tally(f"shorter than {usual}", describe_clip, lambda row: _duration(row) < USUAL_SECONDS, _duration),
        Tally(f"longer than {usual}", describe_clip, lambda row: _duration(row) > USUAL_SECONDS, _longest_first),
        Tally(late, describe_clip, lambda row: _start(row) > LATE_SECONDS, lambda row: -_start(row)),
        Tally("times that are not whole seconds", describe_clip, _has_fractions),
    ]


def _duration(row: ReadableRow) -> float:
    """Seconds."""
    start_us, end_us = row.annotation.start_us, row.annotation.end_us
    return USUAL_SECONDS if end_us is None else (end_us - start_us) / 1e6


def _longest_first(row: ReadableRow) -> float:
    return -_duration(row)


def _start(row: ReadableRow) -> float:
    """Seconds."""
    return 0.0 if row.annotation.end_us is None else row.annotation.start_seconds


def _has_fractions(row: ReadableRow) -> bool:
    start_us, end_us = row.annotation.start_us, row.annotation.end_us
    return end_us is not None and bool(start_us % 1_000_000 or end_us % 1_000_000)
