"""sources.json: where the videos of an output folder are searched, so that `retry` and `refresh` need no --videos."""

import dataclasses
import json
import shlex

from kinetics_prep.dataset.layout import Layout
from kinetics_prep.errors import BadOption
from kinetics_prep.sources import Fetching, without_secrets
from kinetics_prep.sources.address import HIDDEN
from kinetics_prep.storage.files import write_json


def write_sources(layout: Layout, fetching: Fetching) -> None:
    """Writes sources.json, without the places whose address holds a secret.

    If there are such, it also says under "given" which places there were, all in their order, each without its secret.
    """
    videos = [text for text in fetching.videos if not _holds_secret(text)]
    content = {"version": 1, "videos": videos, "cache": fetching.cache}
    if len(videos) < len(fetching.videos):
        content["given"] = [without_secrets(text) if _holds_secret(text) else text for text in fetching.videos]
    write_json(layout.sources, content, layout.scratch)


def _holds_secret(text: str) -> bool:
    return "://" in text and without_secrets(text) != text  # else it is a folder, whatever its name


def with_recorded_sources(layout: Layout, fetching: Fetching) -> Fetching:
    """The same settings, with the recorded places if they name none.

    Raises:
      BadOption: if no place is recorded either, or if one is missing for a secret in its address: videos that only it
        has would be refused for another reason than before.
    """
    if fetching.videos or fetching.cache:
        return fetching
    try:
        content = json.loads(layout.sources.read_text("utf-8"))
        videos, cache = _texts(content["videos"]), content["cache"] and _text(content["cache"])
        given = _texts(content.get("given", []))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadOption(f"{layout.output} does not say where its videos are: give --videos or --cache") from None
    if missing := [text for text in given if text not in videos]:
        raise BadOption(
            f"{layout.sources} lacks {', '.join(missing)}: its address holds a secret, which is not written down. Give "
            f"all places again, with the secret in place of {HIDDEN}: --videos {shlex.join(given)}"
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
