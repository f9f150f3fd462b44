"""A search: refused rows tried once more, found ones in shards of their own, each row in one ledger whenever killed."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import small_dataset
from killing import each_kill
from small_dataset import duplicate, ledger_row, record_of, row

from kinetics_prep.dataset import layout, ledger, markers, objects, plan, recipe_file, search
from kinetics_prep.dataset import state as states
from kinetics_prep.dataset.door import finish_packing, open_for_writing
from kinetics_prep.dataset.part import Part, list_parts, list_searches, rows_of
from kinetics_prep.dataset.shards import assemble
from kinetics_prep.dataset.state import PACKING, SEARCHING, State
from kinetics_prep.errors import CorruptShard
from kinetics_prep.records import tfrecord
from kinetics_prep.storage.folder_store import FolderStore

pytestmark = pytest.mark.usefixtures("unflushed")

REASONS = ("network", "geo")
REFUSED = {0: "network", 1: "private", 3: "geo", 4: "network"}


@pytest.fixture
def dataset(tmp_path):
    """Five rows in two shards: the first, fourth and fifth are searched."""
    return small_dataset.make(tmp_path / "out").complete(REFUSED)


def parts_of(dataset, state: State) -> list[Part]:
    return list_parts(dataset.store, state, recipe_file.read(dataset.store))


def begin(dataset, reasons: tuple[str, ...] = REASONS) -> tuple[State, Part]:
    """The state of a search for the rows of a split, and its part."""
    current = states.read(dataset.store)
    begun = search.begin(dataset.store, current, parts_of(dataset, current), reasons)
    states.write(dataset.store, begun)
    (part,) = list_searches(dataset.store, begun, recipe_file.read(dataset.store))
    return begun, part


def try_rows(part: Part, outcomes: dict[int, str | None]) -> None:
    """Writes the objects of searched rows, by the number of their videos: found, or refused for a reason."""
    for planned in plan.read(part.store, part.plan):
        number = int(planned.media_id.removeprefix("video"))
        if number in outcomes:
            reason = outcomes[number]
            data = None if reason else record_of(planned).to_bytes()
            objects.create_object(part, planned, ledger_row(planned, reason), data)


def close_and_pack(dataset, begun: State) -> tuple[State, search.Outcome]:
    recipe = recipe_file.read(dataset.store)
    closed = search.close(dataset.store, begun, recipe)
    states.write(dataset.store, closed)
    packed, outcome = search.pack(dataset.store, closed, recipe)
    states.write(dataset.store, packed)
    return packed, outcome


def in_ledgers(store: FolderStore) -> dict[int, list[str]]:
    """By line of the annotations: the shards whose ledgers have the row, with what became of it."""
    found: dict[int, list[str]] = {}
    for name in sorted(markers.committed_shards(store)):
        for each in ledger.read(store, layout.ledger_key(name)):
            found.setdefault(each.annotation_line - 2, []).append(f"{name[:-15]}: {each.reason or each.status}")
    return found


def files(store: FolderStore) -> dict[str, bytes]:
    """Every file but the work folder's and the state."""
    entries = [entry.key for entry in store.list() if not entry.key.startswith(layout.WORK)]
    return {key: store.read(key) for key in entries if key != layout.STATE}


# Beginning --------------------------------------------------------------------------------------


def test_a_search_looks_for_rows_refused_for_its_reasons_dealt_anew(dataset):
    begun, part = begin(dataset)
    assert begun.name == SEARCHING
    assert (begun.searches, begun.search.number, begun.search.serial, begun.search.reasons) == (1, 1, 1, REASONS)
    wanted = [dataset.rows[0], dataset.rows[3], dataset.rows[4]]
    dealt = [dataclasses.replace(each, shard=0, index=index) for index, each in enumerate(wanted)]
    assert list(plan.read(dataset.store, part.plan)) == dealt
    assert begun.search.plans == {"train": plan.entry_of(dataset.store, ".work/search/train.parquet")}
    assert search.count_untried(part) == 3


def test_without_such_a_row_there_is_no_search(dataset):
    current = states.read(dataset.store)
    assert search.begin(dataset.store, current, parts_of(dataset, current), ("removed",)) == current
    assert list(dataset.store.list(".work/search/")) == []


def test_rows_of_shards_that_are_not_committed_are_not_searched(dataset):
    """They are tried again by the run itself."""
    dataset.store.delete("markers/train-00001-of-00002.json")
    _, part = begin(dataset)
    assert [planned.media_id for planned in plan.read(dataset.store, part.plan)] == ["video0"]


