import pytest

pytest.importorskip("keras")

from kinetics_prep.annotations import published
from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.errors import BadOption
from kinetics_prep.models import kinetics400


def test_the_labels_are_those_of_kinetics_400():
    labels = kinetics400.labels()
    assert len(labels) == kinetics400.CLASSES == 400
    assert list(labels) == sorted(labels)
    assert (labels[0], labels[224], labels[399]) == ("abseiling", "playing chess", "zumba")
    (data_set,) = (data_set for data_set in published.PUBLISHED if data_set.name == "Kinetics-400")
    assert published.digest(labels) == data_set.label_digest


def test_the_labels_are_those_of_the_real_label_map(shared_data):
    lines = (shared_data / "annotations" / "labels_k400.txt").read_text("utf-8").splitlines()
    assert list(kinetics400.labels()) == lines


def test_the_file_is_a_label_map_and_read_once():
    labels = kinetics400.labels()
    assert LabelMap.parse(LabelMap(labels).text()).labels == labels
    assert kinetics400.parse(LabelMap(labels).text()) == labels
    assert kinetics400.labels() is labels


def swapped(labels):
    return [*labels[:7], labels[8], labels[7], *labels[9:]]


@pytest.mark.parametrize(
    "change, lines",
    [
        (swapped, 400),
        (lambda labels: [*labels][::-1], 400),
        (lambda labels: labels[:-1], 399),
        (lambda labels: [*labels, "zz"], 401),
        (lambda labels: [*labels[:-1], labels[-2]], 400),
        (lambda labels: [], 0),
    ],
)
def test_labels_that_are_missing_or_in_another_order_are_refused(change, lines):
    text = "".join(f"{label}\n" for label in change(kinetics400.labels()))
    with pytest.raises(BadOption, match=f"holds {lines} lines, expected 400 different labels, sorted"):
        kinetics400.parse(text)
