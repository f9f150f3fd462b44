"""The index of an archive: its file, what is read back from it, and what is refused."""

import dataclasses
import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from kinetics_prep.sources import archive_index
from kinetics_prep.sources.archive_index import (
    MEMBER,
    POINT,
    Contents,
    DamagedIndex,
    Layer,
    PackedVideo,
    Stamp,
    load,
    save,
    word_key,
)

STAMP = Stamp("/a/b.tar.gz", 1000, 5)
NAMES = ("d/abc.mp4", "in.tar\0x/é.mp4", "caf\udce9.mp4")


def contents() -> Contents:
    """Three videos in an archive with two gzip streams in it."""
    encoded = [name.encode("utf-8", "surrogateescape") for name in NAMES]
    starts = np.cumsum([0, *map(len, encoded)])
    rows = [(1, 512, 10, 7, starts[0], len(encoded[0])), (2, 0, 1 << 40, -1, starts[1], len(encoded[1]))]
    rows.append((0, 3, 0, (1 << 32) - 1, starts[2], len(encoded[2])))
    points = [(1, 0, 0, 0, False), (1, 9 << 20, 99, 7, True), (2, 0, 0, 0, False), (2, 8 << 20, 50, 0, True)]
    return Contents(
        layers=(Layer(0, 0, 1000), Layer(0, 0, 1000), Layer(1, 512, 300)),
        warnings=("it breaks off",),
        members=np.array(rows, MEMBER),
        names=b"".join(encoded),
        keys=np.array([word_key(word) for word in ("abc", "é", "caf")], "<u8"),
        numbers=np.array([0, 1, 2], "<u4"),
        points=np.array(points, POINT),
    )


WINDOWS = (b"1" * (1 << 15), b"2" * (1 << 15))


@pytest.fixture
def file(tmp_path) -> Path:
    save(tmp_path / "x.index", STAMP, contents(), WINDOWS)
    return tmp_path / "x.index"


def test_what_was_saved_is_loaded(file):
    index = load(file, STAMP)
    assert (index.file, index.stamp, len(index)) == (file, STAMP, 3)
    for field in dataclasses.fields(Contents):
        assert np.array_equal(getattr(index.contents, field.name), getattr(contents(), field.name)), field.name
    assert [index._window(number) for number in (1, 3)] == list(WINDOWS)


def test_videos_are_described(file):
    index = load(file, STAMP)
    assert index.video(0) == PackedVideo("d/abc.mp4", (), 1, 512, 10, 7)
    assert index.video(1) == PackedVideo("x/é.mp4", ("in.tar",), 2, 0, 1 << 40, None)
    assert index.video(2) == PackedVideo("caf\udce9.mp4", (), 0, 3, 0, (1 << 32) - 1)


def test_a_crc_of_zero_is_known(tmp_path):
    """It is that of an empty video."""
    save(tmp_path / "x.index", STAMP, changed("members", 0, "crc", 0), WINDOWS)
    assert load(tmp_path / "x.index", STAMP).video(0).crc == 0


def test_the_file_is_as_other_versions_read_it(file):
    with zipfile.ZipFile(file) as archive:
        names = ["about.json", "members", "names", "keys", "numbers", "points", "windows/1", "windows/3"]
        assert archive.namelist() == names
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read("about.json").decode() == json.dumps(
            {
                "version": 1,
                "archive": {"path": "/a/b.tar.gz", "size_bytes": 1000, "mtime_ns": 5},
                "layers": [[0, 0, 1000], [0, 0, 1000], [1, 512, 300]],
                "warnings": ["it breaks off"],
            }
        )
        assert len(archive.read("members")) == 3 * 40 and len(archive.read("points")) == 4 * 22


@pytest.mark.parametrize("changed", [{"path": "/other"}, {"size_bytes": 1001}, {"mtime_ns": 6}])
def test_an_index_of_another_state_of_the_archive_is_refused(file, changed):
    with pytest.raises(DamagedIndex, match="it is of another archive"):
        load(file, dataclasses.replace(STAMP, **changed))


def test_an_index_of_another_version_is_refused(file, monkeypatch):
    monkeypatch.setattr(archive_index, "VERSION", 2)
    with pytest.raises(DamagedIndex, match="another archive"):
        load(file, STAMP)


def test_a_missing_index_is_refused(tmp_path):
    with pytest.raises(DamagedIndex, match="FileNotFoundError"):
        load(tmp_path / "none.index", STAMP)


def test_a_changed_byte_anywhere_is_refused_or_harmless(file):
    good, kept = file.read_bytes(), contents()
    for offset in range(0, len(good), 97):
        data = bytearray(good)
        data[offset] ^= 0x55
        file.write_bytes(data)
        try:
            index = load(file, STAMP)
        except DamagedIndex:
            continue
        for field in dataclasses.fields(Contents):
            assert np.array_equal(getattr(index.contents, field.name), getattr(kept, field.name))