def test_a_duplicate_with_the_id_of_a_refused_clip_is_not_searched(tmp_path):
    rows = [row(0), duplicate(row(0), 1)]
    dataset = small_dataset.make(tmp_path / "out", rows=rows).complete({0: "network"})
    _, part = begin(dataset, ("network", "duplicate_row"))
    assert list(plan.read(dataset.store, part.plan)) == [rows[0]]


# What it comes to -------------------------------------------------------------------------------


def test_what_is_found_gets_shards_of_its_own_and_leaves_the_older_ledgers(dataset):
    before = files(dataset.store)
    begun, part = begin(dataset)
    try_rows(part, {0: None, 3: "removed", 4: None})
    assert search.count_untried(part) == 0
    packed, outcome = close_and_pack(dataset, begun)
    assert outcome == search.Outcome(searched=3, found=2, refused={"removed": 1}, shards=1)
    assert str(outcome) == "looked for 3 rows again: 2 found, in 1 new shard; still refused: 1 removed"
    assert packed.search is None and packed.searches == 1
    assert packed.plans.keys() == {"train", "train-refresh1"}
    assert in_ledgers(dataset.store) == {
        0: ["train-refresh1: written"],
        1: ["train: private"],
        2: ["train: written"],
        3: ["train: removed"],
        4: ["train-refresh1: written"],
    }
    records = tfrecord.read_shard(dataset.path("tfrecord/train-refresh1-00000-of-00001.tfrecord"))
    assert [each.to_bytes() for each in records] == [record_of(dataset.rows[k]).to_bytes() for k in (0, 4)]
    after = files(dataset.store)
    for key in before:
        if key.startswith(("tfrecord/", "parquet/", "plan/")):
            assert after[key] == before[key]
    counts = [markers.read_marker(dataset.store, f"train-0000{shard}-of-00002") for shard in (0, 1)]
    assert [(marker["rows"], marker["written"], marker["refused"]) for marker in counts] == [
        (2, 1, {"private": 1}),
        (1, 0, {"removed": 1}),
    ]


def test_each_part_accounts_for_the_rows_in_its_ledgers(dataset):
    begun, part = begin(dataset)
    try_rows(part, {0: None, 3: None, 4: None})
    packed, _ = close_and_pack(dataset, begun)
    parts = parts_of(dataset, packed)
    assert [part.name for part in parts] == ["train", "train-refresh1"]
    for each in parts:
        for shard in range(each.shards):
            rows = [found.clip_id for found in ledger.read(dataset.store, layout.ledger_key(each.shard_name(shard)))]
            assert rows == [planned.clip_id for planned in rows_of(each, shard)]
            assert len(rows) == each.count_rows(shard)


def test_a_search_that_finds_nothing_writes_no_shard_and_new_reasons(dataset):
    begun, part = begin(dataset)
    try_rows(part, {0: "removed", 3: "geo", 4: "removed"})
    packed, outcome = close_and_pack(dataset, begun)
    assert str(outcome) == "looked for 3 rows again: 0 found; still refused: 2 removed, 1 geo"
    assert packed.plans.keys() == {"train"}
    assert in_ledgers(dataset.store) == {
        0: ["train: removed"],
        1: ["train: private"],
        2: ["train: written"],
        3: ["train: geo"],
        4: ["train: removed"],
    }


def test_a_search_that_is_closed_early_leaves_the_others_refused_as_they_were(dataset):
    begun, part = begin(dataset)
    try_rows(part, {3: None})
    assert search.count_untried(part) == 2
    _, outcome = close_and_pack(dataset, begun)
    assert (outcome.searched, outcome.found) == (1, 1)
    found = in_ledgers(dataset.store)
    assert (found[0], found[3], found[4]) == (["train: network"], ["train-refresh1: written"], ["train: network"])


