"""Flags -> what is asked for: each flag by value, defaults those of the paper, nonsense refused in words."""

import argparse
from fractions import Fraction
from pathlib import Path

import pytest

from kinetics_prep import sample
from kinetics_prep.cli import CANNOT_GO_ON, flag_types, flags, main, options
from kinetics_prep.cli.commands import COMMANDS, load
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.errors import BadOption, MissingTool
from kinetics_prep.flow import TVL1, Hardware


def parsed(*words: str, adds=flags.add_flow_arguments) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    adds(parser)
    return parser.parse_args(list(words))


def job(*words: str):
    return options.job_from(parsed("--annotations", "a.csv", "--videos", "v", *words))


# Paths ------------------------------------------------------------------------------------------

NOT_READ_YET = "buckets and servers are not read or written yet: use a local folder, or mount the bucket"
URLS = ("gs://bucket/x", "s3://bucket", "az://c/x", "hdfs://host:9000/x", "http://host/x", "GS://b", "file://host/x")
COMMANDS_WITH_PATHS = (
    *(f"{name} {flag}" for name in ("flow", "download") for flag in ("--annotations", "--ids", "--labels", "--cache")),
    *(f"{name} out {flag}" for name in ("retry", "refresh") for flag in ("--cache", "--cookies")),
    *(f"train {flag}" for flag in ("--data", "--output", "--init-from")),
    *(f"evaluate {flag}" for flag in ("--data", "--output", "--weights")),
    *("flow --output", "flow --cookies", "retry", "refresh", "status", "validate", "inspect", "inspect a --output"),
    *("check", "check a --labels", "check a --corrected", "predict", "predict a --weights", "compare", "compare a a"),
    *("weights convert", "weights convert a", "weights convert a b --labels", "weights fetch a", "weights show"),
)


@pytest.mark.parametrize("command", COMMANDS_WITH_PATHS)
def test_a_url_is_no_path_for_any_command(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for url in URLS:
        with pytest.raises(SystemExit) as leaving:
            main([*command.split(), url])
        assert leaving.value.code == CANNOT_GO_ON
        scheme = url.partition("://")[0]
        assert f": expected a path, found a URL, {scheme}://...; {NOT_READ_YET}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_no_command_takes_a_path_that_may_be_a_url():
    for name in COMMANDS:
        parser = argparse.ArgumentParser()
        load(name).add_arguments(parser)
        parsers = [parser]
        for action in parser._actions:
            parsers += list(action.choices.values()) if isinstance(action, argparse._SubParsersAction) else []
        actions = [action for each in parsers for action in each._actions]
        assert not [action.dest for action in actions if action.type is Path]
        files = [action for action in actions if action.metavar in ("FILE", "DIR", "[NAME=]FILE")]
        assert {action.type for action in files} <= {flag_types.path, flag_types.path_text, flag_types.named_path}


def test_a_url_of_a_local_file_is_its_path():
    assert flag_types.path("file:///data/k%20400") == Path("/data/k 400")
    assert flag_types.path_text("file:///a//b") == "/a//b"
    assert parsed("--output", "file:///out").output == Path("/out")


@pytest.mark.parametrize("name", ["C:/data", "a:b", "gs:", "a/gs://b", "./gs:/b", "=://", "/gs://b", "1a://b"])
def test_a_path_with_a_colon_is_a_path(name):
    assert flag_types.path(name) == Path(name)


def test_a_name_does_not_hide_a_url():
    for text in ("gs://b/c", "a=gs://b/c", "gs://b/c=d"):
        with pytest.raises(argparse.ArgumentTypeError, match="found a URL, gs://"):
            flag_types.named_path(text)


# Values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, expected",
    [
        ("2/s", ("", 2.0)),
        ("30/min", ("", 0.5)),
        ("300/h", ("", 300 / 3600)),
        ("86400/d", ("", 1.0)),
        ("www.YouTube.com=200/h", ("www.youtube.com", 200 / 3600)),
        ("host=0.5/s", ("host", 0.5)),
    ],
)
def test_rates(text, expected):
    assert flag_types.rate(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["2", "2/", "/s", "2/week", "fast/s", "", "a=b=2/s/s"])
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is no rate such as 2/s, 300/h or host=2/s"):
        flag_types.rate(text)


@pytest.mark.parametrize(
    "text, expected", [("5", (5.0, False)), ("0", (0.0, False)), ("5%", (0.05, True)), ("0.5%", (0.005, True))]
)
def test_numbers_and_shares(text, expected):
    assert flag_types.share(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["-1", "many", "%", "nan", "inf", "1e999%", ""])
