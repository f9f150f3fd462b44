"""Reasons for refusal: each has one word, a policy, and a line in the README."""

import pickle
import re
from pathlib import Path

import pytest

from kinetics_prep.errors import CLIP_ERRORS, OF_FETCHING, PASSING, REASONS, RETRYABLE, Again

README = Path(__file__).resolve().parents[1] / "README.md"


def test_every_reason_is_a_word_of_its_own():
    assert len(set(REASONS)) == len(CLIP_ERRORS)
    assert all(re.fullmatch("[a-z_]+", reason) for reason in REASONS)


@pytest.mark.parametrize("error", CLIP_ERRORS)
def test_every_refusal_says_whether_to_ask_again_and_survives_another_process(error):
    assert error.__doc__ and isinstance(error.again, Again)
    back = pickle.loads(pickle.dumps(error("why", attempts=3)))
    assert (type(back), str(back), back.attempts) == (error, "why", 3)


def test_the_readme_explains_every_reason_and_no_other():
    rows = re.findall(r"^\| ((?:`[a-z_]+` ?)+)\|", README.read_text("utf-8"), re.M)
    told = [word for row in rows for word in re.findall("`([a-z_]+)`", row)]
    assert sorted(told) == sorted(REASONS)


def test_what_stands_in_the_annotations_cannot_be_tried_again():
    assert set(REASONS) - set(RETRYABLE) == {"malformed_row", "duplicate_row", "unknown_label", "purged"}
    assert set(PASSING) <= set(OF_FETCHING) and set(REASONS) - set(OF_FETCHING) >= {"unreadable", "too_short"}
    assert {"network", "truncated", "rate_limited", "bot_check", "forbidden"} <= set(PASSING) <= set(RETRYABLE)
