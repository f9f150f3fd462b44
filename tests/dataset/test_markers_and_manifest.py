"""Markers, and dataset.json made of them: counts, completeness, and what is refused when read."""

import json
import os

import pytest
import small_dataset

from kinetics_prep.dataset import manifest, markers, plan
from kinetics_prep.dataset.layout import Layout
from kinetics_prep.errors import CorruptShard, IncompleteShard
from kinetics_prep.storage.files import sha256_of


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """Five rows in two shards, three written."""
    return small_dataset.make(tmp_path_factory.mktemp("manifest") / "out").complete({1: "network", 4: "private"})


@pytest.fixture
def dataset(tmp_path):
    return small_dataset.make(tmp_path / "out").complete({1: "network", 4: "private"})


MARKERS = {
    "not JSON": (lambda marker: "{", "is not a marker: Expecting property name"),
    "a list": (lambda marker: "[]", "is not a marker: .* is not of type 'object'"),
    "no rows": (lambda marker: {key: value for key, value in marker.items() if key != "rows"}, "'rows' is a required"),
    "a negative count": (lambda marker: marker | {"written": -1}, "is not a marker: -1"),
    "text for a number": (lambda marker: marker | {"shard": "0"}, "is not a marker: '0' is not of type 'integer'"),
    "a stranger": (lambda marker: marker | {"shell": "rm"}, "is not a marker: .*'shell' was unexpected"),
}


@pytest.mark.parametrize("damage", MARKERS)
def test_what_is_no_marker_is_refused_in_words(damage, dataset):
    path = dataset.layout.marker("train-00000-of-00002")
    change, message = MARKERS[damage]
    content = change(json.loads(path.read_text()))
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(CorruptShard, match=message):
        markers.read_marker(path)


def test_a_marker_that_makes_no_sense_is_not_written(dataset):
    import jsonschema

    marker = markers.read_marker(dataset.layout.marker("train-00000-of-00002"))
    with pytest.raises(jsonschema.ValidationError):
        markers.write_marker(dataset.layout, "train-00000-of-00002", marker | {"rows": None})
    assert markers.read_marker(dataset.layout.marker("train-00000-of-00002")) == marker


def test_counts_of_committed_shards_are_those_of_the_marker_as_it_is_now(dataset):
    path = dataset.layout.marker("train-00000-of-00002")
    assert markers.committed_counts(path) == {"written": 2, "refused": 1}
    marker = markers.read_marker(path) | {"refused": {"network": 4, "geo": 3}, "written": 9}
    markers.write_marker(dataset.layout, "train-00000-of-00002", marker)
    os.utime(path, ns=(5, 5))
    assert markers.committed_counts(path) == {"written": 9, "refused": 7}
    path.unlink()
    assert markers.committed_counts(path) is None


# dataset.json -----------------------------------------------------------------------------------


def test_the_manifest_adds_up_what_the_markers_say(complete):
    content = manifest.build(complete.layout)
    split = content["splits"]["train"]
    assert (split["rows"], split["written"], split["refused"]) == (5, 3, {"network": 1, "private": 1})
    assert (split["plan"], split["plan_sha256"]) == ("plan/train.parquet", complete.part.plan_sha256)
    assert [(shard["shard"], shard["written"], shard["ledger"]) for shard in split["shards"]] == [
        (0, 2, "ledger/train-00000-of-00002.parquet"),
        (1, 1, "ledger/train-00001-of-00002.parquet"),
    ]
    assert split["shards"][0]["files"].keys() == {"tfrecord", "parquet"}
    assert content["labels"] == {"path": "labels.txt", "count": 2, "sha256": sha256_of(complete.layout.labels)}
    assert (content["digest"], content["recipe"]["short_side"]) == (complete.part.recipe, 16)
    assert "refreshes" not in split and "refresh" not in split["shards"][0]


def test_a_split_that_lacks_a_shard_is_left_out(dataset):
    dataset.layout.marker("train-00001-of-00002").unlink()
    assert manifest.build(dataset.layout)["splits"] == {}