def test_what_is_neither_number_nor_share_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="neither a number of rows nor a share"):
        flag_types.share(text)


@pytest.mark.parametrize(
    "text, expected", [("25", 25), ("30000/1001", Fraction(30000, 1001)), ("12.5", Fraction(25, 2))]
)
def test_frame_rates_are_exact(text, expected):
    assert flag_types.fps(text) == expected


@pytest.mark.parametrize("text", ["fast", "25/0", ""])
def test_what_is_no_frame_rate_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is no number or fraction"):
        flag_types.fps(text)


def test_lists_with_commas():
    assert flag_types.words(" a, b,,c ") == ("a", "b", "c")
    assert flag_types.words("") == ()
    assert flag_types.indices("0, 2") == (0, 2)
    with pytest.raises(argparse.ArgumentTypeError, match="'0,x' is no list of numbers such as 0,1"):
        flag_types.indices("0,x")


@pytest.mark.parametrize("word, expected", [("train", "train"), ("validate", "val"), ("Testing", "test")])
def test_splits_under_any_usual_name(word, expected):
    assert flag_types.split(word) == expected
    with pytest.raises(argparse.ArgumentTypeError, match="unknown split 'tran', expected one of train, val, test"):
        flag_types.split("tran")


# Jobs -------------------------------------------------------------------------------------------


def test_without_flags_it_is_the_sample_by_the_papers_recipe():
    made = options.job_from(parsed())
    assert made.selection.annotations == (str(sample.ANNOTATIONS),)
    assert made.fetching.videos == (str(sample.VIDEOS),)
    assert made.output == Path("sample-prepared")
    assert made.recipe == Recipe(made.recipe.engine)
    assert (made.retry, made.hardware, made.selection.splits) == ((), Hardware(), ())


