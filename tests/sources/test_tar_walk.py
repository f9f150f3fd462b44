"""Members of tar archives as they go by: the same as Python's own reader finds, and no header is trusted."""

import io
import random
import tarfile

import pytest

from kinetics_prep.sources.tapes import Broken, FileTape
from kinetics_prep.sources.tar_walk import NotATar, members

FORMATS = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT, "ustar": tarfile.USTAR_FORMAT}


def tape(data: bytes) -> FileTape:
    return FileTape(io.BytesIO(data), len(data))


def tar_of(*contents: tuple[str, bytes], kind: int = tarfile.PAX_FORMAT, headers: dict | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind, pax_headers=headers) as archive:
        for name, content in contents:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def walked(data: bytes) -> list[tuple[str, int, int]]:
    """(path, offset, size) of each member."""
    walk = tape(data)
    return [(member.path, walk.position, member.size_bytes) for member in members(walk)]


@pytest.mark.parametrize("kind", FORMATS)
def test_members_are_those_that_pythons_reader_finds(kind):
    rng = random.Random(0)
    sizes = [0, 1, 511, 512, 513, 5000]
    contents = [(f"{'d' * rng.randrange(1, 90)}/{k}.mp4", rng.randbytes(size)) for k, size in enumerate(sizes * 3)]
    data = tar_of(*contents, kind=FORMATS[kind])
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        expected = [(info.name, info.offset_data, info.size) for info in archive]
    assert walked(data) == expected and len(expected) == 18
    assert [data[offset : offset + size] for _, offset, size in expected] == [content for _, content in contents]


@pytest.mark.parametrize("read_bytes", [0, 1, 700, 5000])
def test_a_caller_may_read_of_a_member_what_it_likes(read_bytes):
    walk, names = tape(tar_of(("a", bytes(5000)), ("b", b"x"))), []
    for member in members(walk):
        names.append(member.path)
        walk.read(min(read_bytes, member.size_bytes))
    assert names == ["a", "b"]


