"""sources.json: where the videos of an output folder are searched, so that `retry` and `refresh` need no --videos."""

import dataclasses

from kinetics_prep.dataset import documents, layout
from kinetics_prep.errors import BadOption, CorruptShard
from kinetics_prep.sources import Fetching, without_password
from kinetics_prep.storage.store import Store


def write_sources(store: Store, fetching: Fetching) -> None:
    """Writes sources.json; deletes it if an address holds a password, which must not be kept."""
    if any(without_password(text) != text for text in fetching.videos):
        store.delete(layout.SOURCES)
        return
    content = {"videos": list(fetching.videos), "cache": fetching.cache}
    try:
        if store.read(layout.SOURCES) == documents.encode(content):
            return
    except (FileNotFoundError, NotADirectoryError):
        pass
    documents.write(store, layout.SOURCES, content)


def with_recorded_sources(store: Store, fetching: Fetching) -> Fetching:
    """The same settings, with the recorded places if they name none.

    Raises:
      BadOption: if no place is recorded either.
    """
    if fetching.videos or fetching.cache:
        return fetching
    try:
        content = documents.read(store, layout.SOURCES)
        cache = None if content["cache"] is None else str(content["cache"])
        return dataclasses.replace(fetching, videos=tuple(map(str, content["videos"])), cache=cache)
    except (OSError, CorruptShard, KeyError, TypeError):
        raise BadOption(f"{store.place} does not say where its videos are: give --videos or --cache") from None
