"""A server's response to the request for a video -> the video's bytes in a `Partial`, or the reason why not."""

import contextlib
import email.utils
import math
import re
import time
from collections.abc import Iterator

import requests

from kinetics_prep.errors import (
    BadAddress,
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
from kinetics_prep.sources.fetching import Fetching
from kinetics_prep.sources.partial import Partial

_BY_STATUS: dict[int, type[ClipError]] = {
    **dict.fromkeys((404, 410), NotFound),
    **dict.fromkeys((401, 402, 403, 407), Forbidden),
    408: Network,
    429: RateLimited,
    451: Policy,
}
_IS_NO_VIDEO = re.compile(
    r"text/(?!plain)|image/(?!gif|apng|webp)|application/(?:json|xml|xhtml\+xml|pdf|javascript)\b", re.I
)
_SLOWEST_BYTES_PER_SECOND = 100
_BLOCK_BYTES = 1 << 18


def receive(address: str, response: requests.Response, partial: Partial, fetching: Fetching) -> tuple[str, ...]:
    """Handles a response of any status: stores its body or raises.

    Args:
      address: for messages, without passwords.
      partial: gets the body; holds the bytes of an earlier attempt, after which the response may continue.

    Returns:
      Notes for the ledger.

    Raises:
      ClipError: the reason why there is no video.
    """
    total_bytes = _begin(address, response, partial)
    if total_bytes is not None and total_bytes > fetching.largest_bytes:
        partial.forget()
        raise _too_large(address, total_bytes, fetching.largest_bytes)
    for block in _blocks(address, response, fetching.silence_seconds):
        partial.add(block)
        if partial.bytes > fetching.largest_bytes:
            received_bytes = partial.bytes
            partial.forget()
            raise _too_large(address, received_bytes, fetching.largest_bytes)
    if total_bytes is not None and partial.bytes != total_bytes:
        raise Truncated(f"{address}: body ended after {partial.bytes} of {total_bytes} bytes")
    if not partial.bytes:
        partial.forget()
        raise WrongContent(f"{address}: the file is empty")
    is_unsure = total_bytes is None and "chunked" not in response.headers.get("Transfer-Encoding", "")
    return ("the server did not say how long the file is",) if is_unsure else ()


def _begin(address: str, response: requests.Response, partial: Partial) -> int | None:
    """Reads status and headers, and prepares `partial` for the body.

    Returns:
      The length of the whole file, if the server says it.
    """
    if response.status_code == 206 and partial.headers():
        total_bytes = partial.continued_length(response.headers.get("Content-Range", ""))
        if total_bytes is None:
            partial.forget()
            raise Truncated(f"{address}: the server sent another part than the requested one")
        return total_bytes
    if response.status_code == 200:
        _expect_video(address, response)
        total_bytes = _length(response)
        partial.begin(response.headers, total_bytes)
        return total_bytes
    if response.status_code == 416:
        partial.forget()
        raise Truncated(f"{address}: HTTP 416, the server's file has changed since the earlier attempt")
    raise _refusal(address, response)


def _too_large(address: str, least_bytes: int, largest_bytes: int) -> TooLarge:
    return TooLarge(f"{address}: {least_bytes} bytes or more, --largest allows {largest_bytes}")


def _refusal(address: str, response: requests.Response) -> ClipError:
    """The reason that a status other than success means."""
    status, pause_seconds = response.status_code, _retry_after_seconds(response)
    message = f"{address}: HTTP {status} {response.reason or ''}".rstrip()
    if status == 429 or (status == 503 and pause_seconds is not None):
        error = RateLimited(message)
        error.retry_after_seconds = pause_seconds
        return error
    if status in _BY_STATUS:
        return _BY_STATUS[status](message)
    if 200 <= status < 300:
        return WrongContent(f"{message}, which is no whole file")
    return (ServerError if status >= 500 else BadAddress)(message)


def _retry_after_seconds(response: requests.Response) -> float | None:
    """The pause that the server wants; the header Retry-After gives it in seconds or as a date."""
    text = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    return None


def _expect_video(address: str, response: requests.Response) -> None:
    """Refuses a page or a picture. Login pages and captive portals come with 200 OK."""
    content_type = response.headers.get("Content-Type", "")
    if _IS_NO_VIDEO.match(content_type.strip()):
        raise WrongContent(f"{address}: expected a video, the server sent {content_type!r:.100}")


def _length(response: requests.Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    return int(text) if encoding == "identity" and re.fullmatch(r"\d{1,18}", text) else None


def _blocks(address: str, response: requests.Response, silence_seconds: float) -> Iterator[bytes]:
    """The body in blocks, as it is received.

    Raises:
      Network: if it comes at less than 100 bytes a second: such a body never hits the time limit for silence.
    """
    start, received_bytes = time.monotonic(), 0
    while block := response.raw.read1(_BLOCK_BYTES, decode_content=True):
        yield block
        received_bytes += len(block)
        seconds = time.monotonic() - start
        if seconds > silence_seconds:
            if received_bytes < _SLOWEST_BYTES_PER_SECOND * seconds:
                raise Network(f"{address}: only {received_bytes} bytes in {seconds:.0f} s")
            start, received_bytes = time.monotonic(), 0
