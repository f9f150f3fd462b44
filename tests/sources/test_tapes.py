"""Bytes that go by: the same from a file, from gzip streams, and from stretches of them; damage and bombs end them."""

import gzip
import io
import random
import zlib

import pytest

from kinetics_prep.sources import tapes
from kinetics_prep.sources.tapes import Broken, Budget, FileTape, GzipTape, TapePart

DATA = random.Random(0).randbytes(200_000) + bytes(100_000)


def file_tape(data: bytes) -> FileTape:
    return FileTape(io.BytesIO(data), len(data))


def gzip_tape(packed: bytes, budget_bytes: int = 1 << 30) -> GzipTape:
    return GzipTape(file_tape(packed), Budget(budget_bytes))


def part_tape(data: bytes) -> TapePart:
    tape = file_tape(b"before" + data + b"behind")
    tape.skip(6)
    return TapePart(tape, len(data))


def pieces(data: bytes) -> list[bytes]:
    return [data[k : k + 999] for k in range(0, len(data), 999)]


TAPES = {
    "file": file_tape,
    "gzip": lambda data: gzip_tape(gzip.compress(data)),
    "gzip in pieces": lambda data: gzip_tape(
        b"".join(gzip.compress(data[k : k + 999]) for k in range(0, len(data), 999))
    ),
    "part": part_tape,
    "gzip in gzip": lambda data: GzipTape(gzip_tape(gzip.compress(gzip.compress(data))), Budget(1 << 30)),
}


@pytest.mark.parametrize("kind", TAPES)
def test_reading_peeking_and_skipping_agree_with_the_bytes(kind):
    tape, rng = TAPES[kind](DATA), random.Random(1)
    base = at = tape.position
    while at - base < len(DATA):
        count, offset = rng.choice([1, 10, 512, 5000, 70_000]), at - base
        expected = DATA[offset : offset + count]
        assert tape.peek(count) == expected and tape.position == at
        if rng.random() < 0.5 or len(expected) < count:
            assert tape.read(count) == expected
        else:
            assert tape.skip(count) in (None, zlib.crc32(expected))
        at += len(expected)
        assert tape.position == at
    assert tape.read(10) == tape.peek(10) == b""


@pytest.mark.parametrize("kind", TAPES)
def test_no_tape_can_be_skipped_beyond_its_end(kind):
    tape = TAPES[kind](DATA)
    tape.skip(len(DATA) - 1)
    with pytest.raises(Broken, match="breaks off"):
        tape.skip(2)


@pytest.mark.parametrize("kind", TAPES)
def test_skipping_all_or_nothing_is_possible(kind):
    tape = TAPES[kind](DATA)
    assert tape.skip(0) in (None, 0)
    assert tape.skip(len(DATA)) in (None, zlib.crc32(DATA))
    assert tape.read(1) == b""


def test_skipped_bytes_of_a_file_are_not_read():
    class Unreadable(io.BytesIO):
        def read(self, *_):
            raise AssertionError("read")

    tape = FileTape(Unreadable(DATA), len(DATA))
    assert tape.skip(len(DATA)) is None and tape.position == len(DATA)


def test_zeros_and_other_bytes_behind_a_stream_are_no_part_of_it():
    for behind in (bytes(5000), b"garbage", bytes(600) + b"x", b"\x1f"):
        assert gzip_tape(gzip.compress(b"data") + behind).read(100) == b"data"
    assert gzip_tape(gzip.compress(b"1") + bytes(3 << 20) + gzip.compress(b"2")).read(100) == b"12"


@pytest.mark.parametrize("length", [10, 100, 1000, -9, -1])
def test_a_stream_cut_short_says_so_each_time(length):
    packed = gzip.compress(random.Random(2).randbytes(3000))
    tape = gzip_tape(packed[:length])
    for _ in range(2):
        with pytest.raises(Broken, match="its gzip stream breaks off"):
            while tape.read(1 << 20):
                pass


@pytest.mark.parametrize("offset, where", [(-5, "somewhere before"), (-1, "somewhere before"), (20, "there")])
def test_damage_of_a_stream_is_named(offset, where):
    packed = bytearray(gzip.compress(b"some words " * 1000))
    packed[offset] ^= 0xFF
    with pytest.raises(Broken, match=f"its gzip stream is damaged {where}|breaks off"):
        gzip_tape(bytes(packed)).skip(11_001)


def test_a_bomb_ends_when_the_budget_is_spent():
    bomb = gzip.compress(bytes(10_000_000))
    tape = gzip_tape(bomb, budget_bytes=3 << 20)
    with pytest.raises(Broken, match="over a hundred times its size"):
        tape.skip(10_000_000)
    assert tape.position <= 3 << 20


def test_millions_of_empty_streams_spend_the_budget_too():
    packed = gzip.compress(b"") * 100
    with pytest.raises(Broken, match="over a hundred times its size"):
        gzip_tape(packed, budget_bytes=99 * tapes._STREAM_BYTES).read(1)
    assert gzip_tape(packed, budget_bytes=100 * tapes._STREAM_BYTES).read(1) == b""


def test_a_budget_may_be_spent_to_its_end():
    budget = Budget(10)
    budget.spend(4)
    budget.spend(6)
    assert budget.left_bytes == 0
    with pytest.raises(Broken):
        budget.spend(1)


def test_nothing_behind_a_part_is_seen():
    tape = part_tape(b"inside")
    assert tape.position == 6
    assert tape.peek(100) == b"inside" and tape.read(100) == b"inside" and tape.position == 12
    assert tape.peek(1) == tape.read(1) == b""
    with pytest.raises(Broken, match="within the archive that it is packed in"):
        tape.skip(1)
