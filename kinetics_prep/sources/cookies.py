"""Cookies in Netscape's format, which browsers' extensions export."""

import http.cookiejar
import re
from pathlib import Path

from kinetics_prep.errors import BadOption

_HTTP_ONLY = "#HttpOnly_"


def text(path: str | None) -> str | None:
    """The content of a file of cookies; None for None.

    Each line is checked here, because yt-dlp would print the lines that it cannot read. Messages quote no line.

    Raises:
      BadOption: if it is no such file.
    """
    if path is None:
        return None
    try:
        content = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadOption(f"--cookies {path!r} cannot be read: {error}") from None
    lines = content.splitlines()
    if not lines or not re.match("#( Netscape)? HTTP Cookie File", lines[0]):
        raise BadOption(
            f"--cookies {path!r}: expected a file in Netscape's format, '# Netscape HTTP Cookie File' first"
        )
    for number, line in enumerate(lines, 1):
        line = line.removeprefix(_HTTP_ONLY)
        if line.startswith("#") or not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) != 7 or not re.fullmatch(r"(\d+(\.\d+)?)?", fields[4]):
            raise BadOption(f"--cookies {path!r}: line {number} is no cookie: expected 7 fields with tabs between them")
    return content


def jar(path: str | None) -> http.cookiejar.CookieJar | None:
    """The cookies in a file, including those that have expired; None for None.

    Raises:
      BadOption: if it is no such file.
    """
    if text(path) is None:
        return None
    cookies = http.cookiejar.MozillaCookieJar(path)
    try:
        cookies.load(ignore_discard=True, ignore_expires=True)
    except (OSError, http.cookiejar.LoadError) as error:
        raise BadOption(f"--cookies {path!r} cannot be read: {error}") from None
    for cookie in cookies:
        if cookie.expires == 0:  # browsers' extensions write 0 for cookies that last as long as the session
            cookie.expires = None
    return cookies
