"""Going through a tar archive once, forwards: what is in it, and at which byte.

Tar's own reader is not used for that: it believes a header that says how long a name is, and it keeps every member in
memory. Names, links and devices are only looked at, never made; nothing here writes.
"""

import dataclasses
import tarfile
from collections.abc import Iterator

from kinetics_prep.sources.tapes import Broken, Tape

_TAR_BLOCK_BYTES = 512
_LONGEST_NAME_BYTES = 1 << 20
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)

Words = dict[tuple[str, str], bytes]
"""(scope, keyword) -> value of headers that describe members to come: scope "g" for all, "x" for the next one."""


class NoTar(Exception):
    """The data do not begin as a tar archive does."""


@dataclasses.dataclass(frozen=True)
class Member:
    """A member of a tar archive whose data come next on the tape."""

    path: str
    """Bytes that are not UTF-8 are surrogates, as in Python's own paths."""
    size_bytes: int
    is_plain: bool
    """Whether it is a file stored byte for byte: not a folder, link, device, or sparse file."""
    is_folder: bool = False


def members(tape: Tape) -> Iterator[Member]:
    """Yields each member of the archive on a tape; the caller may read its data, and the rest is passed over.

    Members behind the archive's end mark are read too: two archives may have been joined.

    Raises:
      NoTar: if it does not begin with a header.
      Broken: where it cannot be read on, also at the end if that has no mark.
    """
    words: Words = {}
    ended, begins = False, tape.position
    while True:
        at = tape.position
        header = tape.read(_TAR_BLOCK_BYTES)
        if len(header) == _TAR_BLOCK_BYTES and not any(header):
            ended = True
            continue
        info = _header(header)
        if info is None:
            if ended:  # the rest is padding, or nothing of ours
                return
            if at == begins:
                raise NoTar(f"it begins with {header[:16]!r}" if header else "it is empty")
            raise Broken(f"at byte {at} it breaks off" if len(header) < _TAR_BLOCK_BYTES else f"at byte {at} is damage")
        ended = False
        if info.type in (*_PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            _add_words(info, _read_header_data(tape, info.size), words)
            continue
        member = _read_member(tape, header, info, words)
        end = tape.position + -(-member.size_bytes // _TAR_BLOCK_BYTES) * _TAR_BLOCK_BYTES
        yield member
        tape.pass_over(end - tape.position)
        words = {key: value for key, value in words.items() if key[0] == "g"}


def _header(header: bytes) -> tarfile.TarInfo | None:
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return None
    return info if info.size >= 0 else None


def _read_header_data(tape: Tape, size_bytes: int) -> bytes:
    """The data of a header that speaks of the next member."""
    if size_bytes > _LONGEST_NAME_BYTES:
        raise Broken(f"at byte {tape.position} is a header of {size_bytes} bytes")
    data = tape.read(size_bytes)
    tape.pass_over(-size_bytes % _TAR_BLOCK_BYTES)
    return data


def _add_words(info: tarfile.TarInfo, data: bytes, words: Words) -> None:
    """Takes in what a header says of members to come."""
    if info.type == tarfile.GNUTYPE_LONGNAME:
        words["x", "path"] = data.rstrip(b"\0")
    elif info.type != tarfile.GNUTYPE_LONGLINK:
        scope = "g" if info.type == tarfile.XGLTYPE else "x"
        words.update({(scope, word): value for word, value in _pax_records(data)})


def _pax_records(data: bytes) -> Iterator[tuple[str, bytes]]:
    while data.strip(b"\0"):
        length, _, rest = data.partition(b" ")
        if not length.isdigit() or not len(length) + 3 <= int(length[:8]) <= len(data):
            raise Broken("a header is damaged")
        record, data = rest[: int(length) - len(length) - 2], data[int(length) :]
        word, _, value = record.partition(b"=")
        yield word.decode("utf-8", "replace"), value


def _read_member(tape: Tape, header: bytes, info: tarfile.TarInfo, words: Words) -> Member:
    own = {word: value for scope in "gx" for (where, word), value in words.items() if where == scope}
    path = own["path"].decode("utf-8", "surrogateescape") if "path" in own else info.name
    sparse = info.type == tarfile.GNUTYPE_SPARSE or any(word.startswith("GNU.sparse.") for word in own)
    if info.type == tarfile.GNUTYPE_SPARSE:
        has_more = header[482] != 0
        while has_more:  # of the map of its holes
            block = tape.read(_TAR_BLOCK_BYTES)
            has_more = len(block) == _TAR_BLOCK_BYTES and block[504] != 0
    has_data = info.isreg() or info.type not in tarfile.SUPPORTED_TYPES
    size = own.get("size", b"%d" % info.size)
    if not size.isdigit() or len(size) > 19:
        raise Broken("a header is damaged")
    is_plain = info.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE) and not sparse
    return Member(path.replace("\0", "?"), int(size) if has_data else 0, is_plain, info.isdir())