def test_a_second_search_finds_what_the_first_did_not_and_has_another_number(dataset):
    begun, part = begin(dataset)
    try_rows(part, {0: None, 3: "geo", 4: "network"})
    close_and_pack(dataset, begun)
    begun, part = begin(dataset)
    assert (begun.search.number, begun.search.serial, part.name) == (2, 2, "search2-train")
    try_rows(part, {3: None, 4: "network"})
    close_and_pack(dataset, begun)
    begun, part = begin(dataset)
    assert [planned.media_id for planned in plan.read(dataset.store, part.plan)] == ["video4"]
    try_rows(part, {4: None})
    packed, _ = close_and_pack(dataset, begun)
    assert packed.plans.keys() == {"train", "train-refresh1", "train-refresh2", "train-refresh3"}
    assert in_ledgers(dataset.store) == {
        0: ["train-refresh1: written"],
        1: ["train: private"],
        2: ["train: written"],
        3: ["train-refresh2: written"],
        4: ["train-refresh3: written"],
    }


def test_a_search_without_a_find_leaves_its_number_to_the_next_and_not_its_serial(dataset):
    begun, part = begin(dataset)
    try_rows(part, {0: "geo"})
    close_and_pack(dataset, begun)
    begun, part = begin(dataset)
    assert (begun.search.number, begun.search.serial) == (1, 2)
    assert search.count_untried(part) == 3  # objects of the first search do not count


def test_splits_are_searched_together_and_packed_apart(dataset):
    val = small_dataset.make(dataset.folder, count=4, split="val").complete({2: "network"})
    current = states.read(val.store)
    begun = search.begin(val.store, current, parts_of(val, current), REASONS)
    states.write(val.store, begun)
    for part in list_searches(val.store, begun, recipe_file.read(val.store)):
        try_rows(part, {0: None, 2: None, 3: "geo", 4: "geo"})
    packed, outcome = close_and_pack(val, begun)
    assert (outcome.searched, outcome.found, outcome.shards) == (4, 2, 2)
    assert packed.plans.keys() == {"train", "train-refresh1", "val", "val-refresh1"}
    written = [name for name in markers.committed_shards(val.store) if "refresh" in name]
    assert sorted(written) == ["train-refresh1-00000-of-00001", "val-refresh1-00000-of-00001"]


def test_a_duplicate_of_a_clip_that_was_found_stays_in_its_ledger(tmp_path):
    rows = [row(0), duplicate(row(0), 1), row(2)]
    dataset = small_dataset.make(tmp_path / "out", rows=rows).complete({0: "network"})
    begun, part = begin(dataset)
    try_rows(part, {0: None})
    close_and_pack(dataset, begun)
    assert in_ledgers(dataset.store) == {
        0: ["train-refresh1: written"],
        1: ["train: duplicate_row"],
        2: ["train: written"],
    }


# Damage -----------------------------------------------------------------------------------------


DAMAGE = {
    "a flipped bit of the ledger row": lambda content: content[:20] + bytes([content[20] ^ 1]) + content[21:],
    "a name that is only reserved": lambda content: b"",
    "cut where the record begins": lambda content: content[: 16 + int.from_bytes(content[:8], "little")],
}


def object_of(part: Part, media_id: str) -> str:
    return next(part.object_key(each) for each in plan.read(part.store, part.plan) if each.media_id == media_id)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_object_is_not_taken_for_a_find(damage, dataset):
    begun, part = begin(dataset)
    try_rows(part, {0: None, 3: "geo", 4: None})
    path = dataset.path(object_of(part, "video0"))
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    _, outcome = close_and_pack(dataset, begun)
    assert (outcome.found, outcome.shards) == (1, 1)
    found = in_ledgers(dataset.store)
    assert (found[0], found[4]) == (["train: network"], ["train-refresh1: written"])


