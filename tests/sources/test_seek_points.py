"""Reading gzip streams from the middle: the same bytes from every point, and errors instead of other bytes."""

import contextlib
import gzip
import io
import itertools
import random
import zlib

import pytest

from kinetics_prep.sources import seek_points
from kinetics_prep.sources.seek_points import FileBytes, Gzip, Point, Slice, find_points


@pytest.fixture(autouse=True)
def close_points(monkeypatch):
    """Points every 64 KiB in place of 8 MiB, so that small streams have many."""
    monkeypatch.setattr(seek_points, "SPACING_BYTES", 1 << 16)


@pytest.fixture(scope="module")
def data() -> bytes:
    rng = random.Random(0)
    return b"".join(rng.randbytes(50_000) + bytes(rng.choices(b"abcd", k=50_000)) for _ in range(8))


def slice_of(data: bytes, offset: int = 0) -> Slice:
    return Slice(FileBytes(io.BytesIO(data)), offset, len(data) - offset)


def opened(packed: bytes, unpacked_bytes: int) -> Gzip:
    points, windows = find_points(slice_of(packed), unpacked_bytes)
    by_point = dict(zip((k for k, point in enumerate(points) if point.has_window), windows))
    return Gzip(slice_of(packed), len(packed), points, by_point.__getitem__)


PACKED = {
    "one stream": lambda data: gzip.compress(data, 1),
    "stored": lambda data: gzip.compress(data, 0),
    "many streams": lambda data: b"".join(gzip.compress(data[k : k + 90_000]) for k in range(0, len(data), 90_000)),
    "tiny streams": lambda data: b"".join(gzip.compress(data[k : k + 500], 1) for k in range(0, len(data), 500)),
}


@pytest.mark.parametrize("kind", PACKED)
def test_every_stretch_is_read_as_it_is(data, kind):
    stream, rng = opened(PACKED[kind](data), len(data)), random.Random(1)
    edges = [0, 1, 65535, 65536, 65537, len(data) - 1, len(data)]
    for _ in range(60):
        offset = rng.choice([*edges, rng.randrange(len(data))])
        size_bytes = rng.choice([0, 1, 1000, 70_000, 200_000])
        assert stream.read(offset, size_bytes) == data[offset : offset + size_bytes]
    assert stream.read(0, len(data) + 5) == data and stream.read(len(data), 5) == b""


@pytest.mark.parametrize("kind", PACKED)
def test_points_begin_at_zero_rise_and_keep_their_distance(data, kind):
    points, windows = find_points(slice_of(PACKED[kind](data)), len(data))
    assert points[0] == Point(0, 0, 0, False) and len(points) > 5
    steps = [after.unpacked - before.unpacked for before, after in itertools.pairwise(points)]
    assert min(steps) >= 1 << 15 and max(steps) < 1 << 18
    assert all(after.packed > before.packed for before, after in itertools.pairwise(points))
    assert sum(point.has_window for point in points) == len(windows)
    assert all(point.unpacked < len(data) and 0 <= point.bits < 8 for point in points)


def test_a_window_is_what_came_out_before_its_point(data):
    points, windows = find_points(slice_of(gzip.compress(data, 1)), len(data))
    with_window = [point for point in points if point.has_window]
    assert [data[point.unpacked - (1 << 15) : point.unpacked] for point in with_window] == windows


def test_zlib_itself_can_begin_at_a_point():
    # Text, as stored blocks begin at whole bytes, which shifting by some bits would undo.
    data = bytes(random.Random(0).choices(b"abcdefgh", k=1_000_000))
    packed = gzip.compress(data, 1)
    points, windows = find_points(slice_of(packed), len(data))
    for point, window in zip(points[1:], windows, strict=True):
        stretch = packed[point.packed - 1 : point.packed + 5000]  # deflate fills bytes from their lowest bit on
        bits = int.from_bytes(stretch, "little") >> (8 - point.bits)
        unpacker = zlib.decompressobj(wbits=-15, zdict=window)
        unpacked = unpacker.decompress(bits.to_bytes(len(stretch), "little"), 1000)
        assert unpacked == data[point.unpacked : point.unpacked + 1000]
    assert len({point.bits for point in points}) > 3


def test_a_short_stream_has_its_beginning_alone():
    assert find_points(slice_of(gzip.compress(b"short")), 5) == ([Point(0, 0, 0, False)], [])
    assert opened(gzip.compress(b"short"), 5).read(1, 3) == b"hor"


