"""What every shard format of the table promises."""

import random
import weakref

import pytest
from example_records import FRAMES, flipped, record, records, write

from kinetics_prep.errors import CorruptShard
from kinetics_prep.records import SHARD_FORMATS


@pytest.fixture(params=SHARD_FORMATS)
def name(request) -> str:
    """A row of the table."""
    return request.param


def test_a_format_is_named_after_its_suffix(name):
    assert name == SHARD_FORMATS[name].SUFFIX


def test_records_read_back_as_written_and_in_order(tmp_path, name):
    path, _ = write(tmp_path, name, iter(records(11)))
    assert list(SHARD_FORMATS[name].read_shard(path)) == records(11)


def test_a_record_has_an_offset(tmp_path, name):
    _, offsets = write(tmp_path, name, records(11))
    assert offsets[0] == 0
    assert len(offsets) == 11
    assert offsets == sorted(set(offsets))


def test_a_shard_may_be_empty(tmp_path, name):
    path, offsets = write(tmp_path, name, [])
    assert offsets == []
    assert list(SHARD_FORMATS[name].read_shard(path)) == []


def test_the_same_records_give_the_same_bytes(tmp_path, name):
    path, _ = write(tmp_path, name, records(5))
    once = path.read_bytes()
    write(tmp_path, name, records(5))
    assert path.read_bytes() == once


def test_a_whole_shard_is_never_in_memory(tmp_path, name):
    alive, most = weakref.WeakValueDictionary(), []

    def watched(items):
        for number, item in enumerate(items):
            alive[number] = item
            most.append(len(alive))
            yield item

    path, _ = write(tmp_path, name, watched(record(number) for number in range(40)))
    assert max(most) < 12
    most.clear()
    for _ in watched(SHARD_FORMATS[name].read_shard(path)):
        pass
    assert len(most) == 40
    assert max(most) < 12


def test_a_truncated_shard_is_corrupt(tmp_path, name):
    path, offsets = write(tmp_path, name, records(6))
    whole = path.read_bytes()
    for length in {*range(1, 40), *range(40, len(whole), 211), len(whole) - 4, len(whole) - 1} - set(offsets):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptShard, match=path.name):
            list(SHARD_FORMATS[name].read_shard(path))


def test_a_flipped_bit_is_corruption_and_nothing_else(tmp_path, name):
    path, _ = write(tmp_path, name, records(6))
    whole, chance, noticed = path.read_bytes(), random.Random(0), 0
    # Half of them in the last tenth, where the footer of Parquet is.
    places = [chance.randrange(len(whole)) for _ in range(300)]
    places += [chance.randrange(len(whole) * 9 // 10, len(whole)) for _ in range(300)]
    for place in places:
        path.write_bytes(flipped(whole, place, chance.randrange(8)))
        try:
            list(SHARD_FORMATS[name].read_shard(path))
        except CorruptShard:
            noticed += 1
    assert noticed > 100


@pytest.mark.parametrize("feature", ["image/encoded", "FORWARD_FLOW/image/encoded", "example/id"])
def test_a_flipped_bit_in_a_value_is_noticed(tmp_path, name, feature):
    path, _ = write(tmp_path, name, records(6))
    whole, chance = path.read_bytes(), random.Random(0)
    value = records(6)[4][feature]
    needle = value.encode() if isinstance(value, str) else value[1]
    begins = whole.index(needle)
    for _ in range(20):
        path.write_bytes(flipped(whole, begins + chance.randrange(len(needle)), chance.randrange(8)))
        with pytest.raises(CorruptShard):
            list(SHARD_FORMATS[name].read_shard(path))


@pytest.mark.parametrize("content", [b"label,youtube_id\n", b"PAR1", bytes(100), b"\xff" * 100])
def test_a_file_of_another_kind_is_corrupt(tmp_path, name, content):
    path = tmp_path / "some.file"
    path.write_bytes(content)
    with pytest.raises(CorruptShard, match=r"some\.file"):
        list(SHARD_FORMATS[name].read_shard(path))


def test_records_are_read_at_their_places_in_any_order(tmp_path, name):
    path, places = write(tmp_path, name, records(9))
    chosen = [4, 5, 0, 8, 8, 2]
    there = SHARD_FORMATS[name].read_places(path, [places[number] for number in chosen])
    assert list(there) == [record(number, FRAMES + number % 3, labelled=number % 5 != 2) for number in chosen]
    assert list(SHARD_FORMATS[name].read_places(path, [])) == []


def test_reading_at_a_place_does_not_mind_damage_elsewhere_and_notices_its_own(tmp_path, name):
    path, places = write(tmp_path, name, records(3))
    data = path.read_bytes()
    image = records(3)[1].images("image/encoded")[0]
    path.write_bytes(flipped(data, data.index(image), 3))
    assert list(SHARD_FORMATS[name].read_places(path, [places[0], places[2]])) == [records(3)[0], records(3)[2]]
    with pytest.raises(CorruptShard):
        list(SHARD_FORMATS[name].read_places(path, [places[1]]))


def test_a_place_behind_the_end_is_refused(tmp_path, name):
    path, _ = write(tmp_path, name, records(3))
    behind = path.stat().st_size if name == "tfrecord" else 3
    with pytest.raises(CorruptShard, match="file ends before|fewer rows"):
        list(SHARD_FORMATS[name].read_places(path, [behind]))
