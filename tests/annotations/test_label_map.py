"""LabelMap: class ids from labels, and labels from text."""

import pytest

from kinetics_prep.annotations.formats import kinetics_csv
from kinetics_prep.annotations.label_map import LabelMap, read_labels
from kinetics_prep.errors import BadOption, UnknownLabel


def test_class_ids_follow_the_plain_label_strings():
    # With an underscore for its space "dunking x" would come after "dunking-x".
    labels = LabelMap.from_labels(["dunking-x", "dunking x", "Zumba", None, "dunking x", "abseiling"])
    assert labels.labels == ("Zumba", "abseiling", "dunking x", "dunking-x")
    assert [labels.index(label) for label in labels.labels] == [0, 1, 2, 3]


@pytest.mark.parametrize("version, count", [("k400", 400), ("k600", 600)])
def test_class_ids_are_deepminds(shared_data, version, count):
    folder = shared_data / "annotations"
    published = LabelMap.parse((folder / f"labels_{version}.txt").read_text("utf-8"))
    rows = kinetics_csv.read(folder / f"{version}_val.csv")
    assert LabelMap.from_labels(row.annotation.label for row in rows) == published
    assert len(published) == count


def test_a_label_map_knows_its_labels():
    labels = LabelMap(("b", "a"))
    assert len(labels) == 2
    assert list(labels) == ["b", "a"]
    assert "a" in labels
    assert None not in labels
    with pytest.raises(UnknownLabel, match="label 'c' is not among the 2 labels"):
        labels.index("c")


def test_a_label_map_holds_each_label_once():
    with pytest.raises(BadOption, match="same label twice: a$"):
        LabelMap(("a", "b", "a"))


@pytest.mark.parametrize("text", ["b\na\n", "b\r\na\r\n", "b\na\n\n\n", " b \na"])
def test_a_label_map_is_read_in_its_own_order(text):
    assert LabelMap.parse(text).labels == ("b", "a")


def test_a_label_map_may_begin_with_a_byte_order_mark():
    assert LabelMap.parse("\ufeffabseiling\nzumba\n").labels == ("abseiling", "zumba")


@pytest.mark.parametrize("text", ["", "\n\n", "a\n\nb\n", "\na\n"])
def test_a_label_map_with_a_blank_line_is_refused(text):
    with pytest.raises(BadOption, match="no blank line"):
        LabelMap.parse(text)


@pytest.mark.parametrize("text", ["a\x00b\nc\n", "a\u2028b\n", "a\x85b\n", "a\tb\n"])
def test_a_label_map_with_control_characters_is_refused(text):
    with pytest.raises(BadOption, match="no control character"):
        LabelMap.parse(text)


def test_a_label_map_is_written_as_it_is_read():
    labels = LabelMap(("zumba", "abseiling", "jeté", "tying knot (not on a tie)"))
    assert labels.text() == "zumba\nabseiling\njeté\ntying knot (not on a tie)\n"
    assert LabelMap.parse(labels.text()) == labels
    assert LabelMap(()).text() == ""


def test_the_class_id_of_a_label_is_its_place_in_the_map():
    labels = LabelMap(tuple(f"label {k * 7919 % 100}" for k in range(100)))
    assert [labels.index(label) for label in labels] == list(range(100))
    assert all(labels.labels[labels.index(f"label {k}")] == f"label {k}" for k in range(100))
    assert all(list(labels).index(label) == labels.index(label) for label in labels.labels)


def test_an_unknown_label_gets_the_most_similar_one_as_a_hint():
    labels = LabelMap(("abseiling", "air drumming"))
    with pytest.raises(UnknownLabel, match="2 labels of the label map; did you mean 'abseiling'[?]$"):
        labels.index("Abseiling")
    with pytest.raises(UnknownLabel, match="2 labels of the label map$"):
        labels.index("zumba")


def test_labels_of_different_case_or_marks_are_different_labels():
    assert LabelMap.from_labels(["a b", "a_b", "A b"]).labels == ("A b", "a b", "a_b")


def test_a_label_map_is_read_from_a_file(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffzumba\r\njeté\r\n".encode())
    assert read_labels(path).labels == ("zumba", "jeté")


@pytest.mark.parametrize("content", [b"jet\xe9\n", "zumba\n".encode("utf-16"), None], ids=["latin-1", "UTF-16", "none"])
def test_a_label_map_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "labels.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadOption, match=r"^--labels .*labels\.txt cannot be read: "):
        read_labels(path)
