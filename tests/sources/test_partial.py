"""Incomplete downloads: only the missing bytes of the same version of the same file are ever put behind the first."""

import json

import pytest

from kinetics_prep.sources.partial import Partial

ADDRESS = "http://host/abc.mp4"
ETAG = {"ETag": '"1"'}


def begun(path, address: str = ADDRESS, headers=ETAG, total_bytes: int | None = 10, body: bytes = b"abcd") -> Partial:
    partial = Partial(path, address)
    partial.begin(headers, total_bytes)
    partial.add(body)
    return partial


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file"


def test_what_is_on_disk(path):
    begun(path)
    description = b'{"address": "http://host/abc.mp4", "validator": "\\"1\\"", "total_bytes": 10}'
    assert path.with_name("file.json").read_bytes() == description
    assert path.with_name("file.part").read_bytes() == b"abcd"
    assert not path.exists()


def test_a_later_run_requests_the_missing_bytes_of_the_same_version(path):
    begun(path)
    partial = Partial(path, ADDRESS)
    assert partial.bytes == 4
    assert partial.headers() == {"Range": "bytes=4-", "If-Range": '"1"'}
    assert partial.continued_length("bytes 4-9/10") == 10
    partial.add(b"efghij")
    partial.finish()
    assert path.read_bytes() == b"abcdefghij"
    assert [file.name for file in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "content_range",
    ["", "4-9/10", "bytes 3-9/10", "bytes 5-9/10", "bytes 4-8/10", "bytes 4-9/11", "bytes 4-10/11", "bytes 4-9/*",
     "bytes 4-9/10x", "xbytes 4-9/10", "bytes -4-9/10", "bytes 4-9/" + "1" * 19],
)  # fmt: skip
def test_only_exactly_the_missing_bytes_continue_it(path, content_range):
    begun(path)
    assert Partial(path, ADDRESS).continued_length(content_range) is None


def test_a_new_download_is_continued_by_nothing(path):
    assert Partial(path, ADDRESS).headers() == {}
    assert Partial(path, ADDRESS).continued_length("bytes 0-9/10") is None


@pytest.mark.parametrize(
    "change",
    [
        {"address": "http://host/def.mp4"},
        {"validator": None},
        {"validator": 1},
        {"total_bytes": 4},  # it is complete, so something is wrong
        {"total_bytes": 3},
        {"total_bytes": "10"},
        None,
    ],
)
def test_what_does_not_fit_is_deleted(path, change):
    begun(path)
    file = path.with_name("file.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | change if change else []))
    assert Partial(path, ADDRESS).headers() == {}
    assert not list(path.parent.iterdir())


def test_an_empty_beginning_is_not_continued(path):
    begun(path, body=b"")
    partial = Partial(path, ADDRESS)
    assert (partial.bytes, partial.headers()) == (0, {})


def test_another_address_begins_anew(path):
    begun(path)
    assert Partial(path, ADDRESS + "?b").bytes == 0
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize(
    "headers, validator",
    [
        ({"ETag": '"abc"'}, '"abc"'),
        ({"ETag": ' "abc" '}, '"abc"'),
        ({"ETag": 'W/"abc"'}, None),  # weak: other bytes may have it too
        ({"ETag": "abc"}, None),
        ({"ETag": '""'}, None),
        ({"ETag": '"a"b"'}, None),
        ({"ETag": '"a\r\nX: y"'}, None),
        ({"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}, "Wed, 21 Oct 2015 07:28:00 GMT"),
        ({"Last-Modified": "Wed, 21 Oct 2015\r\nX: y"}, None),
        ({"Last-Modified": "yesterday"}, None),
        ({"ETag": 'W/"abc"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}, "Wed, 21 Oct 2015 07:28:00 GMT"),
        ({"ETag": '"abc"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}, '"abc"'),
        ({}, None),
    ],
)
def test_only_a_sure_sign_of_the_same_version_is_a_validator(path, headers, validator):
    begun(path, headers=headers)
    assert Partial(path, ADDRESS).headers().get("If-Range") == validator


@pytest.mark.parametrize("total_bytes", [None, 0])
def test_without_a_length_it_cannot_be_continued(path, total_bytes):
    begun(path, total_bytes=total_bytes)
    assert Partial(path, ADDRESS).headers() == {}


def test_beginning_again_forgets_the_first_bytes(path):
    partial = begun(path)
    partial.begin({"ETag": '"2"'}, 6)
    partial.add(b"xyz")
    assert partial.bytes == 3 and path.with_name("file.part").read_bytes() == b"xyz"
    assert Partial(path, ADDRESS).headers()["If-Range"] == '"2"'
