"""What `validate` finds, by damage: each planted problem is named, where it is, and nothing else."""

import json
import shutil

import numpy as np
import pytest
import small_dataset
from small_dataset import LABELS, record_of, row

from kinetics_prep.dataset import ledger, manifest, validate
from kinetics_prep.dataset.record_problems import record_problems
from kinetics_prep.errors import CorruptShard
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.image_codec import encode_frame, encode_levels
from kinetics_prep.storage import tables

NAME = "train-00000-of-00002"


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    dataset = small_dataset.make(tmp_path_factory.mktemp("validate") / "out").complete({1: "network"})
    manifest.write(dataset.layout, manifest.build(dataset.layout))
    return dataset


@pytest.fixture
def layout(complete, tmp_path):
    """A copy that may be damaged."""
    shutil.copytree(complete.layout.output, tmp_path / "out")
    return type(complete.layout)(tmp_path / "out")


def problems(layout) -> list[str]:
    return sorted(map(str, validate.problems(layout, validate.list_shards(layout), workers=2)))


def rewrite(path, change) -> None:
    """Changes a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def rewrite_ledger(layout, change) -> None:
    path = layout.ledger(NAME)
    rows = change(list(ledger.read(path)))
    tables.write(path, "ledger", [[each.as_dict() for each in rows]])


def test_nothing_is_wrong_with_what_was_written(complete):
    done = []
    shards = validate.list_shards(complete.layout)
    assert list(validate.problems(complete.layout, shards, done=done.append)) == []
    assert done == shards
    assert [(shard.name, shard.written, shard.shards) for shard in shards] == [
        (NAME, 2, 2),
        ("train-00001-of-00002", 2, 2),
    ]


def test_a_folder_without_a_manifest_has_no_shards_to_validate(layout):
    layout.manifest.unlink()
    with pytest.raises(CorruptShard, match=r"holds no dataset\.json"):
        validate.list_shards(layout)


DAMAGES = {
    "a flipped byte of a record": (
        lambda layout: flip(layout.shard(NAME, "tfrecord"), 300),
        [
            f"tfrecord/{NAME}.tfrecord: its checksum is not the one in dataset.json",
            r"tfrecord/{NAME}.tfrecord: .* data's checksum is wrong",
        ],
    ),
    "a shard cut short": (
        lambda layout: layout.shard(NAME, "tfrecord").write_bytes(layout.shard(NAME, "tfrecord").read_bytes()[:-4]),
        ["bytes long, expected", "its checksum is not the one in dataset.json", "file ends inside a record"],
    ),
    "a missing shard": (
        lambda layout: layout.shard(NAME, "parquet").unlink(),
        [rf"parquet/{NAME}.parquet: .*No such file"],
    ),
    "a missing ledger": (
        lambda layout: layout.ledger(NAME).unlink(),
        [rf"^{NAME}: .*No such file", "No such file", "No such file"],
    ),
    "a missing marker": (
        lambda layout: layout.marker(NAME).unlink(),
        [rf"^{NAME}: .*No such file", "^dataset.json: does not say what the markers"],
    ),
    "a stranger among the shards": (
        lambda layout: shutil.copy(layout.shard(NAME, "tfrecord"), layout.shard("train-00009-of-00010", "tfrecord")),
        ["^tfrecord/train-00009-of-00010.tfrecord: is not in dataset.json; a reader that takes all files"],
    ),
    "a stranger among the ledgers": (
        lambda layout: shutil.copy(layout.ledger(NAME), layout.ledger("train-00009-of-00010")),
        ["^ledger/train-00009-of-00010.parquet: is not in dataset.json"],
    ),
    "labels in another order": (
        lambda layout: layout.labels.write_text("walking\nrunning\n"),
        [
            "^dataset.json: does not say what the markers",
            "^labels.txt: is not the file that dataset.json knows; class ids may be wrong",
            *["bears class id 0, which is not 'running' in labels.txt"] * 6,
            *["bears class id 1, which is not 'walking' in labels.txt"] * 2,
        ],
    ),
    "another plan": (
        lambda layout: change_plan(layout),
        ["^plan/train.parquet: is not the plan that the shards were made from", *["its 3 rows are not the 3 that"]],
    ),
    "a ledger row too few": (
        lambda layout: rewrite_ledger(layout, lambda rows: rows[:2]),
        [
            "its checksum is not the marker's",
            "its 2 rows are not the 3 that were planned",
            "1 rows written, dataset.json says 2",
            *["holds 2 clips, not the 1 that the ledger says, in order"] * 2,
        ],
    ),
    "a marker of another recipe": (
        lambda layout: rewrite(layout.marker(NAME), lambda marker: marker.update(recipe="f" * 16)),
        [f"^markers/{NAME}.json: says recipe {'f' * 16}, dataset.json"],
    ),
    "a marker of another plan": (
        lambda layout: rewrite(layout.marker(NAME), lambda marker: marker.update(plan_sha256="0" * 64)),
        [
            f"^markers/{NAME}.json: says plan_sha256 {'0' * 64}, dataset.json",
            "^dataset.json: does not say what the mark",
        ],
    ),
    "counts that do not add up": (
        lambda layout: rewrite(layout.manifest, lambda content: content["splits"]["train"].update(written=3)),
        ["^dataset.json: does not say what the markers", "^train: 5 rows are planned and 4 are written or refused"],
    ),
    "a manifest that counts a clip too many in a shard": (
        lambda layout: rewrite(
            layout.manifest, lambda content: content["splits"]["train"]["shards"][0].update(written=3)
        ),
        [
            "^dataset.json: does not say what the markers",
            f"^ledger/{NAME}.parquet: 2 rows written, dataset.json says 3",
        ],
    ),
}


def flip(path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def change_plan(layout) -> None:
    from kinetics_prep.dataset import plan

    rows = [row(number) for number in range(5)]
    rows[0], rows[1] = (
        type(row(0))(**vars(rows[1]) | {"shard": 0, "index": 0}),
        type(row(0))(**vars(rows[0]) | {"shard": 0, "index": 1}),
    )
    plan.write(layout.plan("train"), rows, 2)


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_is_named_and_nothing_else(damage, layout):
    change, expected = DAMAGES[damage]
    change(layout)
    import re

    unexplained = problems(layout)
    for pattern in expected:
        match = next((line for line in unexplained if re.search(pattern.replace("{NAME}", NAME), line)), None)
        assert match is not None, (pattern, unexplained)
        unexplained.remove(match)
    assert unexplained == []


def test_shards_of_a_split_that_is_not_finished_are_no_strangers(layout):
    shutil.copy(layout.shard(NAME, "tfrecord"), layout.shard("val-00000-of-00002", "tfrecord"))
    shutil.copy(layout.ledger(NAME), layout.ledger("val-00000-of-00002"))
    assert problems(layout) == []


def test_the_provenance_may_be_another_machines(layout):
    rewrite(layout.manifest, lambda content: content["provenance"].update(numpy="0.1"))
    assert problems(layout) == []


def test_a_duplicate_in_the_same_shard_is_not_taken_for_the_clip(tmp_path):
    rows = [row(0), small_dataset.duplicate(row(0), 1)]
    dataset = small_dataset.make(tmp_path / "out", rows=rows).complete()
    manifest.write(dataset.layout, manifest.build(dataset.layout))
    assert problems(dataset.layout) == []


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


def test_every_format_is_read_back(layout):
    for name, module in SHARD_FORMATS.items():
        path = layout.shard(NAME, module.SUFFIX)
        records = list(module.read_shard(path))
        records[0] = record_of(row(7))
        module.write_shard(path, records)
        lines = [line for line in problems(layout) if line.startswith(name)]
        assert f"{name}/{NAME}.{name}, video7_000007_000008: is not in the shard's plan" in lines
        assert f"{name}/{NAME}.{name}: holds 2 clips, not the 2 that the ledger says, in order" in lines
