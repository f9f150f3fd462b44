"""What `validate` finds, by damage: each planted problem is named, where it is, and nothing else."""

import dataclasses
import re
import shutil

import numpy as np
import pytest
import small_dataset
from small_dataset import LABELS, record_of, row

from kinetics_prep.dataset import documents, ledger, manifest, plan, state, validate
from kinetics_prep.dataset.record_problems import record_problems
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.image_codec import encode_frame, encode_levels
from kinetics_prep.storage import tables
from kinetics_prep.storage.folder_store import FolderStore

NAME = "train-00000-of-00002"
TFRECORD, PARQUET, LEDGER = f"tfrecord/{NAME}.tfrecord", f"parquet/{NAME}.parquet", f"ledger/{NAME}.parquet"


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    dataset = small_dataset.make(tmp_path_factory.mktemp("validate") / "out").complete({1: "network"})
    finish(dataset)
    return dataset.folder


def finish(dataset) -> None:
    """Writes dataset.json, and the state of a complete folder."""
    current = state.read(dataset.store)
    manifest.write(dataset.store, manifest.build(dataset.store, current))
    state.write(dataset.store, dataclasses.replace(current, is_complete=True))


@pytest.fixture
def folder(complete, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(complete, tmp_path / "out")


def problems(folder) -> list[str]:
    return sorted(map(str, validate.problems(validate.open_folder(folder), workers=2)))


def rewrite(folder, key, change) -> None:
    """Changes a document, as somebody would who knows its format."""
    content = documents.read(FolderStore(folder), key)
    change(content)
    (folder / key).write_bytes(documents.encode(content))


def rewrite_ledger(folder, change) -> None:
    key = f"ledger/{NAME}.parquet"
    rows = change(list(ledger.read(FolderStore(folder), key)))
    tables.write(folder / key, "ledger", [[each.as_dict() for each in rows]])


def test_nothing_is_wrong_with_what_was_written(complete):
    done = []
    opened = validate.open_folder(complete)
    assert list(validate.problems(opened, done=done.append)) == []
    assert tuple(done) == opened.shards
    assert [(shard.name, shard.written) for shard in opened.shards] == [(NAME, 2), ("train-00001-of-00002", 2)]


def test_a_complete_folder_without_a_manifest_is_checked_all_the_same(folder):
    (folder / "dataset.json").unlink()
    assert problems(folder) == ["dataset.json: is missing"]


def change_marker(folder, **changes) -> None:
    rewrite(folder, f"markers/{NAME}.json", lambda marker: marker.update(changes))


DAMAGES = {
    "a flipped byte of a record": (
        lambda folder: flip(folder / TFRECORD, 300),
        [f"^{TFRECORD}: its checksum is not the recorded one", f"^{TFRECORD}: .*data's checksum is wrong"],
    ),
    "a shard cut short": (
        lambda folder: (folder / TFRECORD).write_bytes((folder / TFRECORD).read_bytes()[:-4]),
        ["bytes long, expected", "its checksum is not the recorded one", "file ends inside a record"],
    ),
    "a missing shard": (lambda folder: (folder / PARQUET).unlink(), [f"^{PARQUET}: is missing$"]),
    "a missing ledger": (lambda folder: (folder / LEDGER).unlink(), [f"^{LEDGER}: is missing$"]),
    "a missing marker": (lambda folder: (folder / f"markers/{NAME}.json").unlink(), ["^markers/.*: is missing$"]),
    "a stranger among the shards": (
        lambda folder: shutil.copy(folder / TFRECORD, folder / "tfrecord/train-00009-of-00010.tfrecord"),
        ["^tfrecord/train-00009-of-00010.tfrecord: is not a file of this data set; a reader that takes all files"],
    ),
    "a stranger among the ledgers": (
        lambda folder: shutil.copy(folder / LEDGER, folder / "ledger/train-00009-of-00010.parquet"),
        ["^ledger/train-00009-of-00010.parquet: is not a file of this data set"],
    ),
    "labels in another order": (
        lambda folder: (folder / "labels.txt").write_text("walking\nrunning\n"),
        ["^labels.txt: is not the file that dataset.json knows; class ids may be wrong"],
    ),
    "another plan": (
        lambda folder: change_plan(folder),
        ["^plan/train.parquet: is not the plan that the shards were made from"],
    ),
    "a ledger row too few": (
        lambda folder: rewrite_ledger(folder, lambda rows: rows[:2]),
        [
            "its checksum is not the marker's",
            "its 2 rows are not the 3 that were planned",
            "1 rows written, its marker says 2",
            *["holds 2 clips, not the 1 that the ledger says, in order"] * 2,
        ],
    ),
    "a marker of another recipe": (
        lambda folder: change_marker(folder, recipe="f" * 16),
        [f"^markers/{NAME}.json: says recipe {'f' * 16}, expected {small_dataset.digest()}"],
    ),
    "a marker of another plan": (
        lambda folder: change_marker(folder, plan_sha256="0" * 64),
        [f"^markers/{NAME}.json: says plan_sha256 {'0' * 64}, expected"],
    ),
    "counts that do not add up": (
        lambda folder: rewrite(folder, "dataset.json", lambda content: content["splits"]["train"].update(written=3)),
        [
            "^dataset.json: does not say what the mark",
            "^dataset.json: train: 5 rows are planned and 4 are written or r",
        ],
    ),
    "a manifest that counts a clip too many in a shard": (
        lambda folder: rewrite(
            folder, "dataset.json", lambda content: content["splits"]["train"]["shards"][0].update(written=3)
        ),
        ["^dataset.json: does not say what the markers"],
    ),
}


def flip(path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def change_plan(folder) -> None:
    rows = [row(number) for number in (1, 0, 2, 3, 4)]
    dealt = [dataclasses.replace(each, shard=at // 3, index=at % 3) for at, each in enumerate(rows)]
    plan.write(small_dataset.store_of(folder), "plan/train.parquet", dealt, 2)


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_is_named_and_nothing_else(damage, folder):
    change, expected = DAMAGES[damage]
    change(folder)
    unexplained = problems(folder)
    for pattern in expected:
        match = next((line for line in unexplained if re.search(pattern, line)), None)
        assert match is not None, (pattern, unexplained)
        unexplained.remove(match)
    assert unexplained == []


def test_the_provenance_may_be_another_machines(folder):
    rewrite(folder, "dataset.json", lambda content: content["provenance"].update(numpy="0.1"))
    assert problems(folder) == []


def test_a_duplicate_in_the_same_shard_is_not_taken_for_the_clip(tmp_path):
    dataset = small_dataset.make(tmp_path / "out", rows=[row(0), small_dataset.duplicate(row(0), 1)]).complete()
    finish(dataset)
    assert problems(dataset.folder) == []


# Records ----------------------------------------------------------------------------------------

PLANNED = row(0)
TIMES = list(record_of(PLANNED)["image/timestamp"])
END = record_of(PLANNED)["clip/end/timestamp"]


def small_frame() -> bytes:
    return encode_frame(np.zeros((8, 16, 3), np.uint8), 95)


RECORDS = {
    "label": ({"clip/label/text": "walking"}, "bears label ['running', 'walking'], planned was 'running'"),
    "class id": ({"clip/label/index": 1}, "bears class id 1, which is not 'running' in labels.txt"),
    "class id beyond the map": ({"clip/label/index": 2}, "bears class id 2, which is not 'running' in labels.txt"),
    "recipe": ({"kinetics_prep/recipe": "a" * 16}, f"was made by recipe {'a' * 16}, not {small_dataset.digest()}"),
    "times that stand still": (
        {"image/timestamp": [TIMES[0], TIMES[0]]},
        "image/timestamp does not increase",
    ),
    "times in steps of another rate": (
        {"image/timestamp": [TIMES[0], TIMES[1] + 2]},
        "image/timestamp is not start + k / 5 s",
    ),
    "times that begin late": (
        {"FORWARD_FLOW/image/timestamp": [time + 2 for time in TIMES]},
        "FORWARD_FLOW/image/timestamp is not start + k / 5 s",
    ),
    "times beyond the end": (
        {"clip/end/timestamp": TIMES[1]},
        "image/timestamp goes beyond clip/end/timestamp",
    ),
    "a frame of another size": (
        {"image/encoded": [record_of(PLANNED)["image/encoded"][0], small_frame()]},
        "image/encoded holds images of [(8, 16)], expected (16, 16) (height, width)",
    ),
    "a flow of another size": (
        {"FORWARD_FLOW/image/encoded": [encode_levels(np.zeros((16, 8, 2), np.uint8), "jpeg", 95)] * 2},
        "FORWARD_FLOW/image/encoded holds images of [(16, 8)], expected (16, 16) (height, width)",
    ),
    "a frame that is no image": ({"image/encoded": [b"no", b"image"]}, "frame 0 of video0_000000_000001 does not dec"),
}


def test_a_sound_record_has_no_problem():
    assert list(record_problems(record_of(PLANNED), PLANNED, small_dataset.digest(), LABELS)) == []


@pytest.mark.parametrize("damage", RECORDS)
def test_each_problem_of_a_record_is_named(damage):
    changes, message = RECORDS[damage]
    named = list(record_problems(record_of(PLANNED, **changes), PLANNED, small_dataset.digest(), LABELS))
    assert any(line.startswith(message) for line in named), named
    several = {"times that stand still", "times beyond the end"}  # wrong in two ways; wrong for both streams
    assert len(named) == 1 + (damage in several), named


def test_a_time_may_be_off_by_the_rounding_of_a_microsecond_and_no_more():
    def named(shift: int) -> list[str]:
        record = record_of(PLANNED, **{"image/timestamp": [TIMES[0], TIMES[1] + shift]})
        return list(record_problems(record, PLANNED, small_dataset.digest(), LABELS))

    assert named(1) == named(-1) == []
    assert named(2) == named(-2) == ["image/timestamp is not start + k / 5 s"]


def test_the_last_time_lies_before_the_end_and_not_on_it():
    ends = {END: [], TIMES[1] + 1: [], TIMES[1]: 2, TIMES[1] - 1: 2}
    for end, expected in ends.items():
        record = record_of(PLANNED, **{"clip/end/timestamp": end})
        named = list(record_problems(record, PLANNED, small_dataset.digest(), LABELS))
        assert len(named) == (expected or 0), (end, named)


def test_a_record_of_no_row_says_so_and_nothing_else():
    assert list(record_problems(record_of(PLANNED), None, "", LABELS)) == ["is not in the shard's plan"]


def test_a_clip_without_a_label_has_none_in_its_record_either():
    unlabelled = type(PLANNED)(**vars(PLANNED) | {"label": None, "label_index": None})
    assert list(record_problems(record_of(unlabelled), unlabelled, small_dataset.digest(), LABELS)) == []
    named = list(record_problems(record_of(PLANNED), unlabelled, small_dataset.digest(), LABELS))
    assert named == ["bears label ['running'], planned was None"]


def test_every_format_is_read_back(folder):
    for name, module in SHARD_FORMATS.items():
        path = folder / f"{name}/{NAME}.{name}"
        records = list(module.read_shard(path))
        records[0] = record_of(row(7))
        module.write_shard(path, records)
        lines = [line for line in problems(folder) if line.startswith(name)]
        assert f"{name}/{NAME}.{name}, video7_000007_000008: is not in the shard's plan" in lines
        assert f"{name}/{NAME}.{name}: holds 2 clips, not the 2 that the ledger says, in order" in lines