def changed(array: str, row: int, field: str, value) -> Contents:
    kept = contents()
    rows = getattr(kept, array).copy()
    rows[field][row] = value
    return dataclasses.replace(kept, **{array: rows})


BAD = {
    "more keys than numbers": dataclasses.replace(contents(), numbers=np.array([0, 1], "<u4")),
    "a word of no member": dataclasses.replace(contents(), numbers=np.array([0, 1, 3], "<u4")),
    "a member of no layer": changed("members", 0, "layer", 3),
    "an offset beyond measure": changed("members", 0, "offset", 1 << 62),
    "a size beyond measure": changed("members", 0, "size", 1 << 62),
    "a name that begins beyond measure": changed("members", 0, "name_at", 1 << 62),
    "a name that ends beyond the names": changed(
        "members", 2, "name_bytes", len(NAMES[2].encode("utf-8", "surrogateescape")) + 1
    ),
    "a crc of more than 32 bits": changed("members", 0, "crc", 1 << 32),
    "a point beyond measure": changed("points", 3, "packed", 1 << 62),
    "an unpacked offset beyond measure": changed("points", 3, "unpacked", 1 << 62),
    "eight bits": changed("points", 1, "bits", 8),
    "two points at the beginning": changed("points", 1, "unpacked", 0),
    "two points at the same offset": dataclasses.replace(contents(), points=contents().points[[0, 1, 1, 2, 3]]),
    "points that fall": dataclasses.replace(contents(), points=contents().points[[1, 0, 2, 3]]),
    "no point at the beginning of a layer": changed("points", 2, "unpacked", 1),
    "points that are not sorted by layer": changed("points", 0, "layer", 2),
    "a layer within itself": dataclasses.replace(contents(), layers=(Layer(0, 0, 1), Layer(0, 0, 1), Layer(2, 0, 1))),
    "a layer of negative size": dataclasses.replace(
        contents(), layers=(Layer(0, 0, 1), Layer(0, 0, 1), Layer(1, 0, -1))
    ),
    "a layer at a negative offset": dataclasses.replace(
        contents(), layers=(Layer(0, 0, 1), Layer(0, -1, 1), Layer(1, 0, 1))
    ),
    "fewer layers than points have": dataclasses.replace(contents(), layers=(Layer(0, 0, 1), Layer(0, 0, 1))),
}


@pytest.mark.parametrize("how", BAD)
def test_an_index_that_refers_to_nothing_is_refused(tmp_path, how):
    save(tmp_path / "x.index", STAMP, BAD[how], WINDOWS)
    with pytest.raises(DamagedIndex):
        load(tmp_path / "x.index", STAMP)


@pytest.mark.parametrize("window", [b"", bytes((1 << 15) - 1), bytes((1 << 15) + 1)])
def test_a_window_of_another_length_is_damage(tmp_path, window):
    save(tmp_path / "x.index", STAMP, contents(), (window, WINDOWS[1]))
    index = load(tmp_path / "x.index", STAMP)
    with pytest.raises(DamagedIndex, match="a window has another length"):
        index._window(1)
    assert index._window(3) == WINDOWS[1]


def test_an_index_that_vanishes_is_damage(file):
    index = load(file, STAMP)
    file.unlink()
    with pytest.raises(DamagedIndex):
        index._window(1)


def test_a_packed_index_is_refused_unread(file):
    with zipfile.ZipFile(file) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in members.items():
            new.writestr(name, data)
    with pytest.raises(DamagedIndex, match="it is packed"):
        load(file, STAMP)


def test_a_video_of_the_archives_own_bytes_is_read_from_it(file):
    index = load(file, STAMP)
    plain = PackedVideo("x", (), 0, 3, 5, None)
    assert b"".join(index.blocks(io.BytesIO(b"012345678"), plain)) == b"34567"


def test_a_word_has_the_same_number_on_every_machine():
    assert word_key("abc") == int.from_bytes(hashlib.blake2b(b"abc", digest_size=8).digest(), "little")
    assert word_key("caf\udce9") == int.from_bytes(hashlib.blake2b(b"caf\xe9", digest_size=8).digest(), "little")


def test_a_stamp_holds_path_size_and_time(tmp_path):
    path = tmp_path / os.fsdecode(b"a.tar")
    path.write_bytes(b"12345")
    os.utime(path, ns=(0, 10**18 + 1))
    assert Stamp.of(path, path.stat()) == Stamp(str(path), 5, 10**18 + 1)
