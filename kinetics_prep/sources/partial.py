"""Partial: a download that is not whole yet, and how to go on with it.

Beside the place where the file will stand lie `<name>.part`, what has come so far, and `<name>.json`, what the server
said of the whole: only if it still says the same may the two be put together.
"""

import contextlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from kinetics_prep.storage.files import room_needed

_CONTENT_RANGE = re.compile(r"\s*bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18})\s*\Z", re.I)


class Partial:
    """What there is of a file.

    Args:
      path: where it will stand when it is whole.
      address: where it comes from; what came from elsewhere is forgotten.
    """

    def __init__(self, path: Path, address: str):
        self._path, self._address = path, address
        self._part, self._said = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.json")
        self.bytes = 0
        self._known = self._read()
        if self._known is None:
            self.forget()

    def _read(self) -> dict | None:
        """What the server said of the file whose beginning is here; None if there is nothing to go on from."""
        try:
            known = json.loads(self._said.read_text("utf-8"))
            self.bytes = self._part.stat().st_size
            is_ours = known["address"] == self._address and isinstance(known["validator"], str)
            is_begun = 0 < self.bytes < known["total_bytes"]
            return known if is_ours and is_begun else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def headers(self) -> dict[str, str]:
        """Of the request for the rest; empty if there is nothing to go on from.

        If-Range has a server that holds another file by now send that one whole, from its beginning.
        """
        if self._known is None:
            return {}
        return {"Range": f"bytes={self.bytes}-", "If-Range": self._known["validator"]}

    def goes_on(self, content_range: str) -> int | None:
        """How long the whole is, if an answer goes on where this ends and up to the end; else None."""
        found = _CONTENT_RANGE.match(content_range)
        if not found or self._known is None:
            return None
        first, last, total_bytes = map(int, found.groups())
        as_known = total_bytes == self._known["total_bytes"]
        return total_bytes if as_known and first == self.bytes and last == total_bytes - 1 else None

    def begin(self, headers: Mapping[str, str], total_bytes: int | None) -> None:
        """Begins anew with an answer that holds the whole."""
        self.forget()
        validator = _validator(headers)
        if validator and total_bytes:
            self._known = {"address": self._address, "validator": validator, "total_bytes": total_bytes}
            with room_needed(self._said):
                self._said.write_text(json.dumps(self._known), "utf-8")
        with room_needed(self._part):
            self._part.touch()

    def add(self, block: bytes) -> None:
        """Adds what has come."""
        with room_needed(self._part), open(self._part, "ab") as file:
            file.write(block)
        self.bytes += len(block)

    def finish(self) -> None:
        """It is whole: moves it to its place."""
        os.replace(self._part, self._path)
        self._said.unlink(missing_ok=True)

    def forget(self) -> None:
        """Drops what there is."""
        self.bytes, self._known = 0, None
        for path in (self._part, self._said):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def _validator(headers: Mapping[str, str]) -> str | None:
    """What tells one state of a file from another: a strong ETag, or the time of its last change."""
    tag = headers.get("ETag", "").strip()
    if re.fullmatch(r'"[\x21\x23-\x7e]{1,500}"', tag):
        return tag
    modified = headers.get("Last-Modified", "").strip()
    return modified if re.fullmatch(r"[\w,: +-]{10,60}", modified) else None
