"""Places a video can come from. A source is one file here and one row in `SOURCES`.

Each is a class with

* `accepts(text) -> bool`: whether what stands after `--videos` means this kind of source;
* `open(text, fetching, scratch) -> source`: checks it;
* `is_remote`. One that is at hand has
* `has(row) -> bool`, and
* `fetch(row) -> context manager of Fetched`: the video of one plan row, there until the context ends;
  one that is elsewhere has `host`, `gives_pieces`, `attempts_if_forbidden`, `origin(row)` and
* `download(row, path, ask) -> Download`: one attempt; `Remote` gives it patience, pace and a cache.
"""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.errors import PASSING, BadOption, ClipError, NotFound
from kinetics_prep.sources import cookies
from kinetics_prep.sources.archive import Archives
from kinetics_prep.sources.cache import Cache
from kinetics_prep.sources.fetched import Fetched
from kinetics_prep.sources.fetching import Fetching, Politeness
from kinetics_prep.sources.folder import Folder
from kinetics_prep.sources.http import HttpTemplate, without_password
from kinetics_prep.sources.pace import Paces
from kinetics_prep.sources.remote import Remote
from kinetics_prep.sources.ytdlp import YtDlp

SOURCES = {
    "http": HttpTemplate,
    "yt-dlp": YtDlp,
    "archive": Archives,
    "folder": Folder,
}
"""In the order in which they are asked whether they accept what stands after --videos."""

__all__ = [
    "SOURCES",
    "Cache",
    "Fetched",
    "Fetching",
    "Politeness",
    "Remote",
    "Sources",
    "absolute",
    "open_sources",
    "without_password",
]

T = TypeVar("T")


def open_sources(fetching: Fetching, scratch: Path, reads_cache: bool = True) -> "Sources":
    """All the places where videos are to be looked for. Downloads go to `scratch`, or to the cache.

    Args:
      reads_cache: whether files of the cache are looked at byte for byte; see `Cache`.

    Raises:
      BadOption: if one makes no sense.
    """
    if not fetching.videos and not fetching.cache:
        raise BadOption("--videos is missing: a folder, a tar archive, a URL, or youtube")
    cookies.text(fetching.cookies)  # a mistake is one even where nobody asks for cookies
    cache = Cache(Path(fetching.cache), reads_cache) if fetching.cache else None
    paces = Paces(fetching.politeness, (cache.folder if cache else scratch.parent) / "hosts")
    places = [cache] if cache else []
    for text in fetching.videos:
        kind = _kind_of(text)
        source = SOURCES[kind].open(text, fetching, scratch)
        if source.is_remote:
            source = Remote(source, kind, without_password(text), fetching, paces, scratch, cache)
        places.append(source)
    return Sources(places)


def absolute(fetching: Fetching) -> Fetching:
    """The same from whatever working directory, as workers elsewhere have another one."""
    videos = (text if SOURCES[_kind_of(text)].is_remote else os.path.abspath(text) for text in fetching.videos)
    cache, cookies = (path and os.path.abspath(path) for path in (fetching.cache, fetching.cookies))
    return dataclasses.replace(fetching, videos=tuple(videos), cache=cache, cookies=cookies)


def _kind_of(text: str) -> str:
    for name, kind in SOURCES.items():
        if kind.accepts(text):
            return name
    raise BadOption(
        f"--videos {without_password(text)!r}: expected a folder, a tar archive, an http(s) URL template, `youtube`, "
        "or `yt-dlp:` and a URL template"
    )


class Sources:
    """Places in the order in which they are tried."""

    def __init__(self, places: list):
        self.places = places

    def first_usable(self, row: PlannedRow, use: Callable[[Fetched], T]) -> T:
        """What `use` makes of the first file that it can make something of.

        A file that turns out to be no use, being damaged or too short, is one that its place has not.

        Raises:
          ClipError: if no place has one: of what the places said, what may pass comes first, then what tells most.
        """
        errors = []
        for place in self.places:
            try:
                with place.fetch(row) as fetched:
                    return use(fetched)
            except ClipError as error:
                if not isinstance(place, Cache) or len(self.places) == 1:  # what it lacks is no news
                    errors.append(error)
        raise _verdict(errors)


def _verdict(errors: list[ClipError]) -> ClipError:
    def rank(error: ClipError) -> int:
        return 0 if error.reason in PASSING else 2 if isinstance(error, NotFound) else 1

    ranked = sorted(errors, key=rank)  # stable: of equals the first that was asked
    return type(ranked[0])("; ".join(map(str, ranked)), attempts=sum(error.attempts for error in errors))
