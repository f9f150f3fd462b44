"""What an output folder says of itself: recipe.json, labels.txt, sources.json, purged.json."""

import dataclasses
import hashlib
import json
from fractions import Fraction

import pytest
import small_dataset

from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.dataset import documents, labels, purged, recipe_file
from kinetics_prep.dataset.purged import Purged
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.dataset.recipe_file import RecipeFile, Tools
from kinetics_prep.dataset.sources_file import with_recorded_sources, write_sources
from kinetics_prep.errors import BadOption, CorruptShard, MissingTool, NewerFormat, OtherRecipe, OtherTools
from kinetics_prep.sources import Fetching

pytestmark = pytest.mark.usefixtures("unflushed")

RECIPE = small_dataset.RECIPE


@pytest.fixture
def store(tmp_path):
    return small_dataset.store_of(tmp_path / "out")


# recipe.json ------------------------------------------------------------------------------------

HERE = Tools("a" * 64, {"ffmpeg": "7.1", "pillow": "12.3"})
SETTINGS = json.loads(json.dumps(RECIPE.settings()))
FILE = RecipeFile(SETTINGS, recipe_file.digest(RECIPE), (HERE,))


def test_a_recipe_reads_back_as_written(store):
    assert recipe_file.read(store) is None
    file = dataclasses.replace(FILE, tools=(HERE, Tools("b" * 64, {})))
    recipe_file.write(store, file)
    assert recipe_file.read(store) == file
    assert file.fingerprints == {"a" * 64, "b" * 64}
    assert (file.recipe, file.formats, file.clips_per_shard) == (RECIPE, ("tfrecord", "parquet"), 3)


def test_the_same_settings_go_on(store):
    recipe_file.expect_same_settings(store, FILE, RECIPE)


def test_other_settings_are_refused_and_named(store):
    other = dataclasses.replace(RECIPE, fps=Fraction(6), tvl1=type(RECIPE.tvl1)(warps=3), formats=("parquet",))
    with pytest.raises(
        OtherRecipe,
        match="out was prepared by another recipe: formats is tfrecord,parquet there and parquet here; "
        "fps is 5 there and 6 here; tvl1 warps is 5 there and 3 here. Use the same settings to go on, or another",
    ) as caught:
        recipe_file.expect_same_settings(store, FILE, other)
    assert "convert" not in str(caught.value)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"formats": ("tfrecord",)}, "formats is tfrecord,parquet there and tfrecord here"),
        ({"clips_per_shard": 64}, "clips_per_shard is 3 there and 64 here"),
        ({"formats": ("parquet",), "clips_per_shard": 64}, "formats is .*; clips_per_shard is 3 there and 64 here"),
    ],
)
def test_another_shape_of_the_same_records_is_refused_with_the_command_that_gives_it(changes, said, store):
    other = dataclasses.replace(RECIPE, **changes)
    assert recipe_file.digest(other) == FILE.digest
    flags = f"--format {','.join(other.formats)} --clips-per-shard {other.clips_per_shard}"
    with pytest.raises(OtherRecipe, match=f"{said}. Use what is there; `kinetics-prep convert .*out {flags}` changes"):
        recipe_file.expect_same_settings(store, FILE, other)


def test_known_tools_are_accepted_whatever_their_versions_are(store):
    assert recipe_file.with_tools(store, FILE, dataclasses.replace(HERE, versions={"ffmpeg": "9"}), False) is FILE


OTHER = Tools("b" * 64, {"ffmpeg": "7.1", "pillow": "12.2"})


def test_tools_that_give_other_bytes_are_refused_and_named(store):
    with pytest.raises(
        OtherTools,
        match=r"out was prepared by tools that give other bytes, by others \(pillow is 12.3 there and 12.2 here\)\. "
        "To go on all the same, .* give --accept-tools; it is noted in recipe.json",
    ):
        recipe_file.with_tools(store, FILE, OTHER, False)
    with pytest.raises(OtherTools, match="no version differs"):
        recipe_file.with_tools(store, FILE, dataclasses.replace(HERE, fingerprint="c" * 64), False)


def test_tools_that_were_accepted_are_noted_and_known_from_then_on(store):
    accepted = recipe_file.with_tools(store, FILE, OTHER, True)
    assert accepted == dataclasses.replace(FILE, tools=(HERE, OTHER))
    assert recipe_file.with_tools(store, accepted, OTHER, False) is accepted
    assert recipe_file.with_tools(store, accepted, HERE, False) is accepted


