"""Videos behind an http(s) address with the id in it, such as a mirror's.

`https://mirror.example/k400/{id}_{start:06d}_{end:06d}.mp4`; an address that says `{start}` gives
the clip itself, one that says only `{id}` the whole video. `{split}` and `{label}` may be used too.
"""

import contextlib
import copy
import email.utils
import http.client
import math
import os
import re
import string
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import requests
import urllib3

from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.errors import (
    BadAddress,
    BadOption,
    ClipError,
    Forbidden,
    Network,
    NotFound,
    Policy,
    RateLimited,
    ServerError,
    TooLarge,
    Truncated,
    WrongContent,
)
from kinetics_prep.sources import cookies
from kinetics_prep.sources.fetching import Fetching
from kinetics_prep.sources.partial import Partial
from kinetics_prep.sources.source import Download

_FIELDS = ("id", "start", "end", "split", "label")
_KINDS = {
    **dict.fromkeys((404, 410), NotFound),
    **dict.fromkeys((401, 402, 403, 407), Forbidden),
    408: Network,
    429: RateLimited,
    451: Policy,
}
_IS_NO_VIDEO = re.compile(
    r"text/(?!plain)|image/(?!gif|apng|webp)|application/(?:json|xml|xhtml\+xml|pdf|javascript)\b", re.I
)
_CONNECT_SECONDS = 10
_SLOWEST_BYTES_PER_SECOND = 100
_BLOCK_BYTES = 1 << 18
_MOST_REDIRECTIONS = 10
# Videos do not shrink, and what unpacks to a thousandfold is no video.
_HEADERS = {"Accept-Encoding": "identity"}


class HttpTemplate:
    """A template for the addresses of videos."""

    is_remote = True
    attempts_if_forbidden = 1

    @staticmethod
    def accepts(text: str) -> bool:
        return text.startswith(("http://", "https://"))

    @classmethod
    def open(cls, text: str, fetching: Fetching, scratch: Path) -> "HttpTemplate":
        return cls(text, fetching)

    def __init__(self, template: str, fetching: Fetching):
        self._names = names = _names(template)
        if "id" not in names or not set(names) <= set(_FIELDS):
            raise BadOption(
                f"--videos {without_password(template)!r}: expected {{id}} in it, and no field but {', '.join(_FIELDS)}"
            )
        self.template, self.fetching = template, fetching
        self.gives_pieces = "start" in names
        try:
            self.host = urllib.parse.urlsplit(self._format("x", 0, 10, "train", "x")).hostname or ""
        except (ValueError, IndexError, KeyError) as error:
            raise BadOption(f"--videos {without_password(template)!r} is not a template: {error}") from None
        if not self.host:
            raise BadOption(f"--videos {without_password(template)!r}: there is no host in it")
        self._cookies = cookies.jar(fetching.cookies)
        self._threads = threading.local()

    def address(self, row: PlannedRow) -> str:
        """The address of a row's video.

        Raises:
          BadAddress: if the template asks for what the row has not.
        """
        try:
            return self._format(row.media_id, row.start_seconds, row.end_seconds, row.split, row.label)
        except ValueError as error:
            times = f"start {row.start_seconds} and end {row.end_seconds}"
            raise BadAddress(f"{without_password(self.template)} does not fit {times}: {error}", attempts=0) from None

    def _format(self, media_id, start_seconds, end_seconds, split, label) -> str:
        """The address for these values, each quoted for a URL."""
        if end_seconds is None and "end" in self._names:
            raise ValueError("the row is a whole video")
        ends = 0 if end_seconds is None else end_seconds  # which nothing asks for
        times = [int(value) if float(value).is_integer() else value for value in (start_seconds, ends)]
        words = [urllib.parse.quote(word or "", safe="") for word in (media_id, split, label)]
        return self.template.format(id=words[0], start=times[0], end=times[1], split=words[1], label=words[2])

    def origin(self, row: PlannedRow) -> str:
        """The address as it may be written down."""
        return without_password(self.address(row))

    def download(self, row: PlannedRow, path: Path, ask: Callable[[str], None]) -> Download:
        """Downloads the video of a row to `path`, where nothing is before it is whole.

        What an earlier attempt got stands beside `path`, and is gone on from if the server says that it still holds
        the same.

        Args:
          ask: called with the host before each request; returns when that may be made.

        Raises:
          ClipError: of the kind that says what happened.
        """
        address = self.address(row)
        partial = Partial(path, address)
        with _as_clip_errors(without_password(address)):
            with self._answer(address, partial, ask) as answer:
                notes = _receive(without_password(address), answer, partial, self.fetching)
            partial.finish()
        name = os.path.basename(urllib.parse.unquote(urllib.parse.urlsplit(address).path))
        return Download(name or row.media_id, notes)

    @contextlib.contextmanager
    def _answer(self, address: str, partial: Partial, ask: Callable[[str], None]) -> Iterator[requests.Response]:
        """The answer at the end of all redirections, each of which counts as a request to its host."""
        session, at = self._session(), address
        timeout = (min(_CONNECT_SECONDS, self.fetching.silence_seconds), self.fetching.silence_seconds)
        for _ in range(_MOST_REDIRECTIONS + 1):
            ask(urllib.parse.urlsplit(at).hostname or "")
            headers = _HEADERS | partial.headers()
            with session.get(at, stream=True, allow_redirects=False, timeout=timeout, headers=headers) as answer:
                target = session.get_redirect_target(answer)
                if target is None:
                    yield answer
                    return
            at = _joined(at, target)
        raise BadAddress(f"{without_password(address)}: over {_MOST_REDIRECTIONS} redirections")

    def _session(self) -> requests.Session:
        # Sessions keep connections open, and are not made for several threads at once.
        if not hasattr(self._threads, "session"):
            session = requests.Session()
            if self._cookies:
                session.cookies.update(copy.copy(self._cookies))
            if self.fetching.proxy:
                session.proxies = {"http": self.fetching.proxy, "https": self.fetching.proxy}
            self._threads.session = session
        return self._threads.session


