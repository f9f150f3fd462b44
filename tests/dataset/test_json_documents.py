"""JSON documents on disk: each holds its own checksum, and a version that is read."""

import json

import pytest
import small_dataset

from kinetics_prep.dataset import documents
from kinetics_prep.errors import CorruptShard, NewerFormat

CONTENT = {"name": "zażółć \U0001f600", "counts": [1, 2.5, None, True], "deep": {"a": {"b": []}}}


@pytest.fixture
def store(tmp_path):
    return small_dataset.store_of(tmp_path / "out")


def test_a_document_reads_back_with_its_version_and_without_its_checksum(store):
    documents.write(store, "a/b.json", CONTENT)
    assert documents.read(store, "a/b.json") == {"version": 2, **CONTENT}
    data = store.read("a/b.json")
    assert json.loads(data)["version"] == 2
    assert len(json.loads(data)["sha256"]) == 64
    assert "zażółć".encode() in data
    assert documents.encode(CONTENT) == data


def test_text_that_is_not_unicode_is_kept(store):
    """File names of a Linux system may be so."""
    documents.write(store, "a.json", {"path": "\udcff.mp4"})
    assert documents.read(store, "a.json")["path"] == "\udcff.mp4"


def test_no_byte_can_be_flipped_unnoticed():
    data = documents.encode({"name": "ż", "count": 1, "deep": {"a": [1.5, None]}})
    for place in range(len(data)):
        for byte in {data[place] ^ 1 << bit for bit in range(8)} | {ord(" "), ord("1"), ord('"'), ord("}"), 0}:
            if byte != data[place]:
                damaged = data[:place] + bytes([byte]) + data[place + 1 :]
                with pytest.raises((CorruptShard, NewerFormat), match="a document"):
                    documents.decode(damaged, "a document")


def test_no_part_can_be_missing_or_added_unnoticed():
    data = documents.encode({"name": "a", "count": 1})
    for length in range(len(data)):
        with pytest.raises(CorruptShard):
            documents.decode(data[:length], "a document")
    for place in range(len(data) + 1):
        for added in (b" ", b"\n", b"0", b"\0", b"\xef\xbb\xbf"):
            with pytest.raises((CorruptShard, NewerFormat)):
                documents.decode(data[:place] + added + data[place:], "a document")


DAMAGED = {
    "empty": (b"", "is not JSON"),
    "not text": (b"\xff\xff", "is not JSON"),
    "a number without end": (b'{"version": ' + b"9" * 10_000 + b"}", "is not JSON|has version"),
    "nested without end": (b"[" * 100_000, "is not JSON"),
    "a list": (b"[]", "holds list, expected an object"),
    "nothing": (b"null", "holds NoneType, expected an object"),
    "no version": (b"{}", "has version None, expected a whole number from 1"),
    "a version that is a truth": (b'{"version": true}', "has version True"),
    "a version that is a text": (b'{"version": "2"}', "has version '2'"),
    "a version of no worth": (b'{"version": 0}', "has version 0"),
    "a version in parts": (b'{"version": 2.0}', "has version 2.0"),
    "no checksum": (b'{"version": 2}', "is damaged: it does not read back as it was written"),
    "a checksum of another type": (b'{"version": 2, "sha256": []}', "is damaged"),
    "another layout": (json.dumps(json.loads(documents.encode({"a": 1}))).encode(), "is damaged"),
    "a key twice": (documents.encode({"a": 1}).replace(b' "a": 1,', b' "a": 2,\n "a": 1,'), "is damaged"),
    "format 1 with a checksum": (documents.encode({}).replace(b'"version": 2', b'"version": 1'), "is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_what_is_no_document_is_refused_in_words(damage):
    data, message = DAMAGED[damage]
    with pytest.raises(CorruptShard, match=f"^out/a.json (?:{message})"):
        documents.decode(data, "out/a.json")


@pytest.mark.parametrize("depth", [500, 900, 980, 2000, 20_000])
def test_nesting_deeper_than_python_goes_is_damage(depth):
    with pytest.raises(CorruptShard, match=r"a\.json (?:is damaged|is not JSON)"):
        documents.decode(b'{"version": 2, "a": ' + b"[" * depth + b"]" * depth + b"}", "a.json")


def test_a_newer_format_is_refused_and_says_what_to_do():
    with pytest.raises(
        NewerFormat, match=r"^a.json has format 3, this kinetics-prep reads formats 1 to 2: upgrade kinetics-prep$"
    ):
        documents.decode(b'{"version": 3, "what": "nobody knows yet"}', "a.json")


def test_a_document_of_format_1_has_no_checksum_and_is_read():
    assert documents.decode(b'{"version": 1, "a": 2}', "a.json") == {"version": 1, "a": 2}


def test_a_missing_document_is_no_damage_and_an_empty_one_is(store):
    with pytest.raises(FileNotFoundError):
        documents.read(store, "missing.json")
    store.put("file", b"x")
    with pytest.raises(NotADirectoryError):
        documents.read(store, "file/below.json")
    store.put("empty.json", b"")
    with pytest.raises(CorruptShard, match=r"out/empty\.json is empty"):
        documents.read(store, "empty.json")


def test_what_cannot_be_read_is_refused_in_words(store):
    (store.root / "folder.json").mkdir()
    with pytest.raises(CorruptShard, match=r"out/folder\.json cannot be read: Is a directory"):
        documents.read(store, "folder.json")