def test_of_an_older_folder_the_versions_decide_once(store):
    """What its tools do is not known; only which they were."""
    old = dataclasses.replace(FILE, tools=(Tools("", HERE.versions),))
    adopted = recipe_file.with_tools(store, old, HERE, False)
    assert adopted.tools == (*old.tools, HERE)
    with pytest.raises(OtherTools, match=r"out was prepared by others \(pillow is 12.3 there and 12.2 here\)"):
        recipe_file.with_tools(store, old, OTHER, False)
    assert recipe_file.with_tools(store, old, OTHER, True).tools == (*old.tools, OTHER)
    with pytest.raises(OtherTools, match="give other bytes"):
        recipe_file.with_tools(store, adopted, dataclasses.replace(HERE, fingerprint="c" * 64), False)


def test_differences_are_told_setting_by_setting_within_settings_too():
    there = {"fps": "25", "tvl1": {"tau": 0.25, "warps": 5}, "only there": 1}
    here = {"fps": "25", "tvl1": {"tau": 0.25, "warps": 3}, "only here": None, "also here": 2}
    assert list(recipe_file.differences(there, here)) == [
        "also here is None there and 2 here",
        "only there is 1 there and None here",
        "tvl1 warps is 5 there and 3 here",
    ]


HOSTILE = {
    "nothing": lambda content: content.clear(),
    "no digest": lambda content: content.pop("digest"),
    "no settings": lambda content: content.update(recipe={}),
    "settings in a list": lambda content: content.update(recipe=["fps"]),
    "settings in a number": lambda content: content.update(recipe=3),
    "no formats": lambda content: content["recipe"].update(formats=[]),
    "a format that nobody knows": lambda content: content["recipe"].update(formats=["../x"]),
    "formats in a text": lambda content: content["recipe"].update(formats="tfrecord"),
    "formats of lists": lambda content: content["recipe"].update(formats=[["tfrecord"]]),
    "shards of no clips": lambda content: content["recipe"].update(clips_per_shard=0),
    "shards of half a clip": lambda content: content["recipe"].update(clips_per_shard=0.5),
    "no tools": lambda content: content.pop("tools"),
    "tools in a number": lambda content: content.update(tools=3),
    "tools without a fingerprint": lambda content: content.update(tools=[{"versions": {}}]),
    "tools without versions": lambda content: content.update(tools=[{"fingerprint": "a", "versions": 3}]),
    "tools of text": lambda content: content.update(tools=["ffmpeg"]),
}


@pytest.mark.parametrize("damage", HOSTILE)
def test_a_document_that_holds_no_recipe_is_refused_in_words(damage, store):
    content = {"digest": FILE.digest, "recipe": dict(SETTINGS), "tools": [dataclasses.asdict(HERE)]}
    HOSTILE[damage](content)
    documents.write(store, "recipe.json", content)
    with pytest.raises(CorruptShard, match=r"out/recipe\.json holds no recipe: "):
        recipe_file.read(store)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is empty"),
        ("{", "is not JSON"),
        ("[]", "holds list"),
        ("{}", "has version None"),
        ('{"version": 1}', "holds no recipe"),
        ('{"version": 1, "digest": "a", "recipe": {}, "versions": {}}', "is damaged: its digest is not that of its"),
        ('{"version": 2, "digest": "a", "recipe": {}, "tools": []}', "is damaged: it does not read back as it was"),
    ],
)
def test_a_damaged_recipe_is_refused(text, message, store):
    (store.root / "recipe.json").write_text(text)
    with pytest.raises(CorruptShard, match=rf"out/recipe\.json {message}"):
        recipe_file.read(store)


def test_a_recipe_of_format_1_is_read_with_tools_that_are_not_known(store):
    content = {"version": 1, "digest": OLD_DIGEST, "recipe": SETTINGS, "versions": {"ffmpeg": "7.1"}}
    (store.root / "recipe.json").write_text(json.dumps(content))
    assert recipe_file.read(store) == RecipeFile(SETTINGS, OLD_DIGEST, (Tools("", {"ffmpeg": "7.1"}),))


OLD_DIGEST = hashlib.sha256(json.dumps([SETTINGS, {"ffmpeg": "7.1"}], sort_keys=True).encode()).hexdigest()[:16]
"""As kinetics-prep computed it in format 1."""


def test_a_recipe_of_a_newer_format_is_refused(store):
    (store.root / "recipe.json").write_text('{"version": 3}')
    with pytest.raises(NewerFormat):
        recipe_file.read(store)


def test_settings_give_back_the_recipe():
    settings = json.loads(json.dumps(RECIPE.settings()))
    assert Recipe.from_settings(settings) == RECIPE
    assert Recipe.from_settings(settings).settings() == RECIPE.settings()


