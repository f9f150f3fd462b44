"""sources.json: where the videos of an output folder are searched, so that `retry` and `refresh` need no --videos."""

import dataclasses
import json

from kinetics_prep.dataset.layout import Layout
from kinetics_prep.errors import BadOption
from kinetics_prep.sources import Fetching, without_password
from kinetics_prep.storage.files import write_json


def write_sources(layout: Layout, fetching: Fetching) -> None:
    """Writes sources.json; removes it if an address holds a password, which must not be kept."""
    if any(without_password(text) != text for text in fetching.videos):
        layout.sources.unlink(missing_ok=True)
        return
    content = {"version": 1, "videos": list(fetching.videos), "cache": fetching.cache}
    write_json(layout.sources, content, layout.scratch)


def with_recorded_sources(layout: Layout, fetching: Fetching) -> Fetching:
    """The same settings, with the recorded places if they name none.

    Raises:
      BadOption: if no place is recorded either.
    """
    if fetching.videos or fetching.cache:
        return fetching
    try:
        content = json.loads(layout.sources.read_text("utf-8"))
        return dataclasses.replace(fetching, videos=tuple(map(str, content["videos"])), cache=content["cache"])
    except (OSError, ValueError, KeyError, TypeError):
        raise BadOption(f"{layout.output} does not say where its videos are: give --videos or --cache") from None
