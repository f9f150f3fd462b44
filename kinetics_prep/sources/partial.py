"""Partial: an incomplete download on disk, and whether an answer continues it.

Beside the path of the complete file stand `<name>.part`, the bytes received so far, and `<name>.json`, the server's
validator and length of the whole file. A later answer continues the download only if both are still the same.
"""

import contextlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kinetics_prep.storage.files import reporting_full_disk

_CONTENT_RANGE = re.compile(r"\s*bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18})\s*\Z", re.I)


class Partial:
    """The bytes of a download received so far; deletes them if they are from another address.

    Args:
      path: where the complete file will be.
      address: where it comes from.
    """

    def __init__(self, path: Path, address: str):
        self._path, self._address = path, address
        self._part, self._description_path = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.json")
        self.bytes = 0
        self._description = self._read_description()
        if self._description is None:
            self.forget()

    def _read_description(self) -> dict[str, Any] | None:
        """The server's description of the whole file; None if the download cannot be continued."""
        try:
            description = json.loads(self._description_path.read_text("utf-8"))
            self.bytes = self._part.stat().st_size
            is_same_address = description["address"] == self._address and isinstance(description["validator"], str)
            is_incomplete = 0 < self.bytes < description["total_bytes"]
            return description if is_same_address and is_incomplete else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def headers(self) -> dict[str, str]:
        """Headers that request the missing bytes; empty if the download cannot be continued.

        If-Range makes a server whose file has changed send the whole file.
        """
        if self._description is None:
            return {}
        return {"Range": f"bytes={self.bytes}-", "If-Range": self._description["validator"]}

    def continued_length(self, content_range: str) -> int | None:
        """The length of the whole file, if an answer holds exactly the missing bytes; else None.

        Args:
          content_range: the answer's header Content-Range.
        """
        match = _CONTENT_RANGE.match(content_range)
        if not match or self._description is None:
            return None
        first, last, total_bytes = map(int, match.groups())
        is_same_length = total_bytes == self._description["total_bytes"]
        return total_bytes if is_same_length and first == self.bytes and last == total_bytes - 1 else None

    def begin(self, headers: Mapping[str, str], total_bytes: int | None) -> None:
        """Deletes the bytes received so far, and prepares for an answer that holds the whole file.

        Args:
          headers: those of the answer.
          total_bytes: its length, if the server says it. Without it, or without a validator, the download cannot be
            continued later.
        """
        self.forget()
        validator = _validator(headers)
        if validator and total_bytes:
            self._description = {"address": self._address, "validator": validator, "total_bytes": total_bytes}
            with reporting_full_disk(self._description_path):
                self._description_path.write_text(json.dumps(self._description), "utf-8")
        with reporting_full_disk(self._part):
            self._part.touch()

    def add(self, block: bytes) -> None:
        """Appends bytes."""
        with reporting_full_disk(self._part), open(self._part, "ab") as file:
            file.write(block)
        self.bytes += len(block)

    def finish(self) -> None:
        """Moves the complete file to its path."""
        os.replace(self._part, self._path)
        self._description_path.unlink(missing_ok=True)

    def forget(self) -> None:
        """Deletes the bytes received so far."""
        self.bytes, self._description = 0, None
        for path in (self._part, self._description_path):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def _validator(headers: Mapping[str, str]) -> str | None:
    """What distinguishes a file from its other versions: a strong ETag, or the time of its last change."""
    tag = headers.get("ETag", "").strip()
    if re.fullmatch(r'"[\x21\x23-\x7e]{1,500}"', tag):
        return tag
    modified = headers.get("Last-Modified", "").strip()
    return modified if re.fullmatch(r"[\w,: +-]{10,60}", modified) else None
