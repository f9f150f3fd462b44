"""state.json: what is under way, read back as written, and nothing else taken for it."""

import dataclasses
import json

import pytest
import small_dataset

from kinetics_prep.dataset import documents, layout
from kinetics_prep.dataset import state as states
from kinetics_prep.dataset.state import CHANGING, COMPLETE, PACKING, PREPARING, SEARCHING, PlanEntry, Planned, State
from kinetics_prep.errors import CorruptShard, NewerFormat

pytestmark = pytest.mark.usefixtures("unflushed")

ENTRY = PlanEntry(rows=5, sha256="a" * 64, file_sha256="b" * 64)
SEARCH = states.Search(number=2, serial=7, reasons=("network", "geo"), plans={"train": ENTRY}, is_packing=False)
FULL = State(
    epoch=3,
    plans={"train": ENTRY, "train-refresh1": ENTRY, "val": dataclasses.replace(ENTRY, rows=0)},
    selections={"c" * 64: Planned(("train", "val"), ("train.csv: 5 rows",)), "d" * 64: Planned((), ())},
    searches=7,
    search=SEARCH,
    change={"kind": "convert", "formats": ["parquet"], "is_moving": False},
    is_complete=True,
)


@pytest.fixture
def store(tmp_path):
    return small_dataset.store_of(tmp_path / "out")


@pytest.mark.parametrize("state", [State(), FULL, dataclasses.replace(FULL, search=None, change=None)])
def test_a_state_reads_back_as_written(state, store):
    states.write(store, state)
    assert states.read(store) == state


def test_a_folder_without_a_state_has_none(store):
    assert states.read(store) is None
    assert states.read(type(store)(store.root / "nowhere")) is None


def test_splits_are_in_the_order_in_which_they_are_prepared():
    plans = dict.fromkeys(["val", "train-refresh1", "test", "train"], ENTRY)
    assert State(plans=plans).splits == ("train", "val", "test")


MOVING, BUILDING = {"kind": "convert", "is_moving": True}, {"kind": "convert"}
PACK = dataclasses.replace(SEARCH, is_packing=True)


@pytest.mark.parametrize(
    "changes, name",
    [
        ({}, PREPARING),
        ({"is_complete": True}, COMPLETE),
        ({"search": SEARCH}, SEARCHING),
        ({"search": SEARCH, "is_complete": True}, SEARCHING),
        ({"search": PACK, "is_complete": True}, PACKING),
        ({"change": BUILDING, "is_complete": True}, COMPLETE),
        ({"change": BUILDING, "search": SEARCH}, SEARCHING),
        ({"change": MOVING, "is_complete": True}, CHANGING),
        ({"change": MOVING, "search": PACK}, CHANGING),
    ],
)
def test_one_word_says_what_is_under_way(changes, name, store):
    state = State(**changes)
    assert state.name == name
    states.write(store, state)
    assert json.loads(store.read(layout.STATE))["state"] == name


def test_the_table_has_a_word_for_every_state_and_command():
    assert states.MAY_FOLLOW.keys() == {PREPARING, SEARCHING, PACKING, CHANGING, COMPLETE}
    commands = {"flow", "retry", "refresh", "repair", "convert", "purge"}
    words = {states.GOES_ON, states.CLOSES, states.FINISHES, states.REFUSES}
    for may_follow in states.MAY_FOLLOW.values():
        assert may_follow.keys() == commands
        assert set(may_follow.values()) <= words


def entry(**changes):
    return dataclasses.asdict(ENTRY) | changes


def search(**changes):
    return dataclasses.asdict(SEARCH) | changes


HOSTILE = {
    "nothing": lambda content: content.clear(),
    "an epoch of text": lambda content: content.update(epoch="1"),
    "an epoch of a part": lambda content: content.update(epoch=1.5),
    "an epoch without end": lambda content: content.update(epoch=float("inf")),
    "an epoch below nothing": lambda content: content.update(epoch=-1),
    "an epoch of a truth": lambda content: content.update(epoch=True),
    "plans in a list": lambda content: content.update(plans=["train"]),
    "a plan that leaves the folder": lambda content: content["plans"].update({"../../etc/passwd": entry()}),
    "a plan at the root": lambda content: content["plans"].update({"/etc/passwd": entry()}),
    "a plan of no split": lambda content: content["plans"].update({"training": entry()}),
    "a plan with a line break": lambda content: content["plans"].update({"train\n": entry()}),
    "a plan in a folder below": lambda content: content["plans"].update({"train/x": entry()}),
    "a find of a split that has no plan": lambda content: content["plans"].update({"test-refresh1": entry()}),
    "a plan of no rows": lambda content: content["plans"].update(train=entry(rows=-1)),
    "rows as text": lambda content: content["plans"].update(train=entry(rows="5")),
    "rows as a truth": lambda content: content["plans"].update(train=entry(rows=True)),
    "a checksum that is none": lambda content: content["plans"].update(train=entry(sha256=["a"])),
    "a file's checksum that is none": lambda content: content["plans"].update(train=entry(file_sha256=[])),
    "a plan without a checksum": lambda content: content["plans"]["train"].pop("sha256"),
    "a selection of no split": lambda content: content["selections"].update(x={"splits": ["../x"], "files": []}),
    "a selection that is none": lambda content: content["selections"].update(x=3),
    "selections in a list": lambda content: content.update(selections=[]),
    "searches without end": lambda content: content.update(searches=float("nan")),
    "a search for no split": lambda content: content.update(search=search(plans={"../x": entry()})),
    "a search for finds": lambda content: content.update(search=search(plans={"train-refresh1": entry()})),
    "a search for a split that has no plan": lambda content: content.update(search=search(plans={"test": entry()})),
    "a search that would write over the first plan": lambda content: content.update(search=search(number=0)),
    "a search with a number too long for a name": lambda content: content.update(search=search(number=10**6)),
    "a search without a serial": lambda content: content.update(search=search(serial=0)),
    "reasons in a number": lambda content: content.update(search=search(reasons=3)),
    "packing that is no truth": lambda content: content.update(search=search(is_packing="no")),
    "complete that is no truth": lambda content: content.update(is_complete="no"),
    "a change that is none": lambda content: content.update(change=3),
    "no word on a search": lambda content: content.pop("search"),
}


@pytest.mark.parametrize("damage", HOSTILE)
def test_a_document_that_says_no_state_is_refused_in_words(damage, store):
    content = json.loads(json.dumps(FULL.to_document()))
    HOSTILE[damage](content)
    documents.write(store, layout.STATE, content)
    with pytest.raises(CorruptShard, match=r"out/state\.json holds no state: "):
        states.read(store)


def test_what_a_newer_version_adds_is_passed_over(store):
    documents.write(store, layout.STATE, FULL.to_document() | {"comment": "of a newer version"})
    assert states.read(store) == FULL


def test_a_damaged_or_newer_state_is_not_taken_for_none(store):
    (store.root / layout.STATE).write_bytes(b'{"version": 3}')
    with pytest.raises(NewerFormat):
        states.read(store)
    for data in (b"", b"{", b"{}"):
        (store.root / layout.STATE).write_bytes(data)
        with pytest.raises(CorruptShard, match=r"out/state\.json"):
            states.read(store)
