"""A real HTTP server on loopback, that answers as a test tells it to."""

import contextlib
import dataclasses
import http.server
import threading
import time
from collections.abc import Callable, Iterator


@dataclasses.dataclass(frozen=True)
class Request:
    """A request that the server got."""

    path: str
    headers: dict[str, str]
    seconds: float
    """When, on a clock that never runs backwards."""


class Server:
    """Gives each path its prepared answers, one after another, the last one for ever.

    An answer is (status, headers, body); a header that is None is left out. Or it is a function that is called with
    the `BaseHTTPRequestHandler`.
    """

    def __init__(self):
        self.answers: dict[str, list] = {}
        self.requests: list[Request] = []
        self.otherwise = (404, {}, b"")
        """What a path gets that has no answer prepared."""
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                owner.requests.append(Request(self.path, dict(self.headers), time.monotonic()))
                answers = owner.answers.get(self.path, [owner.otherwise])
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                with contextlib.suppress(ConnectionError):  # the client may have had enough
                    answer(self) if callable(answer) else send(self, *answer)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    @property
    def requested(self) -> list[str]:
        """The requested paths."""
        return [request.path for request in self.requests]

    def says(self, path: str, *answers) -> None:
        self.answers[path] = list(answers)


def send(handler: http.server.BaseHTTPRequestHandler, status: int, headers: dict, body: bytes) -> None:
    """Answers."""
    handler.send_response(status)
    for name, value in ({"Content-Length": str(len(body))} | headers).items():
        if value is not None:
            handler.send_header(name, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


def file(body: bytes, etag: str | None = '"1"', break_after: int | None = None, **headers) -> Callable:
    """An answer as of a good server: it knows ranges.

    Args:
      break_after: bytes after which the connection breaks.
    """

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        first, status = 0, 200
        fields = {"ETag": etag, "Accept-Ranges": "bytes"} | {name.replace("_", "-"): v for name, v in headers.items()}
        requested = handler.headers.get("Range")
        if requested and handler.headers.get("If-Range", etag) == etag:
            first, status = int(requested.removeprefix("bytes=").rstrip("-")), 206
            fields["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
        rest = body[first:]
        fields["Content-Length"] = str(len(rest))
        send(handler, status, fields, rest[:break_after])

    return answer


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server, there until the block ends."""
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        thread.join()
        server.http.server_close()