@pytest.mark.parametrize("length", [99, 100, 101, 155, 256, 300, 5000])
@pytest.mark.parametrize("kind", ["pax", "gnu"])
def test_names_of_any_length_are_read_whole(kind, length):
    name = ("d" * 50 + "/") * (length // 51) + "e" * (length % 51 or 1)
    ((path, _, _),) = walked(tar_of((name, b"x"), kind=FORMATS[kind]))
    assert path == name


def test_a_name_in_a_header_counts_for_the_next_member_alone():
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        data = tar_of(("é" * 200, b"1"), ("short", b"2"), kind=kind)
        assert [path for path, _, _ in walked(data)] == ["é" * 200, "short"]


@pytest.mark.parametrize("kind", ["pax", "gnu"])
def test_the_long_target_of_a_link_is_not_its_name(kind):
    link, after = tarfile.TarInfo("link.mp4"), tar_of(("after", b"x"))
    link.type, link.linkname = tarfile.SYMTYPE, "t" * 300 + ".mp4"
    first, second = members(tape(link.tobuf(FORMATS[kind]) + after))
    assert (first.path, first.is_plain, first.size_bytes) == ("link.mp4", False, 0)
    assert (second.path, second.is_plain) == ("after", True)


def test_global_headers_count_for_all_members_and_those_of_a_member_come_first():
    data = tar_of(("a", b"1"), ("b" * 200, b"2"), ("c", b"3"), headers={"path": "global"})
    assert [path for path, _, _ in walked(data)] == ["global", "b" * 200, "global"]


def test_a_size_in_a_header_replaces_that_of_the_member():
    """As in archives with members above 8 GB."""
    info = tarfile.TarInfo("a")
    info.size, info.pax_headers = 0, {"size": "3"}
    data = info.tobuf(tarfile.PAX_FORMAT) + b"abc".ljust(512, b"\0") + tar_of(("b", b"x"))
    assert [(path, size) for path, _, size in walked(data)] == [("a", 3), ("b", 1)]


@pytest.mark.parametrize("size", ["-1", "1e3", "x", "9" * 20, ""])
def test_a_size_that_is_no_number_is_damage(size):
    info = tarfile.TarInfo("a")
    info.pax_headers = {"size": size}
    with pytest.raises(Broken, match="a header is damaged"):
        walked(info.tobuf(tarfile.PAX_FORMAT) + bytes(1024))


@pytest.mark.parametrize("record", [b"5 a=b\n", b"x a=b\n", b"99 a=b\n", b"0 a=b\n", b"6a=b\n", b"3 =\n", b"-6 a=b\n"])
def test_a_pax_record_with_a_wrong_length_is_damage(record):
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(record)
    data = info.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + tar_of(("b", b"x"))
    with pytest.raises(Broken, match="a header is damaged"):
        walked(data)


@pytest.mark.parametrize("size_bytes, is_read", [(1 << 20, True), ((1 << 20) + 1, False), (1 << 50, False)])
def test_a_header_longer_than_a_mebibyte_is_not_read(size_bytes, is_read):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, size_bytes
    data = info.tobuf(tarfile.GNU_FORMAT) + b"n" * (1 << 20) + tar_of(("b", b"x"))
    if is_read:
        assert walked(data)[0][0] == "n" * (1 << 20)
    else:
        with pytest.raises(Broken, match=f"is a header of {size_bytes} bytes"):
            walked(data)


@pytest.mark.parametrize(
    "kind, is_plain, is_folder, size_bytes",
    [
        (tarfile.REGTYPE, True, False, 3),
        (tarfile.AREGTYPE, True, False, 3),
        (tarfile.CONTTYPE, True, False, 3),
        (tarfile.DIRTYPE, False, True, 0),
        (tarfile.SYMTYPE, False, False, 0),
        (tarfile.LNKTYPE, False, False, 0),
        (tarfile.FIFOTYPE, False, False, 0),
        (tarfile.CHRTYPE, False, False, 0),
        (b"Z", False, False, 3),  # a kind of the future has data, as POSIX says
    ],
)
def test_the_kind_of_a_member_says_whether_it_has_data(kind, is_plain, is_folder, size_bytes):
    info = tarfile.TarInfo("a")
    info.type, info.size = kind, 3
    body = b"abc".ljust(512, b"\0") if size_bytes else b""
    first, second = members(tape(info.tobuf(tarfile.USTAR_FORMAT) + body + tar_of(("b", b"x"))))
    assert (first.is_plain, first.is_folder, first.size_bytes) == (is_plain, is_folder, size_bytes)
    assert second.path == "b"


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "it is empty"),
        (b"short", "it begins with b'short'"),
        (b"<!DOCTYPE html>" * 100, "it begins with b'<!DOCTYPE html><'"),
        (b"\xff" * 1024, "it begins with"),
    ],
)
def test_what_begins_without_a_header_is_not_a_tar(data, message):
    with pytest.raises(NotATar, match=message):
        walked(data)


def test_an_archive_of_nothing_but_its_end_mark_has_no_members():
    assert walked(bytes(1024)) == walked(bytes(512)) == []


def test_archives_after_the_end_mark_are_read_and_padding_is_not():
    first, second = tar_of(("a", b"1")), tar_of(("b", b"2"))
    assert [path for path, _, _ in walked(first + second)] == ["a", "b"]
    assert [path for path, _, _ in walked(first + b"padding" * 200)] == ["a"]


def test_an_archive_after_the_end_mark_needs_an_end_mark_of_its_own():
    first, second = tar_of(("a", b"1")), tar_of(("b", b"2"))[:1024]
    with pytest.raises(Broken, match=f"at byte {len(first) + 1024} it breaks off"):
        walked(first + second)


@pytest.mark.parametrize(
    "behind, message", [(b"", "at byte 1024 it breaks off"), (b"x" * 512, "at byte 1024 is damage")]
)
def test_the_place_of_damage_is_named(behind, message):
    with pytest.raises(Broken, match=message):
        walked(tar_of(("a", b"1"))[:1024] + behind)


def test_a_nul_in_a_name_does_not_end_it():
    info = tarfile.TarInfo("a")
    info.pax_headers = {"path": "a\0b.mp4"}
    ((path, _, _),) = walked(info.tobuf(tarfile.PAX_FORMAT) + bytes(1024))
    assert path == "a?b.mp4"  # NUL stands between the names of nested archives in an index
