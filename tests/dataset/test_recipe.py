import dataclasses
import math
from fractions import Fraction

import pytest

from kinetics_prep.dataset import tools as dataset_tools
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.dataset.recipe_file import digest
from kinetics_prep.errors import BadOption
from kinetics_prep.flow import ENGINES, TVL1
from kinetics_prep.media.quantize import QUANTIZERS
from kinetics_prep.records import SHARD_FORMATS

DEFAULT = Recipe(engine="opencv-cpu")

# Of every setting another value than the default.
OTHERS = {
    "engine": "opencv-cuda",
    "fps": Fraction(30000, 1001),
    "short_side": 128,
    "clip_seconds": 2.5,
    "min_seconds": 0.5,
    "tvl1": TVL1(warps=3),
    "quantizer": "denseflow",
    "bound_px": 15.0,
    "flow_encoding": "png",
    "jpeg_quality": 90,
    "formats": ("tfrecord", "parquet"),
    "clips_per_shard": 8,
}

OTHER_TVL1 = {
    "tau": 0.2,
    "lambda_": 0.1,
    "theta": 0.2,
    "scales": 4,
    "scale_step": 0.5,
    "warps": 3,
    "epsilon": 0.02,
    "iterations": 100,
}


def test_the_defaults_are_the_papers():
    assert (DEFAULT.fps, DEFAULT.short_side, DEFAULT.clip_seconds, DEFAULT.bound_px) == (25, 256, 10, 20)
    assert (DEFAULT.quantizer, DEFAULT.flow_encoding, DEFAULT.formats) == ("symmetric", "jpeg", ("tfrecord",))
    assert dataclasses.astuple(TVL1()) == (0.25, 0.15, 0.3, 5, 0.8, 5, 0.01, 300)


def test_these_tests_change_every_setting():
    assert OTHERS.keys() == {field.name for field in dataclasses.fields(Recipe)}
    assert OTHER_TVL1.keys() == {field.name for field in dataclasses.fields(TVL1)}


@pytest.mark.parametrize("name", OTHERS)
def test_the_digest_changes_with_each_setting_that_decides_a_record(name):
    changed = dataclasses.replace(DEFAULT, **{name: OTHERS[name]})
    assert (digest(changed) == digest(DEFAULT)) == (name in ("formats", "clips_per_shard"))


@pytest.mark.parametrize("name", OTHER_TVL1)
def test_the_digest_changes_with_each_parameter_of_tvl1(name):
    changed = dataclasses.replace(DEFAULT, tvl1=TVL1(**{name: OTHER_TVL1[name]}))
    assert digest(changed) != digest(DEFAULT)


def test_the_digest_does_not_change_with_the_tools(monkeypatch):
    found = digest(DEFAULT)
    monkeypatch.setattr(dataset_tools, "versions", lambda recipe: {"opencv": "0.1"})
    monkeypatch.setattr(dataset_tools, "RECORD_VERSION", 99)
    assert digest(DEFAULT) == found


def test_the_digest_is_sixteen_hex_digits_that_stay_the_same_for_ever():
    """A changed digest would end every folder that was begun before."""
    assert digest(Recipe("tvl1")) == "13dc831f9edbf9be"


@pytest.mark.parametrize(
    "same", [{"clip_seconds": 10}, {"bound_px": 20}, {"fps": 25}, {"fps": 25.0}, {"min_seconds": 1}]
)
def test_equal_recipes_have_equal_digests(same):
    other = Recipe(engine="opencv-cpu", **same)
    assert other == DEFAULT
    assert digest(other) == digest(DEFAULT)


@pytest.mark.parametrize(
    "name, value",
    [
        ("engine", "auto"),
        ("engine", "gpu"),
        ("fps", 0),
        ("fps", -25),
        ("fps", 1001),
        ("short_side", 15),
        ("short_side", 4097),
        ("short_side", 256.5),
        ("clip_seconds", 0),
        ("clip_seconds", 3601),
        ("clip_seconds", math.nan),
        ("min_seconds", -0.1),
        ("min_seconds", 10.1),
        ("min_seconds", math.nan),
        ("quantizer", "linear"),
        ("bound_px", 0),
        ("bound_px", math.inf),
        ("flow_encoding", "webp"),
        ("jpeg_quality", 0),
        ("jpeg_quality", 101),
        ("jpeg_quality", 95.5),
        ("formats", ()),
        ("formats", ("zip",)),
        ("formats", ("tfrecord", "tfrecord")),
        ("formats", "tfrecord"),
        ("clips_per_shard", 0),
        ("clips_per_shard", 100_001),
        ("clips_per_shard", 1.5),
    ],
)
def test_nonsense_is_refused_by_name(name, value):
    with pytest.raises(BadOption, match=f"^{name} is .*, expected "):
        dataclasses.replace(DEFAULT, **{name: value})


@pytest.mark.parametrize("name", OTHER_TVL1)
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_parameters_of_tvl1_are_positive_numbers(name, value):
    with pytest.raises(BadOption, match=f"tvl1 {name} must be "):
        TVL1(**{name: value})


def test_a_level_of_the_pyramid_is_smaller_than_the_one_below():
    with pytest.raises(BadOption, match="scale_step must be under 1, got 1"):
        TVL1(scale_step=1.0)


@pytest.mark.parametrize("name", ["scales", "warps", "iterations"])
def test_what_is_counted_is_whole(name):
    with pytest.raises(BadOption, match=f"tvl1 {name} must be "):
        TVL1(**{name: 2.5})


def test_tvl1_is_read_from_words():
    assert TVL1.parse([]) == TVL1()
    assert TVL1.parse(["lambda=0.2", "warps=3", "tau_=1e-1"]) == TVL1(lambda_=0.2, warps=3, tau=0.1)


@pytest.mark.parametrize(
    "word, message",
    [
        ("lambda", "expected key=value with key one of tau, lambda, theta"),
        ("mu=1", "expected key=value with key one of tau, lambda, theta"),
        ("warps=2.5", "warps must be of type int"),
        ("tau=fast", "tau must be of type float"),
        ("tau=0", "tvl1 tau must be positive, got 0"),
    ],
)
def test_a_word_that_is_no_parameter_is_refused(word, message):
    with pytest.raises(BadOption, match=message):
        TVL1.parse([word])


@pytest.mark.parametrize("table, name", [(ENGINES, "engine"), (QUANTIZERS, "quantizer"), (SHARD_FORMATS, "formats")])
def test_a_recipe_may_name_every_row_of_a_table(table, name):
    for row in table:
        value = (row,) if name == "formats" else row
        assert getattr(dataclasses.replace(DEFAULT, **{name: value}), name) == value


@pytest.mark.parametrize(
    "changed, extra", [({}, set()), ({"flow_encoding": "png"}, {"zlib"}), ({"formats": ("parquet",)}, {"pyarrow"})]
)
def test_versions_name_what_has_a_hand_in_the_bytes(changed, extra):
    found = dataset_tools.versions(dataclasses.replace(DEFAULT, **changed))
    always = {"record", "engine", "ffmpeg", "opencv", "pillow", "libjpeg_turbo", "protobuf"}
    assert found.keys() == always | extra
    assert all(isinstance(version, str) and version not in ("", "None") for version in found.values())