@pytest.mark.parametrize(
    "changes",
    [
        {"fps": "25/0"},
        {"fps": "fast"},
        {"tvl1": {"mu": 1}},
        {"tvl1": None},
        {"shell": "rm"},
        {"formats": None},
        {"short_side": "wide"},
    ],
)
def test_settings_of_no_recipe_are_refused(changes):
    with pytest.raises((CorruptShard, BadOption)):
        Recipe.from_settings(RECIPE.settings() | changes)
    with pytest.raises(CorruptShard, match="holds no recipe: KeyError"):
        Recipe.from_settings({})


def test_settings_of_an_engine_that_does_not_run_here_say_so():
    with pytest.raises(MissingTool, match="no engine that gives the flow of 'opencv-cuda' can run here"):
        Recipe.from_settings(RECIPE.settings() | {"engine": "opencv-cuda"})


def test_engines_that_give_the_same_flow_make_the_same_recipe():
    gpu = dataclasses.replace(RECIPE, engine="tvl1-cuda")
    assert gpu.settings() == RECIPE.settings()
    assert recipe_file.digest(gpu) == recipe_file.digest(RECIPE)


# labels.txt -------------------------------------------------------------------------------------

MAP = LabelMap(("running", "walking"))


def test_the_first_run_writes_its_labels(store):
    assert labels.write_or_check(store, MAP, is_given=False) == MAP
    assert (store.root / "labels.txt").read_text() == "running\nwalking\n"
    assert labels.read_labels(store) == MAP


@pytest.mark.parametrize("fewer", [("walking",), ("running",), ()])
def test_a_later_split_with_fewer_labels_takes_the_folders(fewer, store):
    labels.write_or_check(store, MAP, is_given=False)
    assert labels.write_or_check(store, LabelMap(fewer), is_given=False) == MAP


@pytest.mark.parametrize("is_given", [True, False])
def test_a_label_that_the_folder_lacks_is_refused_by_name(is_given, store):
    labels.write_or_check(store, MAP, is_given=False)
    with pytest.raises(OtherRecipe, match=r"labels\.txt lacks 'yodelling', so class ids would disagree"):
        labels.write_or_check(store, LabelMap(("running", "walking", "yodelling")), is_given)


@pytest.mark.parametrize("given", [("walking", "running"), ("running",)])
def test_a_map_that_the_user_gave_must_be_the_folders_in_its_order(given, store):
    labels.write_or_check(store, MAP, is_given=False)
    with pytest.raises(OtherRecipe, match=r"labels\.txt has other labels, or another order, so class ids would disagr"):
        labels.write_or_check(store, LabelMap(given), is_given=True)
    assert labels.write_or_check(store, MAP, is_given=True) == MAP


def test_an_unlabelled_set_has_an_empty_map(store):
    assert labels.write_or_check(store, LabelMap(()), is_given=False) == LabelMap(())
    assert labels.read_labels(store) == LabelMap(())


@pytest.mark.parametrize("content", [b"a\na\n", b"a\n\nb\n", b"\xff\n", b"a\x07\n"])
def test_a_damaged_label_map_is_refused(content, store):
    (store.root / "labels.txt").write_bytes(content)
    with pytest.raises(CorruptShard, match=r"labels\.txt cannot be read"):
        labels.read_labels(store)


# sources.json -----------------------------------------------------------------------------------


def test_places_are_recorded_and_taken_where_none_are_named(store):
    fetching = Fetching(("/data/videos", "youtube"), cache="/data/cache", cookies="/secret/cookies.txt")
    write_sources(store, fetching)
    content = documents.read(store, "sources.json")
    assert content == {"version": 2, "videos": ["/data/videos", "youtube"], "cache": "/data/cache"}
    resumed = with_recorded_sources(store, Fetching((), proxy="http://host:1", short_side=99))
    assert (resumed.videos, resumed.cache) == (("/data/videos", "youtube"), "/data/cache")
    assert (resumed.proxy, resumed.short_side, resumed.cookies) == ("http://host:1", 99, None)


@pytest.mark.parametrize("named", [Fetching(("elsewhere",)), Fetching((), cache="elsewhere")])
def test_places_that_are_named_replace_the_recorded_ones(named, store):
    write_sources(store, Fetching(("/data/videos",), cache="/data/cache"))
    assert with_recorded_sources(store, named) is named


WITH_SECRETS = (
    "http://me:secret@mirror.example/{id}.mp4",
    "https://bucket.example/{id}.mp4?X-Amz-Signature=secret&dl=1",
    "yt-dlp:https://site.example/watch?v={id}&token=secret",
)


