"""Cookies in Netscape's format, which browsers' extensions export."""

import http.cookiejar
import re
from pathlib import Path

from kinetics_prep.errors import BadOption

_HTTP_ONLY = "#HttpOnly_"


def text(path: str | None) -> str | None:
    """What is in a file of cookies, looked over, for yt-dlp would print the lines that it cannot read; None for None.

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
    """The cookies in a file; None if there is none.

    Raises:
      BadOption: if it is no such file.
    """
    if text(path) is None:
        return None
    found = http.cookiejar.MozillaCookieJar(path)
    try:
        found.load(ignore_discard=True, ignore_expires=True)
    except (OSError, http.cookiejar.LoadError) as error:
        raise BadOption(f"--cookies {path!r} cannot be read: {error}") from None
    for cookie in found:
        if cookie.expires == 0:  # as browsers' extensions write those that last as long as the session
            cookie.expires = None
    return found
