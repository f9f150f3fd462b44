"""The order in which clips are read: endless and shuffled for training, once through for evaluation.

Both orders are functions from a position to a clip, without state. Any process can compute any step, and a run that
was interrupted continues with exactly the batch that it would have read next.
"""

import dataclasses
import functools

import numpy as np

from kinetics_prep.errors import BadOption


@dataclasses.dataclass(frozen=True)
class _Shares:
    """A stream of positions whose batches are shared among processes."""

    clips: int
    """Number of clips in the split."""
    batch: int
    """Samples of a batch, over all processes."""

    def _check(self, process: int, processes: int) -> None:
        if self.clips < 1 or self.batch < 1:
            raise BadOption(f"{self.clips} clips in batches of {self.batch}: expected at least one of each")
        if not 0 <= process < processes:
            raise BadOption(f"process {process} of {processes}: expected 0 to {processes - 1}")


@dataclasses.dataclass(frozen=True)
class Order(_Shares):
    """An endless stream of positions; each position is a clip in an epoch.

    Every epoch holds each clip once. Batches follow each other without a gap, so a batch may hold clips of two epochs.
    """

    seed: int = 0
    shuffle: bool = True
    process: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        self._check(self.process, self.processes)
        if self.batch % self.processes:
            raise BadOption(f"a batch of {self.batch} cannot be shared among {self.processes} processes equally")
        if not 0 <= self.seed < 1 << 64:
            raise BadOption(f"seed is {self.seed}, expected 0 to 2^64 - 1")

    def positions(self, step: int) -> range:
        """This process's share of a batch."""
        share = self.batch // self.processes
        first = step * self.batch + self.process * share
        return range(first, first + share)

    def at(self, position: int) -> tuple[int, int]:
        """(epoch, number of the clip) at a position."""
        epoch, place = divmod(position, self.clips)
        return epoch, int(_permutation(self.clips, self.seed, epoch)[place]) if self.shuffle else place

    def batch_at(self, step: int) -> list[tuple[int, int]]:
        """(epoch, number of the clip) of each sample of this process's share of a batch."""
        return [self.at(position) for position in self.positions(step)]

    def stand_ins(self, position: int) -> range:
        """Positions of clips that may replace a clip that cannot be read; the first readable one does."""
        return range(position + 1, position + self.clips)


@functools.lru_cache(maxsize=4)
def _permutation(clips: int, seed: int, epoch: int) -> np.ndarray:
    # NumPy promises that the raw numbers of a bit generator never change; it does not promise that for `permutation`.
    numbers = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(clips)
    return np.argsort(numbers, kind="stable")


@dataclasses.dataclass(frozen=True)
class Once(_Shares):
    """Every clip once, in the order of the shards; the last batch is short."""

    process: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        self._check(self.process, self.processes)

    @property
    def steps(self) -> int:
        """Number of batches."""
        return -(-self.clips // self.batch)

    def positions(self, step: int) -> range:
        """This process's share of a batch; in the last batch, the shares of two processes may differ by one clip."""
        first, end = step * self.batch, min((step + 1) * self.batch, self.clips)
        count = max(0, end - first)
        bounds = [first + count * k // self.processes for k in (self.process, self.process + 1)]
        return range(*bounds)

    def at(self, position: int) -> tuple[int, int]:
        """(epoch, number of the clip) at a position."""
        return 0, position

    def batch_at(self, step: int) -> list[tuple[int, int]]:
        """(epoch, number of the clip) of each sample of this process's share of a batch."""
        return [self.at(position) for position in self.positions(step)]

    def stand_ins(self, position: int) -> range:
        """No positions: a clip that stood in for another would be counted twice."""
        return range(0)
