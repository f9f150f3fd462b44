"""Tally: counts the items that a finding is about, and keeps a few examples."""

import bisect
import dataclasses
from collections.abc import Callable
from typing import Generic, TypeVar

EXAMPLES = 5
"""The most examples that a finding shows."""

Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class Finding:
    """An observation about a number of rows, videos or labels."""

    what: str
    count: int
    examples: tuple[str, ...]
    is_refused: bool = False
    """Whether `flow` refuses such rows."""


class Tally(Generic[Item]):
    """Counts items of one kind, and keeps the first `EXAMPLES` of them.

    Args:
      what: the kind, as a text for people.
      describe: makes a text of an example.
      concerns: whether an item is of this kind; None if all are.
      order: examples are those with the lowest values, and of equal values those that were added first; None for the
        order in which items are added.
      is_refused: whether `flow` refuses such rows.
    """

    def __init__(
        self,
        what: str,
        describe: Callable[[Item], str],
        concerns: Callable[[Item], bool] | None = None,
        order: Callable[[Item], float] | None = None,
        is_refused: bool = False,
    ) -> None:
        self._what, self._describe, self._concerns, self._is_refused = what, describe, concerns, is_refused
        self._order = order or (lambda _: 0.0)
        self._count = 0
        self._examples: list[tuple[float, Item]] = []

    def add(self, item: Item) -> None:
        """Counts an item if it is of this kind."""
        if self._concerns is not None and not self._concerns(item):
            return
        self._count += 1
        value = self._order(item)
        if len(self._examples) < EXAMPLES or value < self._examples[-1][0]:
            # To the right of equal values, so that the item that was added first comes first.
            bisect.insort_right(self._examples, (value, item), key=lambda example: example[0])
            del self._examples[EXAMPLES:]

    def finding(self) -> Finding:
        """The result so far."""
        examples = tuple(self._describe(item) for _, item in self._examples)
        return Finding(self._what, self._count, examples, self._is_refused)
