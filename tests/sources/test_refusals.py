"""Refusals on disk: what is remembered, under which settings it is ignored, and when it is deleted."""

import hashlib
import json
import time

import pytest

from kinetics_prep import errors
from kinetics_prep.errors import Again, Geo, LoginRequired, Network, NotFound, Private
from kinetics_prep.sources.fetching import Fetching
from kinetics_prep.sources.refusals import Refusals

KEY, SOURCE = "video abc", "http://host/{id}"
PLAIN = Fetching((SOURCE,))
WITH_COOKIES = Fetching((SOURCE,), cookies="cookies.txt")
WITH_PROXY = Fetching((SOURCE,), proxy="http://proxy")


@pytest.fixture
def refusals(tmp_path) -> Refusals:
    return Refusals(tmp_path / "refusals", tmp_path / "partial", "run 1")


@pytest.fixture
def later(tmp_path) -> Refusals:
    """The same folder in the next run."""
    return Refusals(tmp_path / "refusals", tmp_path / "partial", "run 2")


def test_what_is_on_disk(refusals, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.25)
    refusals.note(KEY, SOURCE, Geo("not hére", attempts=2), WITH_COOKIES)
    refusals.note(KEY, "youtube", Private("private"), WITH_PROXY)
    (path,) = (tmp_path / "refusals").glob("*/*")
    name = hashlib.sha256(b"video abc").hexdigest()
    assert path == tmp_path / "refusals" / name[:2] / f"{name}.json"
    geo = (
        '"reason": "geo",\n  "message": "not hére",\n  "attempts": 2,\n  "with_cookies": true,\n'
        '  "through_proxy": false,\n  "seconds_since_1970": 1700000000.25,\n  "run": "run 1"'
    )
    private = (
        '"reason": "private",\n  "message": "private",\n  "attempts": 1,\n  "with_cookies": false,\n'
        '  "through_proxy": true,\n  "seconds_since_1970": 1700000000.25,\n  "run": "run 1"'
    )
    expected = f'{{\n "http://host/{{id}}": {{\n  {geo}\n }},\n "youtube": {{\n  {private}\n }}\n}}\n'
    assert path.read_text("utf-8") == expected
    assert not list((tmp_path / "partial").iterdir())


@pytest.mark.parametrize("kind", errors.CLIP_ERRORS)
def test_only_what_does_not_pass_by_itself_is_remembered(refusals, kind):
    refusals.note(KEY, SOURCE, kind("why", attempts=3), PLAIN)
    refusal = refusals.find(KEY, SOURCE, PLAIN)
    if kind.again in (Again.NEVER, Again.OTHER_SOURCE, Again.WITH_COOKIES, Again.ELSEWHERE):
        day = time.strftime("%Y-%m-%d", time.gmtime())
        assert (type(refusal), str(refusal), refusal.attempts) == (kind, f"why (on {day})", 0)
    else:
        assert refusal is None


def test_a_refusal_is_that_of_a_source_and_of_a_video(refusals):
    refusals.note(KEY, SOURCE, NotFound("why"), PLAIN)
    assert refusals.find(KEY, "http://other/{id}", PLAIN) is None
    assert refusals.find("video def", SOURCE, PLAIN) is None


@pytest.mark.parametrize(
    "kind, noted_with, found_with, is_remembered",
    [
        (LoginRequired, PLAIN, PLAIN, True),
        (LoginRequired, PLAIN, WITH_COOKIES, False),
        (LoginRequired, WITH_COOKIES, WITH_COOKIES, True),
        (LoginRequired, PLAIN, WITH_PROXY, True),
        (Geo, PLAIN, WITH_PROXY, False),
        (Geo, WITH_PROXY, WITH_PROXY, True),
        (Geo, PLAIN, WITH_COOKIES, True),
        (Private, PLAIN, WITH_COOKIES, True),
        (Private, PLAIN, Fetching((SOURCE,), ask_again=("private",)), False),
        (Private, PLAIN, Fetching((SOURCE,), ask_again=("removed",)), True),
    ],
)
def test_new_cookies_and_a_new_proxy_are_worth_a_request_if_they_can_help(
    refusals, later, kind, noted_with, found_with, is_remembered
):
    refusals.note(KEY, SOURCE, kind("why"), noted_with)
    assert (later.find(KEY, SOURCE, found_with) is not None) == is_remembered


def test_within_a_run_a_source_is_asked_once_whatever_is_to_be_asked_again(refusals, later):
    ask_again = Fetching((SOURCE,), ask_again=("not_found", "network"))
    refusals.note(KEY, SOURCE, NotFound("why"), ask_again)
    assert type(refusals.find(KEY, SOURCE, ask_again)) is NotFound
    assert later.find(KEY, SOURCE, ask_again) is None
    refusals.note(KEY, SOURCE, Network("why"), ask_again)  # which passes
    assert refusals.find(KEY, SOURCE, ask_again) is None


@pytest.mark.parametrize("forgotten", [SOURCE, None])
def test_the_refusal_of_one_source_is_forgotten_or_those_of_all(refusals, forgotten):
    for source in (SOURCE, "youtube"):
        refusals.note(KEY, source, NotFound("why"), PLAIN)
        refusals.note("video def", source, NotFound("why"), PLAIN)
    refusals.forget(KEY, forgotten)
    refusals.forget(KEY, forgotten)  # nothing left
    assert refusals.find(KEY, SOURCE, PLAIN) is None
    assert (refusals.find(KEY, "youtube", PLAIN) is None) == (forgotten is None)
    assert all(refusals.find("video def", source, PLAIN) for source in (SOURCE, "youtube"))


@pytest.mark.parametrize(
    "change",
    [
        {"reason": "x"},
        {"reason": []},
        {"message": "\ud800"},
        {"seconds_since_1970": "x"},
        {"seconds_since_1970": 1e300},
        {"seconds_since_1970": 1e17},
        None,
    ],
)
def test_a_damaged_refusal_is_none(refusals, tmp_path, change):
    refusals.note(KEY, SOURCE, NotFound("why"), PLAIN)
    (path,) = (tmp_path / "refusals").glob("*/*")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({SOURCE: content[SOURCE] | change if change else 5}))
    assert refusals.find(KEY, SOURCE, PLAIN) is None