LOSSES = {
    **DAMAGE,
    "a flipped bit of the record": lambda content: content[:-6] + bytes([content[-6] ^ 1]) + content[-5:],
    "gone": None,
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_find_that_is_lost_before_it_is_packed_is_prepared_again(loss, dataset):
    begun, part = begin(dataset)
    try_rows(part, {0: None, 3: None, 4: None})
    states.write(dataset.store, search.close(dataset.store, begun, recipe_file.read(dataset.store)))
    path = dataset.path(object_of(part, "video0"))
    if LOSSES[loss] is None:
        path.unlink()
    else:
        path.write_bytes(LOSSES[loss](path.read_bytes()))
    with open_for_writing(dataset.folder) as folder:
        assert folder.state.search is None
        (found,) = [each for each in parts_of(dataset, folder.state) if each.refresh]
        found = dataclasses.replace(found, store=folder.store)
        missing = [
            each for each in rows_of(found, 0) if found.object_key(each) not in objects.existing_objects(found, 0)
        ]
        assert [each.media_id for each in missing] == ["video0"]
        objects.create_object(found, missing[0], ledger_row(missing[0]), record_of(missing[0]).to_bytes())
        assert assemble(found, 0) is True
    assert in_ledgers(dataset.store) == {
        0: ["train-refresh1: written"],
        1: ["train: private"],
        2: ["train: written"],
        3: ["train-refresh1: written"],
        4: ["train-refresh1: written"],
    }


# Killed -----------------------------------------------------------------------------------------


def run_command(output: Path, is_last: bool = False) -> None:
    """What `retry` does: it goes on with a search, or begins one, tries each row and packs what it found."""
    with open_for_writing(output) as folder:
        store, recipe = folder.store, recipe_file.read(folder.store)
        if folder.state.search is None and folder.finished is None:
            parts = list_parts(store, folder.state, recipe)
            folder.save(search.begin(store, folder.state, parts, REASONS))
        for part in list_searches(store, folder.state, recipe):
            try_rows(part, {0: None, 2: None, 3: "geo", 4: None})
        if folder.state.search is not None:
            folder.save(search.close(store, folder.state, recipe))
            folder.finished = finish_packing(folder)


def make(output: Path) -> FolderStore:
    dataset = small_dataset.make(output).complete(REFUSED)
    small_dataset.make(output, count=4, split="val").complete({2: "network"})
    dataset.store.scratch.rmdir()
    return FolderStore(output)


def test_at_whatever_write_a_search_is_killed_the_next_run_gives_what_an_undisturbed_one_does(tmp_path):
    fresh = make(tmp_path / "fresh").root
    store = FolderStore(shutil.copytree(fresh, tmp_path / "undisturbed"))
    run_command(store.root)
    expected = files(store)
    assert len([key for key in expected if "refresh1" in key]) == 2 * 5  # plan, two formats, ledger, marker
    folders = (tmp_path / str(number) for number in range(200))
    current: list[FolderStore] = []

    def begin_anew():
        current.append(FolderStore(shutil.copytree(fresh, next(folders))))
        return lambda: run_command(current[-1].root)

    names = set()
    for writes in each_kill(begin_anew):
        state = states.read(current[-1])
        names.add(state.name)
        assert state.name == PACKING or all(len(shards) == 1 for shards in in_ledgers_of_train(current[-1]).values())
        run_command(current[-1].root)
        assert files(current[-1]) == expected, writes
        assert all(len(shards) == 1 for shards in in_ledgers_of_train(current[-1]).values())
        with open_for_writing(current[-1].root):
            pass
        assert not (current[-1].root / ".work").exists()
    assert names == {states.PREPARING, SEARCHING, PACKING}
    assert files(current[-1]) == expected


def in_ledgers_of_train(store: FolderStore) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in markers.committed_shards(store):
        for each in ledger.read(store, layout.ledger_key(name)):
            found.setdefault(f"{each.split} {each.annotation_line}", []).append(name)
    return found


def test_any_command_finishes_what_was_being_packed_and_says_what_it_came_to(dataset):
    begun, part = begin(dataset)
    try_rows(part, {0: None, 3: "removed", 4: None})
    states.write(dataset.store, search.close(dataset.store, begun, recipe_file.read(dataset.store)))
    with open_for_writing(dataset.folder) as folder:
        assert folder.finished == search.Outcome(searched=3, found=2, refused={"removed": 1}, shards=1)
        assert folder.state.search is None
    assert in_ledgers(dataset.store)[0] == ["train-refresh1: written"]
    assert not dataset.path(".work").exists()


def test_a_search_that_was_killed_goes_on_with_what_it_had_tried(dataset):
    begun, part = begin(dataset)
    try_rows(part, {0: None})
    with open_for_writing(dataset.folder) as folder:
        assert folder.state == begun
        assert search.count_untried(part) == 2


def test_a_plan_of_a_search_that_was_not_begun_is_removed(dataset):
    current = states.read(dataset.store)
    search.begin(dataset.store, current, parts_of(dataset, current), REASONS)
    with open_for_writing(dataset.folder) as folder:
        assert list(folder.store.list(".work/search/")) == []


def test_a_folder_without_a_recipe_cannot_be_packed(dataset):
    begun, _ = begin(dataset)
    states.write(dataset.store, search.close(dataset.store, begun, recipe_file.read(dataset.store)))
    dataset.store.delete("recipe.json")
    with pytest.raises(CorruptShard, match=r"out holds no recipe\.json"), open_for_writing(dataset.folder):
        pass