def test_a_split_is_not_taken_for_complete_by_markers_of_its_refresh(dataset):
    name = "train-refresh1-00000-of-00001"
    marker = markers.read_marker(dataset.layout.marker("train-00000-of-00002")) | {"of": 1}
    markers.write_marker(dataset.layout, name, marker)
    plan.write(dataset.layout.plan("train-refresh1"), dataset.rows[:1], 1)
    split = manifest.build(dataset.layout)["splits"]["train"]
    assert [shard.get("refresh", 0) for shard in split["shards"]] == [0, 0, 1]
    assert split["refreshes"] == [{"plan": "plan/train-refresh1.parquet", "plan_sha256": dataset.part.plan_sha256}]
    assert (split["rows"], split["written"], split["refused"]) == (8, 5, {"network": 2, "private": 1})
    dataset.layout.marker("train-00000-of-00002").unlink()
    assert manifest.build(dataset.layout)["splits"] == {}


def test_a_refresh_that_lacks_a_shard_does_not_count_yet(dataset):
    marker = markers.read_marker(dataset.layout.marker("train-00000-of-00002")) | {"of": 2}
    markers.write_marker(dataset.layout, "train-refresh1-00000-of-00002", marker)
    plan.write(dataset.layout.plan("train-refresh1"), dataset.rows[:1], 1)
    assert manifest.build(dataset.layout)["splits"]["train"]["rows"] == 5


def test_a_manifest_that_accounts_for_every_row_is_complete(complete):
    manifest.check_complete([complete.part], manifest.build(complete.layout))


def test_a_missing_split_is_incomplete_and_the_shards_are_named(dataset):
    dataset.layout.marker("train-00001-of-00002").unlink()
    with pytest.raises(IncompleteShard, match="^1 of 2 shards are missing, such as train-00001-of-00002$"):
        manifest.check_complete([dataset.part], manifest.build(dataset.layout))


COUNTS = {
    "a row that is neither written nor refused": {"rows": 5, "written": 2, "refused": {"network": 1, "private": 1}},
    "a row that is written and refused": {"rows": 5, "written": 4, "refused": {"network": 1, "private": 1}},
    "a row less than planned": {"rows": 4, "written": 3, "refused": {"network": 1}},
    "a row more than planned": {"rows": 6, "written": 4, "refused": {"network": 1, "private": 1}},
    "rows that do not add up to what is planned": {"rows": 6, "written": 3, "refused": {"network": 2}},
}


@pytest.mark.parametrize("counts", COUNTS)
def test_counts_that_do_not_add_up_to_the_plan_are_refused(counts, complete):
    content = manifest.build(complete.layout)
    split = content["splits"]["train"] | COUNTS[counts]
    done = split["written"] + sum(split["refused"].values())
    with pytest.raises(IncompleteShard, match=f"^train: 5 rows are planned and {done} are written or refused$"):
        manifest.check_complete([complete.part], content | {"splits": {"train": split}})


def test_what_was_written_is_read_back(dataset):
    content = manifest.build(dataset.layout)
    manifest.write(dataset.layout, content)
    assert manifest.read(dataset.layout) == content


def test_an_unfinished_folder_has_no_manifest_and_says_so(tmp_path):
    with pytest.raises(CorruptShard, match=r"holds no dataset\.json: not prepared, or not finished"):
        manifest.read(Layout(tmp_path))
    with pytest.raises(CorruptShard, match=r"holds no dataset\.json"):
        manifest.read(Layout(tmp_path / "nowhere"))
    (tmp_path / "file").touch()
    with pytest.raises(CorruptShard, match=r"holds no dataset\.json"):
        manifest.read(Layout(tmp_path / "file"))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda content: "not json", "is not a manifest: Expecting value"),
        (lambda content: content | {"splits": []}, r"is not a manifest: \[\] is not of type 'object'"),
        (lambda content: {k: v for k, v in content.items() if k != "digest"}, "'digest' is a required property"),
    ],
)
def test_what_is_no_manifest_is_refused_in_words(change, message, dataset):
    content = change(manifest.build(dataset.layout))
    dataset.layout.manifest.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(CorruptShard, match=message):
        manifest.read(dataset.layout)


def test_a_damaged_recipe_or_label_map_makes_no_manifest(dataset):
    labels = dataset.layout.labels.read_text()
    dataset.layout.labels.write_text("running\nrunning\n")
    with pytest.raises(CorruptShard, match=r"labels\.txt cannot be read: label map holds the same label twice"):
        manifest.build(dataset.layout)
    dataset.layout.labels.write_text(labels)
    dataset.layout.recipe.write_text(dataset.layout.recipe.read_text().replace('"short_side": 16', '"short_side": 17'))
    with pytest.raises(CorruptShard, match="is damaged: its digest is not that of its content"):
        manifest.build(dataset.layout)
