"""Videos behind an http(s) address with the id in it, such as a mirror's.

`https://mirror.example/k400/{id}_{start:06d}_{end:06d}.mp4`; an address with `{start}` gives the clip itself, an
address with only `{id}` the whole video. `{split}` and `{label}` may be used too.
"""

import contextlib
import http.client
import os
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import requests
import urllib3

from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.errors import BadAddress, ClipError, Network, Truncated
from kinetics_prep.sources import cookies
from kinetics_prep.sources.address import AddressTemplate, is_http, redirected, without_secret_words, without_secrets_in
from kinetics_prep.sources.fetching import Fetching
from kinetics_prep.sources.http_response import receive
from kinetics_prep.sources.partial import Partial
from kinetics_prep.sources.source import Download

_CONNECT_SECONDS = 10
_MOST_REDIRECTIONS = 10
# Compressing makes no video smaller; a body that unpacks to a thousand times its size is an attack.
_HEADERS = {"Accept-Encoding": "identity"}


class HttpTemplate:
    """A server whose videos have addresses that follow a template. One object serves many threads."""

    is_remote = True
    attempts_if_forbidden = 1

    @staticmethod
    def accepts(text: str) -> bool:
        return is_http(text)

    @classmethod
    def open(cls, text: str, fetching: Fetching, scratch: Path) -> "HttpTemplate":
        return cls(text, fetching)

    def __init__(self, template: str, fetching: Fetching):
        self.template, self.fetching = AddressTemplate(template), fetching
        self.gives_pieces, self.host = self.template.has_start, self.template.host
        self._cookies = cookies.jar(fetching.cookies)
        self._threads = threading.local()

    def origin(self, row: PlannedRow) -> str:
        """The address of a row's video for the ledger, without secrets."""
        return self.template.shown(row)

    def download(self, row: PlannedRow, path: Path, before_request: Callable[[str], None]) -> Download:
        """Downloads the video of a row to `path`, in one attempt. There is no file at `path` unless it is complete.

        The bytes of an earlier attempt stand beside `path`; the download continues after them if the server says that
        its file has not changed.

        Args:
          before_request: called with the host before each request; returns when the request may be made.

        Raises:
          ClipError: the reason why there is no video.
        """
        shown = self.origin(row)
        # Not the address itself: a row's own values are no secrets, however long they are.
        with_secrets = [self.template.template]
        partial = Partial(path, shown)  # which writes the address down
        with _as_clip_errors(shown, with_secrets):
            with self._response(row, partial, before_request, with_secrets) as response:
                notes = receive(shown, response, partial, self.fetching)
            partial.finish()
        name = os.path.basename(urllib.parse.unquote(urllib.parse.urlsplit(shown).path))
        return Download(name or row.media_id, notes)

    @contextlib.contextmanager
    def _response(
        self, row: PlannedRow, partial: Partial, before_request: Callable[[str], None], with_secrets: list[str]
    ) -> Iterator[requests.Response]:
        """The response at the end of all redirections, each of which counts as a request to its host.

        Args:
          with_secrets: the addresses of redirections are appended.

        `requests` does not follow them itself, so that each waits for the pace of its host, and a password in an
        address reaches no other host.
        """
        session, current = self._session(), self.template.address(row)
        timeout = (min(_CONNECT_SECONDS, self.fetching.silence_seconds), self.fetching.silence_seconds)
        for _ in range(_MOST_REDIRECTIONS + 1):
            before_request(urllib.parse.urlsplit(current).hostname or "")
            headers = _HEADERS | partial.headers()
            with session.get(current, stream=True, allow_redirects=False, timeout=timeout, headers=headers) as response:
                target = session.get_redirect_target(response)
                if target is None:
                    yield response
                    return
            current = redirected(current, target)
            with_secrets.append(current)
        raise BadAddress(f"{self.origin(row)}: over {_MOST_REDIRECTIONS} redirections")

    def _session(self) -> requests.Session:
        """The session of this thread. It keeps connections open, and must not be shared between threads."""
        if not hasattr(self._threads, "session"):
            session = requests.Session()
            if self._cookies:
                session.cookies.update(self._cookies)  # which copies each cookie
            if self.fetching.proxy:
                session.proxies = {"http": self.fetching.proxy, "https": self.fetching.proxy}
            self._threads.session = session
        return self._threads.session


@contextlib.contextmanager
def _as_clip_errors(shown: str, with_secrets: Sequence[str]) -> Iterator[None]:
    """Turns errors of the libraries into `ClipError`s that begin with the address.

    Args:
      shown: the address without secrets.
      with_secrets: addresses; no message names the secrets in them.
    """

    def words(error: Exception) -> str:
        return without_secrets_in(str(error), with_secrets)

    try:
        yield
    except ClipError as error:
        error.args = (without_secret_words(str(error), with_secrets),)  # a server may have quoted them
        raise
    except (requests.exceptions.ChunkedEncodingError, urllib3.exceptions.ProtocolError) as error:
        raise Truncated(f"{shown}: broke off: {words(error)}") from None
    except ValueError as error:  # by requests and urllib3 for text that is no address
        raise BadAddress(f"{shown}: {words(error)}") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
        # requests lets some errors of the other two libraries through, for malformed responses
        raise Network(f"{shown}: {type(error).__name__}: {words(error)}") from None