RECIPES = {
    "fps": (("--fps", "30000/1001"), Fraction(30000, 1001)),
    "short_side": (("--short-side", "128"), 128),
    "clip_seconds": (("--clip-seconds", "2.5"), 2.5),
    "min_seconds": (("--min-seconds", "0.5"), 0.5),
    "engine": (("--engine", "opencv-cpu"), "opencv-cpu"),
    "tvl1": (("--tvl1", "warps=3", "lambda=0.2"), TVL1(warps=3, lambda_=0.2)),
    "quantizer": (("--quantizer", "denseflow"), "denseflow"),
    "flow_encoding": (("--flow-encoding", "png"), "png"),
    "jpeg_quality": (("--jpeg-quality", "90"), 90),
    "formats": (("--format", "parquet,tfrecord"), ("parquet", "tfrecord")),
    "clips_per_shard": (("--clips-per-shard", "8"), 8),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_flag_changes_its_setting_and_no_other(name):
    words, value = RECIPES[name]
    made, plain = job(*words).recipe.settings(), job().recipe.settings()
    assert getattr(job(*words).recipe, name) == value
    assert {key for key in plain if made[key] != plain[key]} == {name}


def test_every_setting_but_the_bound_has_a_flag():
    import dataclasses

    assert {field.name for field in dataclasses.fields(Recipe)} - RECIPES.keys() == {"bound_px"}


def test_a_short_clip_needs_no_more_seconds_than_it_has():
    assert job("--clip-seconds", "0.5").recipe.min_seconds == 0.5


def test_selections():
    made = job("--split", "val", "--only", "waving", "running", "--limit", "7", "--labels", "l.txt", "--ids", "i.txt")
    chosen = made.selection
    assert (chosen.annotations, chosen.splits, chosen.only, chosen.limit) == (
        ("a.csv",),
        ("val",),
        ("waving", "running"),
        7,
    )
    assert (chosen.labels, chosen.ids, chosen.format_name) == (Path("l.txt"), Path("i.txt"), None)
    assert job("--dataset", "path-list").selection.format_name == "path-list"
    assert job("--annotations", "b.csv").selection.annotations == ("a.csv", "b.csv")
    with pytest.raises(BadOption, match="--limit is 0, expected at least 1"):
        job("--limit", "0")


def test_places_and_politeness():
    words = ("--videos", "youtube", "--cache", "c", "--largest", "2", "--cookies", "k.txt", "--proxy", "http://p:1")
    polite = (
        "--rate",
        "2/s",
        "host=1/min",
        "--connections",
        "7",
        "--rest",
        "1.5",
        "--attempts",
        "5",
        "--patience",
        "2",
    )
    fetching = job(*words, *polite).fetching
    assert (fetching.videos, fetching.cache, fetching.cookies, fetching.proxy) == (
        ("v", "youtube"),
        "c",
        "k.txt",
        "http://p:1",
    )
    assert (fetching.largest_bytes, fetching.short_side) == (2_000_000_000, 256)
    assert fetching.politeness.rates == (("", 2.0), ("host", 1 / 60))
    assert (fetching.politeness.connections, fetching.politeness.rest_seconds) == (7, 1.5)
    assert (fetching.politeness.attempts, fetching.politeness.patience_seconds) == (5, 120.0)
    assert job("--short-side", "64").fetching.short_side == 64


@pytest.mark.parametrize("largest", ["0", "-1", "1e7", "nan"])
def test_a_limit_that_is_no_size_is_refused(largest):
    with pytest.raises(BadOption, match="--largest is .*, expected GB"):
        job("--largest", largest)


def test_annotations_and_videos_go_together():
    with pytest.raises(BadOption, match="--annotations also needs --videos; with neither, the sample"):
        options.job_from(parsed("--annotations", "a.csv"))
    for place in (("--videos", "v"), ("--cache", "c")):
        with pytest.raises(BadOption, match="--videos also needs --annotations"):
            options.job_from(parsed(*place))
    assert options.job_from(parsed("--annotations", "k400/val.csv", "--cache", "c")).output == Path("val-prepared")
    assert job("--output", "x/y").output == Path("x/y")


def test_gpus():
    assert options.hardware_from(parsed("--gpus", "0,2", "--gpu-memory", "1.5")) == Hardware((0, 2), 1_500_000_000)
    assert options.hardware_from(parsed()) == Hardware()
    for gigabytes in ("0", "nan", "2e6", "-1"):
        with pytest.raises(BadOption, match="--gpu-memory is .*, expected GB"):
            options.hardware_from(parsed("--gpu-memory", gigabytes))
    with pytest.raises(BadOption, match="does not run on a GPU"):
        job("--engine", "tvl1", "--gpus", "0")


def test_engines():
    with pytest.raises(BadOption, match="engine is 'fast', expected auto or one of tvl1-cuda, tvl1"):
        job("--engine", "fast")
    with pytest.raises(MissingTool, match="engine opencv-cuda cannot run here"):
        job("--engine", "opencv-cuda")


def test_reasons_to_retry():
    assert job("--retry", "network,geo").retry == ("network", "geo")
    with pytest.raises(BadOption, match="--retry malformed_row: expected one or more of"):
        job("--retry", "malformed_row")


# Downloads and resumptions ----------------------------------------------------------------------


def download(*words: str):
    return options.download_from(parsed(*words, adds=flags.add_download_arguments))


def test_a_download_needs_annotations_and_a_cache():
    with pytest.raises(BadOption, match="--annotations is missing: whose videos to get"):
        download("--cache", "c")
    with pytest.raises(BadOption, match="--cache is missing: where downloads are to stay"):
        download("--annotations", "a.csv", "--videos", "youtube")
    made = download(
        "--annotations", "a.csv", "--videos", "youtube", "--cache", "c", "--again", "geo", "--short-side", "99"
    )
    assert (made.cache, made.fetching.ask_again, made.fetching.short_side) == (Path("c"), ("geo",), 99)
    with pytest.raises(BadOption, match="--again duplicate_row: expected"):
        download("--annotations", "a.csv", "--cache", "c", "--again", "duplicate_row")


@pytest.mark.parametrize(
    "words, expected",
    [
        (("--videos", "a", "b", "c"), 12),
        (("--videos", "a", "--connections", "9"), 9),
        ((), 4),
        (("--videos", "a", "b", "--connections", "50"), 64),
        (("--videos", "a", "b", "--connections", "50", "--workers", "80"), 80),
    ],
)
def test_a_download_has_as_many_rows_at_a_time_as_connections_allow(words, expected):
    assert download("--annotations", "a.csv", "--cache", "c", *words).workers == expected


def test_resumptions_take_the_commands_reasons_unless_told_others():
    def resumption(*words):
        arguments = parsed("folder", *words, adds=lambda parser: flags.add_again_arguments(parser, "some"))
        return options.resumption_from(arguments, ("network",))

    assert resumption().reasons == ("network",)
    assert (resumption().output, resumption().fetching.videos) == (Path("folder"), ())
    assert resumption("--reason", "geo,private").reasons == ("geo", "private")
    assert resumption("--gpus", "1").hardware == Hardware((1,))
    with pytest.raises(BadOption, match="--reason unknown_label: expected"):
        resumption("--reason", "unknown_label")
