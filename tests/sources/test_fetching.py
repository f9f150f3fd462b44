"""Settings of fetching: which values are refused, and which rate a host has."""

import math

import pytest

from kinetics_prep.errors import BadOption
from kinetics_prep.sources import SOURCES, Fetching, Politeness, absolute, open_sources
from kinetics_prep.sources.fetching import YOUTUBE_HOST


@pytest.mark.parametrize(
    "name, inside, outside",
    [
        ("connections", (1, 1000), (0, 1001, -1)),
        ("attempts", (1, 100), (0, 101)),
        ("rest_seconds", (0.0, 9_999_999.0), (-0.1, 1e7, math.nan, math.inf)),
        ("backoff_seconds", (0.0,), (-0.1, math.nan)),
        ("pause_seconds", (0.0,), (-0.1, 1e7)),
        ("patience_seconds", (0.0,), (-0.1, math.inf)),
    ],
)
def test_the_borders_of_each_setting(name, inside, outside):
    for value in inside:
        assert getattr(Politeness(**{name: value}), name) == value
    for value in outside:
        with pytest.raises(BadOption, match=f"{name} is {value}".replace("-", ".")):
            Politeness(**{name: value})


@pytest.mark.parametrize("rate, is_valid", [(1e-6, True), (1e6, True), (9e-7, False), (1.1e6, False), (-1.0, False)])
def test_the_borders_of_a_rate(rate, is_valid):
    if is_valid:
        assert Politeness(rates=(("host", rate),)).per_second("host") == rate
    else:
        with pytest.raises(BadOption, match="--rate host"):
            Politeness(rates=(("host", rate),))


def test_a_host_has_its_own_rate_or_that_of_every_host_or_none():
    politeness = Politeness(rates=(("a", 1.0), ("", 2.0)))
    assert [politeness.per_second(host) for host in ("a", "b")] == [1.0, 2.0]
    assert politeness.per_second(YOUTUBE_HOST) == 300 / 3600
    assert Politeness().per_second("b") is None


@pytest.mark.parametrize("size, is_valid", [(1024, True), (1 << 50, True), (1023, False), ((1 << 50) + 1, False)])
def test_the_borders_of_the_largest_size(size, is_valid):
    if is_valid:
        assert Fetching((), largest_bytes=size).largest_bytes == size
    else:
        with pytest.raises(BadOption, match="--largest"):
            Fetching((), largest_bytes=size)


def test_without_any_place_there_is_nothing_to_search(tmp_path):
    with pytest.raises(BadOption, match="--videos is missing"):
        open_sources(Fetching(()), tmp_path)


def test_the_cache_comes_first_and_the_others_in_their_order(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/abc.mp4").touch()
    texts = ("http://me:secret@host/{id}", str(tmp_path / "videos"), "http://host/{id}_{start}")
    places = open_sources(Fetching(texts, cache=str(tmp_path / "cache")), tmp_path / "scratch").places
    assert [type(place).__name__ for place in places] == ["Cache", "Remote", "Folder", "Remote"]
    assert [places[1].name, places[3].name] == ["http://***@host/{id}", "http://host/{id}_{start}"]
    assert places[1].kind == "http" and not places[1].source.gives_pieces and places[3].source.gives_pieces


def test_local_paths_become_absolute_and_addresses_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    fetching = absolute(Fetching(("a", "http://host/{id}", "youtube"), cache="cache", cookies="cookies.txt"))
    assert fetching.videos == (str(tmp_path / "a"), "http://host/{id}", "youtube")
    assert (fetching.cache, fetching.cookies) == (str(tmp_path / "cache"), str(tmp_path / "cookies.txt"))
    assert absolute(Fetching(("youtube",))) == Fetching(("youtube",))


def test_a_bad_file_of_cookies_is_refused_even_if_no_source_uses_it(tmp_path):
    (tmp_path / "abc.mp4").touch()
    (tmp_path / "cookies.txt").touch()
    with pytest.raises(BadOption, match="--cookies"):
        open_sources(Fetching((str(tmp_path),), cookies=str(tmp_path / "cookies.txt")), tmp_path / "scratch")


@pytest.mark.parametrize("name", SOURCES)
def test_every_kind_says_whether_it_is_remote(name):
    assert SOURCES[name].is_remote == (name in ("http", "yt-dlp"))
