"""Videos behind an http(s) address with the id in it, such as a mirror's.

`https://mirror.example/k400/{id}_{start:06d}_{end:06d}.mp4`; an address that says `{start}` gives
the clip itself, one that says only `{id}` the whole video. `{split}` and `{label}` may be used too.
"""

import contextlib
import os
import random
import re
import string
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from pathlib import Path

import requests
import urllib3

from kinetics_prep.atomic import room_needed
from kinetics_prep.errors import BadOption, ClipError, FetchFailed, NotFound
from kinetics_prep.plan import PlanRow
from kinetics_prep.sources.fetched import Fetched

_FIELDS = ("id", "start", "end", "split", "label")
_GONE = (404, 410)
_FINAL = (400, 401, 403, 405, 406, 414, 451)
_TIMEOUT_SECONDS = (10, 60)  # to connect, and between two bytes
_HEADERS = {"Accept-Encoding": "identity"}  # videos do not shrink, and what unpacks to a thousandfold is no video
_ATTEMPTS = 3
_LARGEST_BYTES = 8 << 30


class HttpTemplate:
    """A template for the addresses of videos. Failures of the net are tried again twice."""

    @staticmethod
    def accepts(text: str) -> bool:
        return text.startswith(("http://", "https://"))

    @classmethod
    def open(cls, text: str, scratch: Path) -> "HttpTemplate":
        return cls(text, scratch)

    def __init__(self, template: str, scratch: Path, pause_seconds: float = 1.0):
        self._names = names = _names(template)
        if "id" not in names or not set(names) <= set(_FIELDS):
            raise BadOption(f"--videos {template!r}: expected {{id}} in it, and no field but {', '.join(_FIELDS)}")
        self.template, self.scratch, self.pause_seconds = template, scratch, pause_seconds
        self.gives_pieces = "start" in names
        try:
            self.address("x", 0, 10, "train", "x")
        except (ValueError, IndexError, KeyError) as error:
            raise BadOption(f"--videos {template!r} is not a template: {error}") from None

    def address(self, media_id, start_seconds, end_seconds, split, label) -> str:
        """The address for these values, each quoted for a URL."""
        if end_seconds is None and "end" in self._names:
            raise ValueError("the row is a whole video")
        ends = 0 if end_seconds is None else end_seconds  # which nothing asks for
        times = [int(value) if float(value).is_integer() else value for value in (start_seconds, ends)]
        words = [urllib.parse.quote(word or "", safe="") for word in (media_id, split, label)]
        return self.template.format(id=words[0], start=times[0], end=times[1], split=words[1], label=words[2])

    @contextlib.contextmanager
    def fetch(self, row: PlanRow) -> Iterator[Fetched]:
        """Downloads the video of a row to a file that goes when the context ends.

        Raises:
          NotFound: if the server says so (404, 410).
          FetchFailed: if it refuses, or still fails at the third attempt.
        """
        try:
            address = self.address(row.media_id, row.start_seconds, row.end_seconds, row.split, row.label)
        except ValueError as error:
            times = f"start {row.start_seconds} and end {row.end_seconds}"
            raise FetchFailed(f"{self.template} does not fit {times}: {error}") from None
        name = os.path.basename(urllib.parse.unquote(urllib.parse.urlsplit(address).path)) or row.media_id
        self.scratch.mkdir(parents=True, exist_ok=True)
        # Only letters of the server's name become part of a local one; messages say it.
        path = self.scratch / f"{uuid.uuid4().hex}-{re.sub('[^A-Za-z0-9_-]', '_', name)[:60]}"
        try:
            with room_needed(path):
                attempts = self._download(address, path)
            begins_seconds = row.start_seconds if self.gives_pieces else None
            yield Fetched(path, name, address, begins_seconds, attempts)
        finally:
            path.unlink(missing_ok=True)

    def _download(self, address: str, path: Path) -> int:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                _get(address, path)
                return attempt
            except ClipError as error:
                error.attempts = attempt
                raise
            except _Passing as error:
                if attempt == _ATTEMPTS:
                    raise FetchFailed(f"{address}: {error}, {attempt} attempts", attempts=attempt) from None
                time.sleep(self.pause_seconds * 2**attempt * random.uniform(0.5, 1))
        raise AssertionError("unreachable")


class _Passing(Exception):
    """Worth another attempt."""


def _get(address: str, path: Path) -> None:
    try:
        with requests.get(address, stream=True, timeout=_TIMEOUT_SECONDS, headers=_HEADERS) as answer:
            if answer.status_code in _GONE:
                raise NotFound(f"{address}: HTTP {answer.status_code}")
            if answer.status_code in _FINAL:
                raise FetchFailed(f"{address}: HTTP {answer.status_code} {answer.reason}")
            if answer.status_code != 200:
                raise _Passing(f"HTTP {answer.status_code} {answer.reason}")
            _save(address, answer, path)
    except requests.TooManyRedirects as error:
        raise FetchFailed(f"{address}: {error}") from None
    except requests.RequestException as error:
        raise _Passing(f"{type(error).__name__}: {error}") from None
    except (urllib3.exceptions.HTTPError, ValueError) as error:  # which requests lets through, of answers gone wild
        raise _Passing(f"{type(error).__name__}: {error}") from None


def _save(address: str, answer: requests.Response, path: Path) -> None:
    expected = answer.headers.get("Content-Length")
    encoded = answer.headers.get("Content-Encoding")
    received = 0
    with open(path, "wb") as file:
        for block in answer.iter_content(1 << 20):
            received += len(block)
            if received > _LARGEST_BYTES:
                raise FetchFailed(f"{address}: over {_LARGEST_BYTES >> 30} GiB")
            file.write(block)
    if expected is not None and expected.isdecimal() and not encoded and received != int(expected):
        raise _Passing(f"body ended after {received} of {expected} bytes")


def _names(template: str) -> list[str]:
    try:
        return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise BadOption(f"--videos {template!r} is not a template: {error}") from None
