"""sources.json: where the videos of an output folder are searched, so that `retry` and `refresh` need no --videos."""

import dataclasses
import shlex

from kinetics_prep.dataset import documents, layout
from kinetics_prep.errors import BadOption, CorruptShard
from kinetics_prep.sources import Fetching, without_secrets
from kinetics_prep.sources.address import HIDDEN
from kinetics_prep.storage.store import Store


def write_sources(store: Store, fetching: Fetching) -> None:
    """Writes sources.json, without the places whose address holds a secret.

    If there are such, it also says under "given" which places there were, all in their order, each without its secret.
    """
    videos = [text for text in fetching.videos if not _holds_secret(text)]
    content = {"videos": videos, "cache": fetching.cache}
    if len(videos) < len(fetching.videos):
        content["given"] = [without_secrets(text) if _holds_secret(text) else text for text in fetching.videos]
    try:
        if store.read(layout.SOURCES) == documents.encode(content):
            return
    except (FileNotFoundError, NotADirectoryError):
        pass
    documents.write(store, layout.SOURCES, content)


def _holds_secret(text: str) -> bool:
    return "://" in text and without_secrets(text) != text  # else it is a folder, whatever its name


def with_recorded_sources(store: Store, fetching: Fetching) -> Fetching:
    """The same settings, with the recorded places if they name none.

    Raises:
      BadOption: if no place is recorded either.
    """
    if fetching.videos or fetching.cache:
        return fetching
    try:
        content = documents.read(store, layout.SOURCES)
        videos, cache = _texts(content["videos"]), content["cache"] and _text(content["cache"])
        given = _texts(content.get("given", []))
    except (OSError, CorruptShard, KeyError, TypeError):
        raise BadOption(f"{store.place} does not say where its videos are: give --videos or --cache") from None
    if missing := [text for text in given if text not in videos]:
        raise BadOption(
            f"{store.place}/{layout.SOURCES} lacks {', '.join(missing)}: its address holds a secret, which is not "
            f"written down. Give all places again, with the secret in place of {HIDDEN}: --videos {shlex.join(given)}"
        )
    return dataclasses.replace(fetching, videos=tuple(videos), cache=cache)


def _texts(value: object) -> list[str]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, found {value!r}")
    return [_text(each) for each in value]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, found {value!r}")
    return value
