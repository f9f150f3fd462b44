"""Searching places in order: the first usable file wins, and of several refusals the one that says most."""

import contextlib
from pathlib import Path

import pytest
from conftest import plan_row

from kinetics_prep import errors
from kinetics_prep.errors import PASSING, ClipError, Network, NotFound, Private, TooShort, UnreadableFile
from kinetics_prep.sources.cache import Cache
from kinetics_prep.sources.fetched import Fetched, with_source_name
from kinetics_prep.sources.places import MOST_CANDIDATES, Sources


class Place:
    """A place that has files with given names, or raises an error in place of one."""

    def __init__(self, *outcomes: str | Exception):
        self.outcomes, self.fetches, self.is_open = outcomes, 0, False

    def has(self, row) -> bool:
        return isinstance(self.outcomes[0], str)

    def candidates(self, row):
        if isinstance(self.outcomes[0], NotFound):
            self.fetches += 1
            raise self.outcomes[0]
        yield from map(self.opened, self.outcomes)

    @contextlib.contextmanager
    def opened(self, outcome: str | Exception):
        self.fetches += 1
        if not isinstance(outcome, str):
            raise outcome
        self.is_open = True
        yield Fetched(Path(outcome), outcome, outcome)
        self.is_open = False


def unless_short(fetched: Fetched) -> Fetched:
    """Takes a file unless its name says that it is too short."""
    if "short" in fetched.name:
        raise TooShort(f"{fetched.name} ends early")
    return fetched


def refusal(*places, use=lambda fetched: fetched) -> ClipError:
    with pytest.raises(ClipError) as caught:
        Sources(places).first_usable(plan_row(), use)
    return caught.value


def test_the_first_place_with_a_usable_file_is_the_last_that_is_tried():
    places = [Place(NotFound("none")), Place("short"), Place("good"), Place("never")]
    assert Sources(places).first_usable(plan_row(), unless_short).name == "good"
    assert [place.fetches for place in places] == [1, 1, 1, 0]


def test_the_files_of_a_place_are_tried_in_their_order_before_the_next_place():
    places = [Place("short", UnreadableFile("damaged there"), "good", "never"), Place("never")]
    assert Sources(places).first_usable(plan_row(), unless_short).name == "good"
    assert [place.fetches for place in places] == [3, 0]


def test_the_notes_of_a_file_say_which_were_refused_before_it():
    places = [
        Place("short"),
        Place(NotFound("none")),
        Place("short2", UnreadableFile("a.tar: b.mp4: bad"), "short3", "good"),
    ]
    notes = Sources(places).first_usable(plan_row(), unless_short).notes
    first = ("short was refused: too_short", "short2 was refused: too_short")
    assert notes == (*first, "a file was refused, unreadable_file: a.tar: b.mp4: bad", "1 more file was refused")
    assert Sources([Place("good")]).first_usable(plan_row(), unless_short).notes == ()


def test_of_the_files_of_a_place_the_best_is_reported_with_the_number_of_the_others():
    error = refusal(Place("short", UnreadableFile("bad"), "short2"), Place(Private("b")), use=unless_short)
    assert (type(error), error.attempts) == (TooShort, 4)
    assert str(error) == "short ends early (2 more files were refused there: unreadable_file, too_short); b"
    assert "(1 more file was refused there: too_short)" in str(refusal(Place("short", "short"), use=unless_short))


def test_a_place_with_very_many_files_for_a_row_is_given_up():
    place = Place(*["short"] * MOST_CANDIDATES, "good")
    message = f"({MOST_CANDIDATES - 1} more files were refused there: too_short; further files were not tried)"
    assert message in str(refusal(place, use=unless_short))
    assert place.fetches == MOST_CANDIDATES
    assert "not tried" not in str(refusal(Place(*["short"] * MOST_CANDIDATES), use=unless_short))


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
