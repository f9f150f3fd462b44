"""Sources: searches places in order for the video of a row."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.errors import PASSING, ClipError, NotFound
from kinetics_prep.sources.cache import Cache
from kinetics_prep.sources.fetched import Fetched
from kinetics_prep.sources.remote import Remote
from kinetics_prep.sources.source import LocalSource

Place = LocalSource | Remote

T = TypeVar("T")


class Sources:
    """Places in the order in which they are tried."""

    def __init__(self, places: Sequence[Place]):
        self.places = places

    def first_usable(self, row: PlannedRow, use: Callable[[Fetched], T]) -> T:
        """The result of `use` for the first file of a row that `use` accepts.

        If `use` refuses a file, because it is damaged or too short, the next place is tried.

        Args:
          use: takes the file, which exists only during the call; raises a `ClipError` to refuse it.

        Raises:
          ClipError: if no place has a usable file. Its message joins those of the places; its reason is the one that
            says most, see `_verdict`.
        """
        refusals = []
        for place in self.places:
            try:
                with place.fetch(row) as fetched:
                    return use(fetched)
            except ClipError as error:
                # A video missing from the cache is no news, unless nothing else was searched.
                if not isinstance(place, Cache) or len(self.places) == 1:
                    refusals.append(error)
        raise _verdict(refusals)


def _verdict(refusals: Sequence[ClipError]) -> ClipError:
    """The refusals of all places as one: failures that may pass come first, `NotFound` last."""

    def rank(error: ClipError) -> int:
        return 0 if error.reason in PASSING else 2 if isinstance(error, NotFound) else 1

    ranked = sorted(refusals, key=rank)  # stable: equals keep the order of the places
    return type(ranked[0])("; ".join(map(str, ranked)), attempts=sum(error.attempts for error in refusals))
