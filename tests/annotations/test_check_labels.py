"""Findings about labels: other spellings of a label, and labels that are similar."""

import pytest

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.check.labels import LabelMatcher, similar_labels
from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.rows import ReadableRow

LABELS = LabelMap(("abseiling", "passing American football (in game)", "a-b", "a_b", "Straße"))


@pytest.mark.parametrize(
    "label, match",
    [
        ("abseiling", "abseiling"),
        ("Abseiling", "abseiling"),
        ("ab_seiling ", "abseiling"),
        ("passing_american_football_in_game", "passing American football (in game)"),
        ("passing American football (not in game)", None),
        ("a_b", "a_b"),
        ("a b", None),
        ("STRASSE", "Straße"),
        ("abseilin", None),
    ],
)
def test_a_label_is_matched_by_its_letters_and_digits(label, match):
    assert LabelMatcher(LABELS).match(label) == match


def test_without_a_label_map_every_label_is_its_own_match():
    assert LabelMatcher(None).match("a b") == "a b"


@pytest.mark.parametrize(
    "label, unknown, respelled",
    [(None, False, False), ("abseiling", False, False), ("Abseiling", False, True), ("a b", True, False)],
)
def test_a_row_has_an_unknown_label_or_another_spelling_or_neither(label, unknown, respelled):
    row = ReadableRow("some.csv", 1, Annotation("v", 0.0, 10.0, "train", label))
    matcher = LabelMatcher(LABELS)
    assert (matcher.is_unknown(row), matcher.is_respelled(row)) == (unknown, respelled)


def test_similar_labels_are_grouped_in_the_order_of_reading():
    finding = similar_labels(["z z", "a b", None, "c", "A-b", "zz", "a_b", "Z_Z"])
    assert finding.count == 2
    assert finding.examples == ("'Z_Z' and 'z z' and 'zz'", "'A-b' and 'a b' and 'a_b'")
    assert not finding.is_refused


def test_a_few_groups_of_similar_labels_are_shown_and_all_are_counted():
    finding = similar_labels(label for k in range(9) for label in (f"label {k}", f"label_{k}"))
    assert finding.count == 9 and len(finding.examples) == 5


def test_no_labels_are_similar_to_none():
    assert similar_labels([None, "a", "b"]).count == 0
