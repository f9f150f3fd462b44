"""Places a video can come from. A source is one file here and one row in `SOURCES`; `source.py` says what it has."""

import dataclasses
import os
from pathlib import Path

from kinetics_prep.errors import BadOption
from kinetics_prep.sources import cookies
from kinetics_prep.sources.address import without_secrets, without_secrets_in
from kinetics_prep.sources.archive import Archives
from kinetics_prep.sources.cache import Cache
from kinetics_prep.sources.fetched import Fetched
from kinetics_prep.sources.fetching import Fetching, Politeness
from kinetics_prep.sources.folder import Folder
from kinetics_prep.sources.http import HttpTemplate
from kinetics_prep.sources.pace import Paces
from kinetics_prep.sources.places import Place, Sources
from kinetics_prep.sources.remote import Remote
from kinetics_prep.sources.source import RemoteSource, SourceKind
from kinetics_prep.sources.ytdlp import YtDlp

SOURCES: dict[str, SourceKind] = {
    "http": HttpTemplate,
    "yt-dlp": YtDlp,
    "archive": Archives,
    "folder": Folder,
}
"""In the order in which their `accepts` is called with the text after --videos; the first that accepts it opens it."""

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
    "without_secrets",
    "without_secrets_in",
]


def open_sources(fetching: Fetching, scratch: Path, reads_cache: bool = True, run: str | None = None) -> Sources:
    """Opens all the places where videos are searched: first the cache, then those of --videos in their order.

    Args:
      scratch: the folder for downloads if there is no cache; need not exist.
      reads_cache: whether each file of the cache is read and compared with its sha256; see `Cache`.
      run: the run's id, the same in all its processes; see `Cache`.

    Raises:
      BadOption: if a place, the cache or the cookies cannot be used.
    """
    if not fetching.videos and not fetching.cache:
        raise BadOption("--videos is missing: a folder, a tar archive, a URL, or youtube")
    cookies.text(fetching.cookies)  # refuses a bad file even if no source uses cookies
    cache = Cache(Path(fetching.cache), reads_cache, fetching.ask_again, run) if fetching.cache else None
    paces = Paces(fetching.politeness, (cache.folder if cache else scratch.parent) / "hosts")
    places: list[Place] = [cache] if cache else []
    for text in fetching.videos:
        kind = _kind_of(text)
        source = SOURCES[kind].open(text, fetching, scratch)
        if isinstance(source, RemoteSource):
            places.append(Remote(source, kind, without_secrets(text), fetching, paces, scratch, cache))
        else:
            places.append(source)
    return Sources(places)


def absolute(fetching: Fetching) -> Fetching:
    """The same places with absolute paths, for workers with another working directory."""
    videos = (text if SOURCES[_kind_of(text)].is_remote else os.path.abspath(text) for text in fetching.videos)
    cache, cookies = (path and os.path.abspath(path) for path in (fetching.cache, fetching.cookies))
    return dataclasses.replace(fetching, videos=tuple(videos), cache=cache, cookies=cookies)


def _kind_of(text: str) -> str:
    for name, kind in SOURCES.items():
        if kind.accepts(text):
            return name
    raise BadOption(
        f"--videos {without_secrets(text)!r}: expected a folder, a tar archive, an http(s) URL template, `youtube`, "
        "or `yt-dlp:` and a URL template"
    )
