"""What `validate` finds, by damage: each planted problem is named, where it is, and nothing else."""

import dataclasses
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import small_dataset
from small_dataset import LABELS, record_of, row

from kinetics_prep.dataset import documents, layout, ledger, manifest, plan, purged, validate
from kinetics_prep.dataset import state as states
from kinetics_prep.dataset.record_problems import record_problems
from kinetics_prep.dataset.sources_file import write_sources
from kinetics_prep.errors import CorruptShard, NewerFormat
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.image_codec import encode_frame, encode_levels
from kinetics_prep.sources import Fetching

pytestmark = pytest.mark.usefixtures("unflushed")

NAME = "train-00000-of-00002"
DATA, LEDGER, MARKER = f"tfrecord/{NAME}.tfrecord", f"ledger/{NAME}.parquet", f"markers/{NAME}.json"


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    dataset = small_dataset.make(tmp_path_factory.mktemp("validate") / "out").complete({1: "network"})
    finish(dataset)
    return dataset.folder


def finish(dataset) -> None:
    """Writes the manifest and the last word on the state."""
    current = dataclasses.replace(states.read(dataset.store), is_complete=True)
    manifest.write(dataset.store, manifest.build(dataset.store, current))
    states.write(dataset.store, current)


@pytest.fixture
def store(complete, tmp_path):
    """A copy that may be damaged."""
    shutil.copytree(complete, tmp_path / "out")
    return small_dataset.store_of(tmp_path / "out")


def problems(folder: Path) -> list[str]:
    return sorted(map(str, validate.problems(validate.open_folder(folder), workers=2)))


def rewrite(store, key, change) -> None:
    """Changes a JSON document, whose checksum is right again then."""
    content = documents.read(store, key)
    change(content)
    documents.write(store, key, content)


def rewrite_ledger(store, change) -> None:
    ledger.write(store, LEDGER, change(list(ledger.read(store, LEDGER))))


def test_nothing_is_wrong_with_what_was_written(complete):
    done = []
    folder = validate.open_folder(complete)
    assert list(validate.problems(folder, done=done.append)) == []
    assert done == list(folder.shards)
    assert [(shard.name, shard.written, shard.part.shards) for shard in folder.shards] == [
        (NAME, 2, 2),
        ("train-00001-of-00002", 2, 2),
    ]


@pytest.mark.parametrize("key", ["dataset.json", "recipe.json", "labels.txt", "state.json"])
def test_a_folder_without_what_describes_it_cannot_be_validated(key, store):
    store.delete(key)
    with pytest.raises(
        CorruptShard, match=r"out(?:/labels\.txt cannot be read| holds no (?:dataset|recipe)\.json| holds no plan)"
    ):
        validate.open_folder(store.root)


