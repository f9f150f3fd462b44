"""Paths of this machine, told from URLs: what is no path must not become a local folder named `gs:`."""

import re
import urllib.parse
from pathlib import Path

from kinetics_prep.errors import BadOption

# Two letters or more: one is a drive of Windows. One slash: `Path` makes one of two.
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]+):/")


def why_not_local(path: str | Path) -> str | None:
    """Says why a text is no path of this machine, such as a URL; None if it is one.

    The URL is not quoted, as it may hold a password.
    """
    if "\0" in str(path):
        return "expected a path, found a zero byte in it"
    match = _SCHEME.match(str(path))
    return match and (
        f"expected a path, found a URL, {match[1]}://...; buckets and servers are not read or written yet: "
        "use a local folder, or mount the bucket and name its folder there"
    )


def expect_local(option: str, *paths: str | Path | None) -> None:
    """Checks that paths are of this machine, and no URLs; None passes.

    Raises:
      BadOption: if one is not.
    """
    for path in paths:
        if path is not None and (why := why_not_local(path)):
            raise BadOption(f"{option}: {why}")


def from_file_url(text: str) -> str:
    """The path that a URL `file:///...` means; any other text as it is."""
    if text.startswith("file:///"):
        return urllib.parse.unquote(text.removeprefix("file://"), errors="surrogateescape")
    return text