def test_of_a_stream_cut_short_there_are_the_points_before_the_cut(data):
    packed = gzip.compress(data, 1)
    whole, _ = find_points(slice_of(packed), len(data))
    points, windows = find_points(slice_of(packed[: len(packed) // 2]), len(data) // 3)
    assert 1 < len(points) < len(whole) and points == whole[: len(points)]
    assert sum(point.has_window for point in points) == len(windows)
    stream = Gzip(slice_of(packed), len(packed), points, dict(zip(range(1, 99), windows)).__getitem__)
    assert stream.read(200_000, 30_000) == data[200_000:230_000]


def test_blocks_end_at_points(data):
    stream = opened(gzip.compress(data, 1), len(data))
    starts = [point.unpacked for point in stream._points]
    ends, offset = [], 1000
    for block in stream.blocks(1000, len(data) - 1000):
        offset += len(block)
        ends.append(offset)
    assert ends == [*starts[1:], len(data)]


def test_damage_is_an_error_or_other_bytes_of_the_same_stretch_alone(data):
    packed = bytearray(gzip.compress(data, 1))
    points, windows = find_points(slice_of(bytes(packed)), len(data))
    packed[points[4].packed + 500] ^= 0xFF
    stream = Gzip(slice_of(bytes(packed)), len(packed), points, dict(zip(range(1, 99), windows)).__getitem__)
    assert stream.read(0, points[4].unpacked) == data[: points[4].unpacked]
    assert stream.read(points[5].unpacked, 5000) == data[points[5].unpacked : points[5].unpacked + 5000]
    with contextlib.suppress(OSError, ValueError):
        assert stream.read(points[4].unpacked, 60_000) != data[points[4].unpacked : points[4].unpacked + 60_000]


def test_a_missing_point_in_the_middle_is_an_error_and_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(seek_points, "_LONGEST_GAP_BYTES", 1000)
    points = [Point(0, 0, 0, False), Point(5000, 10, 0, True)]
    stream = Gzip(slice_of(b"x" * 100), 100, points, lambda k: bytes(1 << 15))
    with pytest.raises(ValueError, match="there is no point to begin at for 5000 bytes"):
        stream.read(0, 9000)


def test_bytes_around_each_point_are_read_as_they_are(data):
    stream = opened(gzip.compress(data, 1), len(data))
    for point in stream._points[1:]:
        for offset in (point.unpacked - 1, point.unpacked, point.unpacked + 1):
            assert stream.read(offset, 10) == data[offset : offset + 10]


def test_a_stream_that_ends_before_a_point_gives_what_there_is(data):
    """An index may say anything; bytes from beyond the gap must not be taken for those in it."""
    packed = gzip.compress(data[:100_000])
    points = [Point(0, 0, 0, False), Point(150_000, 50, 0, True)]
    stream = Gzip(slice_of(packed), len(packed), points, lambda k: bytes(1 << 15))
    assert stream.read(0, 200_000) == data[:100_000]


@pytest.mark.parametrize("how", ["cut", "damaged"])
def test_of_a_damaged_stream_the_points_before_the_damage_are_found(data, how):
    packed = bytearray(gzip.compress(data, 1))
    whole, _ = find_points(slice_of(bytes(packed)), len(data))
    at = whole[5].packed + 1000
    packed[at:] = b"" if how == "cut" else b"\xff" * (len(packed) - at)
    points, windows = find_points(slice_of(bytes(packed)), len(data))
    assert whole[:6] == points[:6] and len(points) <= 7
    assert len(windows) == len(points) - 1


def test_an_index_in_another_format_of_indexed_gzip_is_a_bug_that_is_named(data, monkeypatch):
    monkeypatch.setattr(seek_points, "_VERSION", 2)
    with pytest.raises(RuntimeError, match=r"indexed_gzip .* writes another kind of index"):
        find_points(slice_of(gzip.compress(data)), len(data))


def test_the_number_of_points_has_a_limit(data, monkeypatch):
    monkeypatch.setattr(seek_points, "_MOST_POINTS", 4)
    stream = opened(gzip.compress(data, 1), len(data))
    assert 3 <= len(stream._points) <= 5
    assert stream.read(500_000, 5000) == data[500_000:505_000]


def test_a_stream_that_grows_beyond_measure_has_points_further_apart(monkeypatch):
    monkeypatch.setattr(seek_points, "_MOST_POINTS", 4)
    data = bytes(2_000_000)
    points, _ = find_points(slice_of(gzip.compress(data)), len(data))
    assert len(points) <= 5 and opened(gzip.compress(data), len(data)).read(1_999_000, 5000) == bytes(1000)


# Files and slices


@pytest.mark.parametrize("offset, wanted_bytes", [(0, 5), (3, 100), (0, 0), (2 << 20, 3 << 20), (99 << 20, 1)])
def test_bytes_of_a_file(offset, wanted_bytes):
    data = random.Random(0).randbytes(5 << 20)
    source = FileBytes(io.BytesIO(data))
    expected = data[offset : offset + wanted_bytes]
    assert source.read(offset, wanted_bytes) == b"".join(source.blocks(offset, wanted_bytes)) == expected
    assert all(0 < len(block) <= 1 << 20 for block in source.blocks(offset, wanted_bytes))


def test_a_slice_is_a_file_of_its_own():
    part = Slice(FileBytes(io.BytesIO(b"..inside..")), 2, 6)
    with io.BufferedReader(part) as file:
        assert file.read() == b"inside" and file.read() == b""
        assert file.seek(-2, io.SEEK_END) == 4 and file.read() == b"de"
        assert file.seek(2) == 2 and file.seek(1, io.SEEK_CUR) == 3 and file.read(2) == b"id"
        assert file.seek(99) == 99 and file.read() == b""


def test_a_slice_never_begins_before_its_source():
    part = Slice(FileBytes(io.BytesIO(b"..inside..")), 2, 6)
    assert part.seek(-5, io.SEEK_CUR) == 0 and part.tell() == 0
    assert part.read(3) == b"ins"


def test_pieces_of_a_stream_within_a_stream_are_larger(data):
    inner = opened(gzip.compress(data, 1), len(data))
    assert Slice(inner, 0, 5).piece_bytes == seek_points.SPACING_BYTES
    assert slice_of(b"").piece_bytes == 1 << 20
