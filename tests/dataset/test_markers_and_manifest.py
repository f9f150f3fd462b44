"""Markers, and dataset.json made of them: counts, completeness, and what is refused when read."""

import dataclasses

import jsonschema
import pytest
import small_dataset

from kinetics_prep.dataset import documents, layout, manifest, markers, plan, purged, recipe_file, tools
from kinetics_prep.dataset import state as states
from kinetics_prep.dataset.part import list_parts
from kinetics_prep.errors import CorruptShard, IncompleteShard, NewerFormat
from kinetics_prep.storage.files import sha256_of
from kinetics_prep.storage.folder_store import FolderStore

pytestmark = pytest.mark.usefixtures("unflushed")


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """Five rows in two shards, three written."""
    return small_dataset.make(tmp_path_factory.mktemp("manifest") / "out").complete({1: "network", 4: "private"})


@pytest.fixture
def dataset(tmp_path):
    return small_dataset.make(tmp_path / "out").complete({1: "network", 4: "private"})


NAME = "train-00000-of-00002"

MARKERS = {
    "no rows": (lambda marker: marker.pop("rows"), "is not a marker: 'rows' is a required"),
    "a negative count": (lambda marker: marker.update(written=-1), "is not a marker: -1"),
    "text for a number": (lambda marker: marker.update(shard="0"), "is not a marker: '0' is not of type 'integer'"),
    "no split": (lambda marker: marker.update(split="../x"), "is not a marker: '../x' is not one of"),
    "a checksum that is none": (lambda marker: marker.update(ledger_sha256="x"), "is not a marker: 'x' does not match"),
}


@pytest.mark.parametrize("damage", MARKERS)
def test_what_is_no_marker_is_refused_in_words(damage, dataset):
    change, message = MARKERS[damage]
    content = documents.read(dataset.store, layout.marker_key(NAME))
    change(content)
    documents.write(dataset.store, layout.marker_key(NAME), content)
    with pytest.raises(CorruptShard, match=f"out/markers/{NAME}.json {message}"):
        markers.read_marker(dataset.store, NAME)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"version": 2}'])
def test_a_damaged_marker_is_refused_in_words(data, dataset):
    dataset.path(layout.marker_key(NAME)).write_bytes(data)
    with pytest.raises(CorruptShard, match=f"out/markers/{NAME}.json"):
        markers.read_marker(dataset.store, NAME)


def test_a_missing_marker_is_no_damage(dataset):
    with pytest.raises(FileNotFoundError):
        markers.read_marker(dataset.store, "val-00000-of-00001")


def test_a_marker_of_a_newer_format_is_refused_and_what_a_newer_version_adds_is_passed_over(dataset):
    marker = markers.read_marker(dataset.store, NAME)
    markers.replace_marker(dataset.store, NAME, marker | {"phase_of_the_moon": "full"})
    assert markers.read_marker(dataset.store, NAME) == marker | {"phase_of_the_moon": "full"}
    dataset.store.put(layout.marker_key(NAME), b'{"version": 3}')
    with pytest.raises(NewerFormat):
        markers.read_marker(dataset.store, NAME)


def test_a_marker_that_makes_no_sense_is_not_written(dataset):
    marker = markers.read_marker(dataset.store, NAME)
    for write in (markers.create_marker, markers.replace_marker):
        with pytest.raises(jsonschema.ValidationError):
            write(dataset.store, NAME, marker | {"rows": None})
    assert markers.read_marker(dataset.store, NAME) == marker


def test_a_shard_is_committed_once(dataset):
    marker = markers.read_marker(dataset.store, NAME)
    assert markers.create_marker(dataset.store, NAME, marker | {"rows": 99}) is False
    assert markers.read_marker(dataset.store, NAME) == marker
    assert markers.create_marker(dataset.store, "val-00000-of-00002", marker) is True
    assert markers.is_committed(dataset.store, "val-00000-of-00002")


def test_committed_shards_are_those_with_a_marker(dataset):
    committed = {NAME, "train-00001-of-00002"}
    for name in ("val-00000-of-00001.json", "notes.txt"):
        dataset.path(f"markers/{name}").touch()
    assert markers.committed_shards(dataset.store) == committed
    assert not markers.is_committed(dataset.store, "val-00000-of-00001")
    markers.remove_reserved(dataset.store)
    assert sorted(path.name for path in dataset.path("markers").iterdir()) == sorted(
        f"{name}.json" for name in committed
    )


