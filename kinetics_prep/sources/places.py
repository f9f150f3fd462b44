"""Sources: searches places in order for the video of a row, and at each place its files, the best match first."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.errors import PASSING, ClipError, NotFound
from kinetics_prep.sources.cache import Cache
from kinetics_prep.sources.fetched import Fetched, Refused
from kinetics_prep.sources.remote import Remote
from kinetics_prep.sources.source import Candidate, LocalSource

Place = LocalSource | Remote

MOST_CANDIDATES = 32
"""Files of a place that are tried for a row. Without a limit, an archive of a million members of one name would be
copied and decoded for days."""

_MOST_NOTES, _LONGEST_NOTE = 3, 150

T = TypeVar("T")


class Sources:
    """Places in the order in which they are tried."""

    def __init__(self, places: Sequence[Place]):
        self.places = places
        self.cache = next((place for place in places if isinstance(place, Cache)), None)

    def first_usable(self, row: PlannedRow, use: Callable[[Fetched], T]) -> T:
        """The result of `use` for the first file of a row that `use` accepts.

        If `use` refuses a file, because it is damaged or too short, the next file of that place is tried, then the next
        place. The notes of the file say which were refused before.

        Args:
          use: takes the file, which exists only during the call; raises a `ClipError` to refuse it.

        Raises:
          ClipError: if no place has a usable file. Its message joins those of the places; its reason is the one that
            says most, see `_verdict`.
        """
        search = _Search(row, use, self.cache)
        for place in self.places:
            for result in search.results(place):
                return result
        # A video missing from the cache is no news, unless nothing else was searched.
        told = [
            error for place, error in search.refusals if not isinstance(place, Cache) or error.reason != "not_found"
        ]
        raise _verdict(told or [error for _, error in search.refusals])


@dataclasses.dataclass
class _Search(Generic[T]):
    """The search for the video of one row."""

    row: PlannedRow
    use: Callable[[Fetched], T]
    cache: Cache | None
    """Where it is noted which files were refused."""
    refused: list[Refused] = dataclasses.field(default_factory=list)
    """Files that `use` refused so far."""
    notes: list[str] = dataclasses.field(default_factory=list)
    """Which files were refused so far, in words."""
    refusals: list[tuple[Place, ClipError]] = dataclasses.field(default_factory=list)
    """Of the places so far, one each."""

    def results(self, place: Place) -> Iterator[T]:
        """Yields the result for the first file of a place that is of use; else adds the place's refusal."""
        candidates, errors = iter(self._candidates(place)), list[ClipError]()
        for _ in range(MOST_CANDIDATES):
            try:
                candidate = next(candidates, None)
                if candidate is None:
                    break
                yield self._result(candidate)
                return
            except ClipError as error:
                errors.append(error)
        if errors:
            self.refusals.append((place, _of_place(errors, has_more=next(candidates, None) is not None)))

    def _candidates(self, place: Place) -> Iterator[Candidate]:
        return place.candidates(self.row, self.refused) if isinstance(place, Remote) else place.candidates(self.row)

    def _result(self, candidate: Candidate) -> T:
        fetched: Fetched | None = None
        try:
            with candidate as fetched:
                result = self.use(dataclasses.replace(fetched, notes=(*fetched.notes, *_shortened(self.notes))))
        except ClipError as error:
            self._note(fetched, error)
            raise
        return result

    def _note(self, fetched: Fetched | None, error: ClipError) -> None:
        if fetched is None:  # it could not even be had; the message says where it is
            self.notes.append(f"a file was refused, {error.reason}: {str(error)[:_LONGEST_NOTE]}")
        else:
            self.notes.append(f"{fetched.origin} was refused: {error.reason}")
            self.refused.append(Refused(fetched, error))
            if self.cache:
                self.cache.note_refused(self.row, fetched, error)


def _shortened(notes: Sequence[str]) -> list[str]:
    more = len(notes) - _MOST_NOTES
    return [*notes[:_MOST_NOTES], *([f"{more} more {_files(more)} refused"] if more > 0 else [])]


def _of_place(errors: Sequence[ClipError], has_more: bool) -> ClipError:
    """The refusals of the files of a place as one: that of the best file, with the number of the others."""
    best, others = errors[0], errors[1:]
    if not others:
        return best
    reasons = ", ".join(dict.fromkeys(error.reason for error in others))
    message = f"{best} ({len(others)} more {_files(len(others))} refused there: {reasons}"
    message += "; further files were not tried)" if has_more else ")"
    return type(best)(message, attempts=sum(error.attempts for error in errors))


def _files(count: int) -> str:
    return "file was" if count == 1 else "files were"


def _verdict(refusals: Sequence[ClipError]) -> ClipError:
    """The refusals of all places as one: failures that may pass come first, `NotFound` last."""

    def rank(error: ClipError) -> int:
        return 0 if error.reason in PASSING else 2 if isinstance(error, NotFound) else 1

    ranked = sorted(refusals, key=rank)  # stable: equals keep the order of the places
    return type(ranked[0])("; ".join(map(str, ranked)), attempts=sum(error.attempts for error in refusals))
