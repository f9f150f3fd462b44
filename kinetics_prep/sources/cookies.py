"""Cookies in Netscape's format, which browsers' extensions export."""

import http.cookiejar

from kinetics_prep.errors import BadOption


def read(path: str | None) -> http.cookiejar.CookieJar | None:
    """The cookies in a file; None if there is none.

    Raises:
      BadOption: if it cannot be read, or holds something else.
    """
    if path is None:
        return None
    jar = http.cookiejar.MozillaCookieJar(path)
    try:
        jar.load(ignore_discard=True, ignore_expires=True)
    except (OSError, http.cookiejar.LoadError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not in Netscape's format"
        raise BadOption(f"--cookies {path} cannot be read: {reason}") from None
    for cookie in jar:
        if cookie.expires == 0:  # as browsers' extensions write those that last as long as the session
            cookie.expires = None
    return jar