def test_counts_of_a_committed_shard_are_those_of_its_marker(dataset):
    assert markers.counts(dataset.store, NAME) == (2, 1)
    assert markers.counts(dataset.store, "train-00001-of-00002") == (1, 1)


# dataset.json -----------------------------------------------------------------------------------


def build(dataset) -> dict:
    return manifest.build(dataset.store, states.read(dataset.store))


def test_the_manifest_adds_up_what_the_markers_say(complete):
    content = build(complete)
    split = content["splits"]["train"]
    assert (split["rows"], split["written"], split["refused"]) == (5, 3, {"network": 1, "private": 1})
    assert (split["plan"], split["plan_sha256"]) == ("plan/train.parquet", complete.part.plan_sha256)
    assert split["plan_file_sha256"] == sha256_of(complete.path("plan/train.parquet"))
    assert [(shard["shard"], shard["written"], shard["ledger"]) for shard in split["shards"]] == [
        (0, 2, "ledger/train-00000-of-00002.parquet"),
        (1, 1, "ledger/train-00001-of-00002.parquet"),
    ]
    assert [shard["ledger_sha256"] for shard in split["shards"]] == [
        sha256_of(complete.path(shard["ledger"])) for shard in split["shards"]
    ]
    assert split["shards"][0]["files"].keys() == {"tfrecord", "parquet"}
    labels = complete.path("labels.txt")
    assert content["labels"] == {"path": "labels.txt", "count": 2, "sha256": sha256_of(labels)}
    assert (content["digest"], content["recipe"]["short_side"]) == (complete.part.recipe, 16)
    assert (content["version"], content["fingerprints"], content["purged"]) == (2, ["f" * 64], 0)
    assert content["versions"] == tools.versions(small_dataset.RECIPE)
    assert "refreshes" not in split and "refresh" not in split["shards"][0]


def test_the_manifest_counts_what_was_purged(dataset):
    purged.write(dataset.store, purged.Purged({"a": "asked to", "b": "asked to"}))
    assert build(dataset)["purged"] == 2


def test_a_split_that_lacks_a_shard_is_left_out(dataset):
    dataset.store.delete("markers/train-00001-of-00002.json")
    assert build(dataset)["splits"] == {}


def add_find(dataset, number: int, of: int = 1) -> None:
    """Has a search of that number have found a row, in the first of so many shards."""
    name = f"train-refresh{number}"
    rows = [dataclasses.replace(dataset.rows[1], shard=shard, index=0) for shard in range(of)]
    current = states.read(dataset.store)
    entry = dataclasses.replace(plan.write(dataset.store, layout.plan_key(name), rows), rows=3 * of)
    states.write(dataset.store, dataclasses.replace(current, plans={**current.plans, name: entry}))
    marker = markers.read_marker(dataset.store, NAME)
    markers.create_marker(dataset.store, layout.shard_name(name, 0, of), marker | {"of": of, "rows": 0, "refused": {}})


def test_shards_of_what_was_found_later_come_after_those_of_the_plan(dataset):
    add_find(dataset, 10)
    add_find(dataset, 2)
    split = build(dataset)["splits"]["train"]
    assert [shard.get("refresh", 0) for shard in split["shards"]] == [0, 0, 2, 10]
    entry = states.read(dataset.store).plans["train-refresh2"]
    assert split["refreshes"][0] == {
        "plan": "plan/train-refresh2.parquet",
        "plan_sha256": entry.sha256,
        "plan_file_sha256": entry.file_sha256,
        "refresh": 2,
    }
    assert (split["rows"], split["written"]) == (5, 7)


@pytest.mark.parametrize("of", [1, 2])
def test_a_split_is_complete_when_every_shard_of_what_was_found_is(of, dataset):
    add_find(dataset, 1, of)
    assert build(dataset)["splits"].keys() == ({"train"} if of == 1 else set())


def test_a_split_is_not_taken_for_complete_by_markers_of_what_was_found(dataset):
    add_find(dataset, 1)
    dataset.store.delete(f"markers/{NAME}.json")
    assert build(dataset)["splits"] == {}


def test_a_manifest_that_accounts_for_every_row_is_complete(complete):
    manifest.check_complete([complete.part], build(complete))


