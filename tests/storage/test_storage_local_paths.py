"""Paths of this machine, told from URLs."""

from pathlib import Path

import pytest

from kinetics_prep.errors import BadOption
from kinetics_prep.storage.local_paths import expect_local, from_file_url, why_not_local


@pytest.mark.parametrize(
    "url, scheme", [("gs://b/x", "gs"), (" s3://b", "s3"), ("ABFSS+x.y-z://b", "ABFSS+x.y-z"), ("file:///x", "file")]
)
def test_a_url_is_told_by_its_scheme(url, scheme):
    assert why_not_local(url) == why_not_local(Path(url)) is not None
    with pytest.raises(
        BadOption, match=rf"^--option: expected a path, found a URL, {scheme}://...; ".replace("+", r"\+")
    ):
        expect_local("--option", "a", None, url)


def test_a_zero_byte_is_in_no_path():
    assert why_not_local(from_file_url("file:///a%00b")) == "expected a path, found a zero byte in it"


@pytest.mark.parametrize("path", ["a", "/gs://b", "C:/x", "C:\\x", "a b:/c", ":/x", "gs:", "1gs://x"])
def test_a_path_passes(path):
    assert why_not_local(path) is None
    expect_local("--option", path, Path(path), None)


@pytest.mark.parametrize(
    "text, path",
    [
        ("file:///a%20b/%C3%A4", "/a b/ä"),
        ("file:///%FF", "/\udcff"),
        ("file://host/a", "file://host/a"),
        ("a%20b", "a%20b"),
    ],
)
def test_the_path_of_a_file_url(text, path):
    assert from_file_url(text) == path
