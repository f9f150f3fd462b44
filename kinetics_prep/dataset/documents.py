"""JSON documents of a prepared folder. Each holds its own sha256, so that no flipped byte goes unnoticed.

Documents of format 1, which kinetics-prep wrote before, have none.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from kinetics_prep.errors import CorruptShard, NewerFormat
from kinetics_prep.storage.store import Store

VERSION = 2
"""Of the format. It goes up where an older version would read a document wrongly, not for what it may pass over."""

LARGEST_BYTES = 256 << 20
"""Of a document. The dataset.json of 650,000 clips in two formats has about 30 MB."""

_DIGEST = "sha256"


def encode(content: Mapping[str, Any]) -> bytes:
    """A document with its version and its sha256, as UTF-8."""
    body = {"version": VERSION, **content}
    return _text(body | {_DIGEST: _sha256(body)})


def decode(data: bytes, where: str) -> dict[str, Any]:
    """The content of a document, without its sha256.

    Args:
      where: names the document in messages.

    Raises:
      CorruptShard: if it is not a document, or not as it was written.
      NewerFormat: if only a newer kinetics-prep can read it.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptShard(f"{where} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise CorruptShard(f"{where} holds {type(content).__name__}, expected an object")
    version = content.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise CorruptShard(f"{where} has version {version!r:.40}, expected a whole number from 1")
    if version > VERSION and _has_damaged_version(content):
        raise CorruptShard(f"{where} is damaged: it says format {version}, its checksum is that of format {VERSION}")
    if version > VERSION:
        raise NewerFormat(
            f"{where} has format {version}, this kinetics-prep reads formats 1 to {VERSION}: upgrade kinetics-prep"
        )
    # A document with a checksum is not of format 1, whatever it says: its version may be what is damaged.
    if (version > 1 or _DIGEST in content) and not _is_as_written(content, data):
        raise CorruptShard(f"{where} is damaged: it does not read back as it was written")
    content.pop(_DIGEST, None)
    return content


def _is_as_written(content: Mapping[str, Any], data: bytes) -> bool:
    body = {name: value for name, value in content.items() if name != _DIGEST}
    try:
        return _text(body | {_DIGEST: _sha256(body)}) == data
    except RecursionError:  # C code parses deeper nesting than Python code writes
        return False


def _has_damaged_version(content: Mapping[str, Any]) -> bool:
    """Whether a document that claims a newer format is one of this format but for that number."""
    whole = {**content, "version": VERSION}
    digest = whole.pop(_DIGEST, None)
    try:
        return digest == _sha256(whole)
    except RecursionError:  # C code parses deeper nesting than Python code writes
        return False


def write(store: Store, key: str, content: Mapping[str, Any]) -> None:
    """Writes a document, or replaces it."""
    store.put(key, encode(content))


def read(store: Store, key: str) -> dict[str, Any]:
    """Reads a document.

    Raises:
      FileNotFoundError: if there is none.
      CorruptShard: if it is damaged or cannot be read.
      NewerFormat: if only a newer kinetics-prep can read it.
    """
    where = f"{store.place}/{key}"
    try:
        data = _read(store, key, where)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise CorruptShard(f"{where} cannot be read: {error.strerror}") from None
    if not data:
        raise CorruptShard(f"{where} is empty")
    return decode(data, where)


def _read(store: Store, key: str, where: str) -> bytes:
    try:
        with store.local(key) as path:
            size = path.stat().st_size
            if size > LARGEST_BYTES:
                raise CorruptShard(f"{where} has {size} bytes, expected {LARGEST_BYTES} at most")
            return path.read_bytes()
    except FileNotFoundError:
        return store.read(key)  # an empty file, or none


def _sha256(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(body)).hexdigest()


def _text(body: Mapping[str, Any]) -> bytes:
    return (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