def test_places_whose_address_holds_a_secret_are_left_out_one_by_one(store):
    write_sources(store, Fetching((WITH_SECRETS[0], "/data/my videos", *WITH_SECRETS[1:], "youtube"), cache="/cache"))
    assert "secret" not in (store.root / "sources.json").read_text()
    assert json.loads((store.root / "sources.json").read_text())["videos"] == ["/data/my videos", "youtube"]
    with pytest.raises(BadOption) as caught:
        with_recorded_sources(store, Fetching(()))
    assert str(caught.value) == (
        f"{store.root}/sources.json lacks http://***@mirror.example/{{id}}.mp4, "
        "https://bucket.example/{id}.mp4?X-Amz-Signature=***&dl=1, "
        "yt-dlp:https://site.example/watch?v={id}&token=***: its address holds a secret, which is not written down. "
        "Give all places again, with the secret in place of ***: --videos 'http://***@mirror.example/{id}.mp4' "
        "'/data/my videos' 'https://bucket.example/{id}.mp4?X-Amz-Signature=***&dl=1' "
        "'yt-dlp:https://site.example/watch?v={id}&token=***' youtube"
    )
    again = Fetching(WITH_SECRETS)
    assert with_recorded_sources(store, again) is again


def test_a_folder_is_recorded_whatever_its_name(store):
    write_sources(store, Fetching(("/data/a?token=b", "me@host")))
    assert with_recorded_sources(store, Fetching(())).videos == ("/data/a?token=b", "me@host")


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "[]", "{}", '{"videos": 3, "cache": null}', '{"videos": []}', '{"videos": "abc", "cache": null}'),
        *('{"videos": [3], "cache": null}', '{"videos": [], "cache": 3}', '{"videos": [], "cache": [], "given": 3}'),
        *('{"videos": [], "cache": null, "given": [null]}', "[" * 100_000),
    ],
)
def test_without_any_place_the_user_is_asked_for_one(text, store):
    if text is not None:
        (store.root / "sources.json").write_text(text)
    with pytest.raises(BadOption, match="does not say where its videos are: give --videos or --cache"):
        with_recorded_sources(store, Fetching(()))


def test_places_are_written_once(store):
    fetching = Fetching(("/data/videos",))
    write_sources(store, fetching)
    inode = (store.root / "sources.json").stat().st_ino
    write_sources(store, fetching)
    assert (store.root / "sources.json").stat().st_ino == inode
    write_sources(store, Fetching(("/data/others",)))
    assert documents.read(store, "sources.json")["videos"] == ["/data/others"]


# purged.json ------------------------------------------------------------------------------------

ROW = small_dataset.row(1)


def test_what_was_purged_reads_back_and_nothing_is_where_there_is_no_file(store):
    assert purged.read(store) == Purged({})
    gone = Purged({ROW.media_id: "its uploader asked to", "another": ""})
    purged.write(store, gone)
    assert purged.read(store) == gone


def test_a_row_is_purged_by_the_id_of_its_video_or_of_its_clip():
    assert Purged({}).reason_for(ROW) is None
    assert Purged({"another": "x"}).reason_for(ROW) is None
    assert Purged({ROW.media_id: "by video"}).reason_for(ROW) == "by video"
    assert Purged({ROW.clip_id: "by clip"}).reason_for(ROW) == "by clip"
    assert Purged({ROW.clip_id: "by clip", ROW.media_id: "by video"}).reason_for(ROW) == "by video"
    assert Purged({ROW.clip_id: ""}).reason_for(ROW) == ""
    duplicate = small_dataset.duplicate(ROW, 2)
    assert Purged({ROW.clip_id: "by clip"}).reason_for(duplicate) == "by clip"
    assert Purged({"None": "x"}).reason_for(dataclasses.replace(duplicate, media_id=None, clip_id="a.csv:3")) is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"version": 2, "ids": {}}', b'{"version": 1}'])
def test_a_damaged_list_is_not_taken_for_an_empty_one(data, store):
    """Or what was taken down would come back."""
    (store.root / "purged.json").write_bytes(data)
    with pytest.raises(CorruptShard, match=r"out/purged\.json"):
        purged.read(store)


@pytest.mark.parametrize("ids", [None, [], ["a"], 3, {"a": None}, {"a": ["b"]}])
def test_a_list_of_another_kind_is_refused_in_words(ids, store):
    documents.write(store, "purged.json", {"ids": ids})
    with pytest.raises(CorruptShard, match=r"out/purged\.json holds no list of ids"):
        purged.read(store)


def test_a_list_of_a_newer_format_is_refused(store):
    (store.root / "purged.json").write_bytes(b'{"version": 3}')
    with pytest.raises(NewerFormat):
        purged.read(store)
