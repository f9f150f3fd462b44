"""What a download would ask of which host, and how long that takes; nothing is requested."""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterator

from kinetics_prep.annotations.planned import PlannedRow, RefusedRow
from kinetics_prep.runs.download import DownloadRun
from kinetics_prep.sources import Fetching, Remote, Sources


def _no_counts() -> collections.Counter[str]:
    return collections.Counter()


@dataclasses.dataclass
class Forecast:
    """What a run would have to request."""

    rows: int = 0
    unusable: int = 0
    """Rows refused for what the annotations say."""
    local: int = 0
    """Rows whose video is in a folder, an archive or the cache."""
    remembered: int = 0
    """Rows refused by every source in an earlier run, so that none is asked."""
    first: collections.Counter[str] = dataclasses.field(default_factory=_no_counts)
    """Videos by the host that is asked first."""
    fallback: collections.Counter[str] = dataclasses.field(default_factory=_no_counts)
    """Videos by host that is asked only if earlier hosts lack them."""

    def describe(self, fetching: Fetching, duration: Callable[[float], str]) -> Iterator[str]:
        """The lines to print.

        Args:
          duration: seconds -> words.
        """
        counts = [f"{self.rows} rows", f"{self.local} at hand"]
        counts += [f"{self.unusable} that the annotations make unusable"] if self.unusable else []
        counts += [f"{self.remembered} refused by every source in an earlier run"] if self.remembered else []
        yield ", ".join(counts)
        for words, hosts in (("to ask for", self.first), ("more, if no host before has them", self.fallback)):
            for host, count in hosts.items():
                yield f"{host}: {count} videos {words}; {_time_needed(count, host, fetching, duration)}"


def forecast(run: DownloadRun) -> Forecast:
    """Counts what is local, and what would be requested of which host."""
    result, requests = Forecast(), set[int]()
    for row in itertools.chain.from_iterable(map(run.arranged, run.chosen.splits)):
        result.rows += 1
        if isinstance(row, RefusedRow):
            result.unusable += 1
        elif any(place.has(row) for place in run.sources.places if not isinstance(place, Remote)):
            result.local += 1
        else:
            _count_requests(result, row, run.sources, requests)
    return result


def _count_requests(result: Forecast, row: PlannedRow, sources: Sources, requests: set[int]) -> None:
    remote = [place for place in sources.places if isinstance(place, Remote) and not place.remembers(row)]
    if not remote:
        result.remembered += 1
    for number, place in enumerate(remote):
        request = hash((place.name, place.key(row)))
        if request not in requests:  # else it is another clip of a video that is counted already
            requests.add(request)
            (result.fallback if number else result.first)[place.source.host] += 1


def _time_needed(count: int, host: str, fetching: Fetching, duration: Callable[[float], str]) -> str:
    politeness = fetching.politeness
    per_second = politeness.per_second(host)
    spacing_seconds = max(1 / per_second if per_second else 0.0, politeness.rest_seconds / politeness.connections)
    if not spacing_seconds:
        return "as fast as it answers, as no --rate is set"
    rate = f"{1 / spacing_seconds:.3g}/s" if spacing_seconds <= 10 else f"{3600 / spacing_seconds:.3g}/h"
    return f"at {rate} that takes {duration(count * spacing_seconds)}, or longer"
