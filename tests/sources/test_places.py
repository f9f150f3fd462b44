"""Searching places in order: the first usable file wins, and of several refusals the one that says most."""

import contextlib
from pathlib import Path

import pytest
from conftest import plan_row

from kinetics_prep import errors
from kinetics_prep.errors import PASSING, ClipError, Network, NotFound, Private, TooShort
from kinetics_prep.sources.cache import Cache
from kinetics_prep.sources.fetched import Fetched, with_source_name
from kinetics_prep.sources.places import Sources


class Place:
    """A place that has a file with a given name, or raises an error."""

    def __init__(self, outcome: str | Exception):
        self.outcome, self.fetches, self.is_open = outcome, 0, False

    def has(self, row) -> bool:
        return isinstance(self.outcome, str)

    @contextlib.contextmanager
    def fetch(self, row):
        self.fetches += 1
        if not isinstance(self.outcome, str):
            raise self.outcome
        self.is_open = True
        yield Fetched(Path(self.outcome), self.outcome, self.outcome)
        self.is_open = False


def refusal(*places, use=lambda fetched: fetched) -> ClipError:
    with pytest.raises(ClipError) as caught:
        Sources(places).first_usable(plan_row(), use)
    return caught.value


def test_the_first_place_with_a_usable_file_is_the_last_that_is_tried():
    places = [Place(NotFound("none")), Place("short"), Place("good"), Place("never")]

    def use(fetched: Fetched) -> str:
        if fetched.name == "short":
            raise TooShort("ends early")
        return fetched.name

    assert Sources(places).first_usable(plan_row(), use) == "good"
    assert [place.fetches for place in places] == [1, 1, 1, 0]


def test_the_file_exists_while_it_is_used():
    place = Place("file")
    assert Sources([place]).first_usable(plan_row(), lambda _: place.is_open)
    assert not place.is_open


def test_an_error_that_is_no_refusal_is_a_bug_and_no_other_place_is_tried():
    other = Place("good")
    with pytest.raises(ZeroDivisionError):
        Sources([Place(ZeroDivisionError()), other]).first_usable(plan_row(), lambda _: None)
    with pytest.raises(ZeroDivisionError):
        Sources([Place("file"), other]).first_usable(plan_row(), lambda _: 1 / 0)
    assert other.fetches == 0


@pytest.mark.parametrize("passing", [kind for kind in errors.CLIP_ERRORS if kind.reason in PASSING])
def test_a_failure_that_may_pass_decides_wherever_it_stands(passing):
    for order in ([NotFound("a"), Private("b"), passing("c")], [passing("c"), Private("b"), NotFound("a")]):
        error = refusal(*map(Place, order))
        assert (type(error), str(error)) == (passing, "c; b; a")


def test_not_found_never_hides_another_reason():
    assert type(refusal(Place(NotFound("a")), Place(Private("b")))) is Private
    assert type(refusal(Place(NotFound("a")), Place(Network("b")))) is Network


def test_of_equals_the_first_place_decides():
    assert type(refusal(Place(Private("a")), Place(TooShort("b")))) is Private
    assert type(refusal(Place(TooShort("b")), Place(Private("a")))) is TooShort


def test_attempts_of_all_places_add_up():
    places = Place(NotFound("a", attempts=2)), Place(Private("b", attempts=0)), Place(Network("c", attempts=3))
    assert refusal(*places).attempts == 5


def test_that_the_cache_has_no_file_is_said_only_if_there_is_no_other_place(tmp_path):
    cache = Cache(tmp_path / "cache")
    assert str(refusal(cache)) == "abc is not in --cache"
    assert str(refusal(cache, Place(Private("private")))) == "private"


def test_an_error_about_our_copy_gets_the_name_of_the_file_at_its_source():
    error = with_source_name(TooShort("1f3a: needs 250 frames; 1f3a has 12"), Path("scratch/1f3a"), "abc.mp4", 3)
    assert (type(error), str(error)) == (TooShort, "abc.mp4: needs 250 frames; abc.mp4 has 12")
    assert error.attempts == 3
