"""Reading a tar archive once, forwards: which members it has, and at which byte.

Python's `tarfile` is not used for that: it trusts a header that says how long a name is, and it keeps every member in
memory. Names, links and devices are only noted, never created; nothing here writes.
"""

import dataclasses
import tarfile
from collections.abc import Iterator

from kinetics_prep.sources.tapes import Broken, Tape

_TAR_BLOCK_BYTES = 512
_LONGEST_NAME_BYTES = 1 << 20
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENSIONS = (*_PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)

Extensions = dict[tuple[str, str], bytes]
"""What headers say about members: by ("g", word) about all that follow, by ("x", word) about the next one."""


class NotATar(Exception):
    """The file does not begin as a tar archive does."""


@dataclasses.dataclass(frozen=True)
class Member:
    """A member of a tar archive whose data come next on the tape."""

    path: str
    """Bytes that are not UTF-8 stand in it as surrogates, as in Python's own paths."""
    size_bytes: int
    is_plain: bool
    """Whether it is a file that stands there byte for byte: not a folder, link, device, or sparse file."""
    is_folder: bool = False


def members(tape: Tape) -> Iterator[Member]:
    """Yields each member of the archive on a tape. The caller may read its data; the rest is skipped.

    Members after the archive's end mark are yielded too: somebody may have joined two archives.

    Raises:
      NotATar: if it does not begin with a header.
      Broken: where it cannot be read further, also at an end without end mark.
    """
    extensions: Extensions = {}
    is_ended, begins = False, tape.position
    while True:
        at = tape.position
        header = tape.read(_TAR_BLOCK_BYTES)
        if len(header) == _TAR_BLOCK_BYTES and not any(header):
            is_ended = True
            continue
        info = _parse_header(header)
        if info is None:
            if is_ended:  # the rest is padding, or not tar
                return
            if at == begins:
                raise NotATar(f"it begins with {header[:16]!r}" if header else "it is empty")
            raise Broken(f"at byte {at} it breaks off" if len(header) < _TAR_BLOCK_BYTES else f"at byte {at} is damage")
        is_ended = False
        if info.type in _EXTENSIONS:
            extensions |= _parse_extension(info, _read_extension(tape, info.size))
            continue
        member = _member(tape, header, info, extensions)
        end = tape.position + -(-member.size_bytes // _TAR_BLOCK_BYTES) * _TAR_BLOCK_BYTES
        yield member
        tape.skip(end - tape.position)
        extensions = {key: value for key, value in extensions.items() if key[0] == "g"}


def _parse_header(header: bytes) -> tarfile.TarInfo | None:
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return None
    return info if info.size >= 0 else None


def _read_extension(tape: Tape, size_bytes: int) -> bytes:
    """The data of a header that describes later members."""
    if size_bytes > _LONGEST_NAME_BYTES:
        raise Broken(f"at byte {tape.position} is a header of {size_bytes} bytes")
    data = tape.read(size_bytes)
    tape.skip(-size_bytes % _TAR_BLOCK_BYTES)
    return data


def _parse_extension(info: tarfile.TarInfo, data: bytes) -> Extensions:
    if info.type == tarfile.GNUTYPE_LONGNAME:
        return {("x", "path"): data.rstrip(b"\0")}
    if info.type == tarfile.GNUTYPE_LONGLINK:
        return {}
    scope = "g" if info.type == tarfile.XGLTYPE else "x"
    return {(scope, word): value for word, value in _pax_records(data)}


def _pax_records(data: bytes) -> Iterator[tuple[str, bytes]]:
    while data.strip(b"\0"):
        length, _, rest = data.partition(b" ")
        if not length.isdigit() or not len(length) + 3 <= int(length[:8]) <= len(data):
            raise Broken("a header is damaged")
        record, data = rest[: int(length) - len(length) - 2], data[int(length) :]
        word, _, value = record.partition(b"=")
        yield word.decode("utf-8", "replace"), value


def _member(tape: Tape, header: bytes, info: tarfile.TarInfo, extensions: Extensions) -> Member:
    words = {word: value for scope in "gx" for (where, word), value in extensions.items() if where == scope}
    path = words["path"].decode("utf-8", "surrogateescape") if "path" in words else info.name
    is_sparse = info.type == tarfile.GNUTYPE_SPARSE or any(word.startswith("GNU.sparse.") for word in words)
    if info.type == tarfile.GNUTYPE_SPARSE:
        _skip_sparse_map(tape, header)
    has_data = info.isreg() or info.type not in tarfile.SUPPORTED_TYPES
    size = words.get("size", b"%d" % info.size)
    if not size.isdigit() or len(size) > 19:
        raise Broken("a header is damaged")
    is_plain = info.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE) and not is_sparse
    return Member(path.replace("\0", "?"), int(size) if has_data else 0, is_plain, info.isdir())


def _skip_sparse_map(tape: Tape, header: bytes) -> None:
    """Skips the blocks that continue the map of a sparse file's holes; each says whether another follows."""
    is_continued = bool(header[482])
    while is_continued:
        block = tape.read(_TAR_BLOCK_BYTES)
        is_continued = len(block) == _TAR_BLOCK_BYTES and bool(block[504])