@contextlib.contextmanager
def _as_clip_errors(shown_address: str) -> Iterator[None]:
    try:
        yield
    except ClipError:
        raise
    except (requests.exceptions.ChunkedEncodingError, urllib3.exceptions.ProtocolError) as error:
        raise Truncated(f"{shown_address}: broke off: {error}") from None
    except ValueError as error:  # what requests and urllib raise of addresses that are none
        raise BadAddress(f"{shown_address}: {error}") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
        # requests lets some of the others through, of answers gone wild
        raise Network(f"{shown_address}: {type(error).__name__}: {error}") from None


def _joined(address: str, target: str) -> str:
    try:
        joined = urllib.parse.urljoin(address, target)
        if HttpTemplate.accepts(joined) and urllib.parse.urlsplit(joined).hostname:
            return joined
    except ValueError:
        pass
    raise BadAddress(f"{without_password(address)} leads to {without_password(target)!r:.200}")


def _receive(here: str, answer: requests.Response, partial: Partial, fetching: Fetching) -> tuple[str, ...]:
    """Takes an answer in, whatever it is; returns what else one should know of it."""
    if answer.status_code == 206 and partial.headers():
        total_bytes = partial.goes_on(answer.headers.get("Content-Range", ""))
        if total_bytes is None:
            partial.forget()
            raise Truncated(f"{here}: asked for the rest of it, the server sent another part")
    elif answer.status_code == 200:
        _expect_video(here, answer)
        total_bytes = _length(answer)
        partial.begin(answer.headers, total_bytes)
    elif answer.status_code == 416:
        partial.forget()
        raise Truncated(f"{here}: HTTP 416, what there was of it is no beginning of what the server has now")
    else:
        raise _refusal(here, answer)
    if total_bytes is not None and total_bytes > fetching.largest_bytes:
        partial.forget()
        raise _too_large(here, total_bytes, fetching.largest_bytes)
    for block in _blocks(here, answer, fetching.silence_seconds):
        partial.add(block)
        if partial.bytes > fetching.largest_bytes:
            received_bytes = partial.bytes
            partial.forget()
            raise _too_large(here, received_bytes, fetching.largest_bytes)
    if total_bytes is not None and partial.bytes != total_bytes:
        raise Truncated(f"{here}: body ended after {partial.bytes} of {total_bytes} bytes")
    if not partial.bytes:
        partial.forget()
        raise WrongContent(f"{here}: the file is empty")
    unsure = total_bytes is None and "chunked" not in answer.headers.get("Transfer-Encoding", "")
    return ("the server did not say how long the file is",) if unsure else ()


def _too_large(here: str, found_bytes: int, largest_bytes: int) -> TooLarge:
    return TooLarge(f"{here}: {found_bytes} bytes or more, --largest allows {largest_bytes}")


def _refusal(here: str, answer: requests.Response) -> ClipError:
    status, wanted_seconds = answer.status_code, _retry_after_seconds(answer)
    said = f"{here}: HTTP {status} {answer.reason or ''}".rstrip()
    if status == 429 or (status == 503 and wanted_seconds is not None):
        error = RateLimited(said)
        error.retry_after_seconds = wanted_seconds
        return error
    if status in _KINDS:
        return _KINDS[status](said)
    if 200 <= status < 300:
        return WrongContent(f"{said}, which is no whole file")
    return (ServerError if status >= 500 else BadAddress)(said)


def _retry_after_seconds(answer: requests.Response) -> float | None:
    """How long the server asks to be left alone; it may say so in seconds or as a date."""
    text = answer.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    return None


def _expect_video(here: str, answer: requests.Response) -> None:
    """Login pages and captive portals come with 200 OK."""
    found = answer.headers.get("Content-Type", "")
    if _IS_NO_VIDEO.match(found.strip()):
        raise WrongContent(f"{here}: expected a video, the server sent {found!r:.100}")


def _length(answer: requests.Response) -> int | None:
    text = answer.headers.get("Content-Length", "")
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity" or not re.fullmatch(r"\d{1,18}", text):
        return None
    return int(text)


def _blocks(here: str, answer: requests.Response, silence_seconds: float) -> Iterator[bytes]:
    """The body as it comes in; one that only drips is given up."""
    begun, received_bytes = time.monotonic(), 0
    while block := answer.raw.read1(_BLOCK_BYTES, decode_content=True):
        yield block
        received_bytes += len(block)
        seconds = time.monotonic() - begun
        if seconds > silence_seconds:
            if received_bytes < _SLOWEST_BYTES_PER_SECOND * seconds:
                raise Network(f"{here}: only {received_bytes} bytes in {seconds:.0f} s")
            begun, received_bytes = time.monotonic(), 0


def without_password(address: str) -> str:
    """An address without the password that it may hold."""
    return re.sub(r"(?<=://)[^/?#]*@", "", address)


def _names(template: str) -> list[str]:
    try:
        return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise BadOption(f"--videos {without_password(template)!r} is not a template: {error}") from None