def test_a_missing_split_is_incomplete_and_a_shard_is_named(dataset):
    dataset.store.delete("markers/train-00001-of-00002.json")
    with pytest.raises(IncompleteShard, match="^1 of 2 shards are missing, such as train-00001-of-00002$"):
        manifest.check_complete([dataset.part], build(dataset))


def test_a_split_that_lacks_only_a_shard_of_what_was_found_names_that_one(dataset):
    add_find(dataset, 1, of=2)
    parts = list_parts(dataset.store, states.read(dataset.store), recipe_file.read(dataset.store))
    with pytest.raises(IncompleteShard, match="^1 of 4 shards are missing, such as train-refresh1-00001-of-00002$"):
        manifest.check_complete(parts, build(dataset))


COUNTS = {
    "a row that is neither written nor refused": {"rows": 5, "written": 2, "refused": {"network": 1, "private": 1}},
    "a row that is written and refused": {"rows": 5, "written": 4, "refused": {"network": 1, "private": 1}},
    "a row less than planned": {"rows": 4, "written": 3, "refused": {"network": 1}},
    "a row more than planned": {"rows": 6, "written": 4, "refused": {"network": 1, "private": 1}},
    "rows that do not add up to what is planned": {"rows": 6, "written": 3, "refused": {"network": 2}},
}


@pytest.mark.parametrize("counts", COUNTS)
def test_counts_that_do_not_add_up_to_the_plan_are_refused(counts, complete):
    content = build(complete)
    split = content["splits"]["train"] | COUNTS[counts]
    done = split["written"] + sum(split["refused"].values())
    with pytest.raises(IncompleteShard, match=f"^train: 5 rows are planned and {done} are written or refused$"):
        manifest.check_complete([complete.part], content | {"splits": {"train": split}})


def test_what_was_written_is_read_back_and_written_once(dataset):
    content = build(dataset)
    manifest.write(dataset.store, content)
    assert manifest.read(dataset.store) == content
    inode = dataset.path("dataset.json").stat().st_ino
    manifest.write(dataset.store, content)
    assert dataset.path("dataset.json").stat().st_ino == inode
    manifest.write(dataset.store, content | {"purged": 3})
    assert manifest.read(dataset.store)["purged"] == 3


def test_an_unfinished_folder_has_no_manifest_and_says_so(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(CorruptShard, match=r"holds no dataset\.json: not prepared, or not finished"):
            manifest.read(FolderStore(folder))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda content: content | {"splits": []}, r"is not a manifest: \[\] is not of type 'object'"),
        (lambda content: content | {"splits": {"../x": {}}}, "is not a manifest: "),
        (lambda content: {k: v for k, v in content.items() if k != "digest"}, "'digest' is a required property"),
    ],
)
def test_what_is_no_manifest_is_refused_in_words(change, message, dataset):
    documents.write(dataset.store, layout.MANIFEST, change(build(dataset)))
    with pytest.raises(CorruptShard, match=rf"out/dataset\.json .*{message}"):
        manifest.read(dataset.store)


@pytest.mark.parametrize("data", [b"", b"not json", b'{"version": 2, "splits": {}}'])
def test_a_damaged_manifest_is_refused_in_words(data, dataset):
    dataset.path(layout.MANIFEST).write_bytes(data)
    with pytest.raises(CorruptShard, match=r"out/dataset\.json (?:is|holds)"):
        manifest.read(dataset.store)


DAMAGED = {
    "a label map": ("labels.txt", b"running\nrunning\n", r"labels\.txt cannot be read: label map holds the same label"),
    "a missing label map": ("labels.txt", None, r"labels\.txt cannot be read"),
    "a recipe": ("recipe.json", b'{"version": 2}', r"recipe\.json is damaged"),
    "a missing recipe": ("recipe.json", None, r"holds no recipe\.json"),
    "a list of what was purged": ("purged.json", b"", r"purged\.json is empty"),
    "a marker": (f"markers/{NAME}.json", b"{", rf"markers/{NAME}\.json is not JSON"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_no_manifest_is_made_of_damaged_files(damage, dataset):
    key, data, message = DAMAGED[damage]
    if data is None:
        dataset.path(key).unlink()
    else:
        dataset.path(key).write_bytes(data)
    with pytest.raises(CorruptShard, match=message):
        build(dataset)