DAMAGES = {
    "a flipped byte of a record": (
        lambda store: flip(store.root / DATA, 300),
        [
            f"tfrecord/{NAME}.tfrecord: its checksum is not the one in dataset.json",
            r"tfrecord/{NAME}.tfrecord: .* data's checksum is wrong",
        ],
    ),
    "a shard cut short": (
        lambda store: store.put(DATA, store.read(DATA)[:-4]),
        ["bytes long, expected", "its checksum is not the one in dataset.json", "file ends inside a record"],
    ),
    "a missing shard": (
        lambda store: store.delete(f"parquet/{NAME}.parquet"),
        [rf"parquet/{NAME}.parquet: .*No such file"],
    ),
    "a missing ledger": (
        lambda store: store.delete(LEDGER),
        [rf"^{NAME}: .*No such file", "ledger/.* is missing", "ledger/.* is missing"],
    ),
    "a missing marker": (
        lambda store: store.delete(MARKER),
        [rf"^{NAME}: .*No such file", "^dataset.json: does not say what the markers"],
    ),
    "a stranger among the shards": (
        lambda store: store.put("tfrecord/train-00009-of-00010.tfrecord", store.read(DATA)),
        ["^tfrecord/train-00009-of-00010.tfrecord: is not in dataset.json; a reader that takes all files"],
    ),
    "a stranger among the ledgers": (
        lambda store: store.put("ledger/train-00009-of-00010.parquet", store.read(LEDGER)),
        ["^ledger/train-00009-of-00010.parquet: is not in dataset.json"],
    ),
    "labels in another order": (
        lambda store: store.put("labels.txt", b"walking\nrunning\n"),
        [
            "^dataset.json: does not say what the markers",
            "^labels.txt: is not the file that dataset.json knows; class ids may be wrong",
            *["bears class id 0, which is not 'running' in labels.txt"] * 6,
            *["bears class id 1, which is not 'walking' in labels.txt"] * 2,
        ],
    ),
    "another plan": (
        lambda store: change_plan(store),
        ["^plan/train.parquet: is not the plan that the shards were made from", *["its 3 rows are not the 3 that"]],
    ),
    "a ledger row too few": (
        lambda store: rewrite_ledger(store, lambda rows: rows[:2]),
        [
            "its checksum is not the marker's",
            "its 2 rows are not the 3 that were planned",
            "1 rows written, dataset.json says 2",
            *["holds 2 clips, not the 1 that the ledger says, in order"] * 2,
        ],
    ),
    "a marker of another recipe": (
        lambda store: rewrite(store, MARKER, lambda marker: marker.update(recipe="f" * 16)),
        [f"^markers/{NAME}.json: says recipe {'f' * 16}, expected"],
    ),
    "a marker of another plan": (
        lambda store: rewrite(store, MARKER, lambda marker: marker.update(plan_sha256="0" * 64)),
        [
            f"^markers/{NAME}.json: says plan_sha256 {'0' * 64}, expected",
        ],
    ),
    "counts that do not add up": (
        lambda store: rewrite(store, "dataset.json", lambda content: content["splits"]["train"].update(written=3)),
        ["^dataset.json: does not say what the markers", "^train: 5 rows are planned and 4 are written or refused"],
    ),
    "a manifest that counts a clip too many in a shard": (
        lambda store: rewrite(
            store, "dataset.json", lambda content: content["splits"]["train"]["shards"][0].update(written=3)
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


def change_plan(store) -> None:
    rows = [row(number) for number in range(5)]
    rows[0], rows[1] = (
        type(row(0))(**vars(rows[1]) | {"shard": 0, "index": 0}),
        type(row(0))(**vars(rows[0]) | {"shard": 0, "index": 1}),
    )
    plan.write(store, "plan/train.parquet", rows, 2)


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_is_named_and_nothing_else(damage, store):
    change, expected = DAMAGES[damage]
    change(store)
    unexplained = problems(store.root)
    for pattern in expected:
        match = next((line for line in unexplained if re.search(pattern.replace("{NAME}", NAME), line)), None)
        assert match is not None, (pattern, unexplained)
        unexplained.remove(match)
    assert unexplained == []


def test_shards_of_a_split_that_is_not_finished_are_no_strangers(store):
    store.put("tfrecord/val-00000-of-00002.tfrecord", store.read(DATA))
    store.put("ledger/val-00000-of-00002.parquet", store.read(LEDGER))
    assert problems(store.root) == []


def test_the_provenance_may_be_another_machines(store):
    rewrite(store, "dataset.json", lambda content: content["provenance"].update(numpy="0.1"))
    assert problems(store.root) == []


def test_a_duplicate_in_the_same_shard_is_not_taken_for_the_clip(tmp_path):
    rows = [row(0), small_dataset.duplicate(row(0), 1)]
    dataset = small_dataset.make(tmp_path / "out", rows=rows).complete()
    finish(dataset)
    assert problems(dataset.folder) == []


FILES = [
    "dataset.json",
    "labels.txt",
    "recipe.json",
    "state.json",
    "sources.json",
    "purged.json",
    "plan/train.parquet",
    MARKER,
    LEDGER,
    DATA,
    f"parquet/{NAME}.parquet",
]


@pytest.mark.parametrize("key", FILES)
def test_a_flipped_byte_of_any_file_is_named(key, store):
    purged.write(store, purged.Purged())
    write_sources(store, Fetching(("/data/videos",)))
    assert problems(store.root) == []
    whole, chance = store.read(key), random.Random(key)
    places = {0, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(6))}
    for place in places:
        (store.root / key).write_bytes(whole)
        flip(store.root / key, place)
        try:
            named = problems(store.root)
        except (CorruptShard, NewerFormat) as error:
            named = [str(error)]
        assert any(Path(key).name in line for line in named), (place, named)


def test_a_run_that_is_under_way_is_named(store):
    states.write(store, dataclasses.replace(states.read(store), is_complete=False))
    assert problems(store.root) == ["state.json: a run is in the middle of it (preparing); give its command once more"]


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


def test_every_format_is_read_back(store):
    for name, module in SHARD_FORMATS.items():
        path = store.root / layout.data_key(NAME, module.SUFFIX)
        records = list(module.read_shard(path))
        records[0] = record_of(row(7))
        module.write_shard(path, records)
        lines = [line for line in problems(store.root) if line.startswith(name)]
        assert f"{name}/{NAME}.{name}, video7_000007_000008: is not in the shard's plan" in lines
        assert f"{name}/{NAME}.{name}: holds 2 clips, not the 2 that the ledger says, in order" in lines
