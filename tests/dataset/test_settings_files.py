"""What an output folder says of itself: recipe.json, labels.txt, sources.json; and the folder as a whole."""

import json
import os
import subprocess
import sys
from fractions import Fraction

import pytest
import small_dataset

from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.dataset import folder, labels, recipe_file, tools
from kinetics_prep.dataset.layout import Layout
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.dataset.sources_file import with_recorded_sources, write_sources
from kinetics_prep.errors import BadOption, CorruptShard, MissingTool, OtherRecipe
from kinetics_prep.sources import Fetching

RECIPE = small_dataset.RECIPE


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "out")


# recipe.json ------------------------------------------------------------------------------------


def test_the_first_run_writes_its_recipe_and_the_same_one_goes_on(layout):
    digest = recipe_file.write_or_check(layout, RECIPE)
    content = json.loads(layout.recipe.read_text())
    assert content == {
        "version": 1,
        "digest": digest,
        "recipe": json.loads(json.dumps(RECIPE.settings())),
        "versions": tools.versions(RECIPE),
    }
    before = layout.recipe.stat().st_mtime_ns
    assert recipe_file.write_or_check(layout, RECIPE) == digest
    assert layout.recipe.stat().st_mtime_ns == before


def test_another_recipe_is_refused_and_says_what_differs(layout):
    import dataclasses

    recipe_file.write_or_check(layout, RECIPE)
    other = dataclasses.replace(RECIPE, fps=Fraction(6), tvl1=type(RECIPE.tvl1)(warps=3))
    with pytest.raises(OtherRecipe, match="fps is 5 there and 6 here; tvl1 warps is 5 there and 3 here. "):
        recipe_file.write_or_check(layout, other)


def test_another_version_of_a_tool_is_refused_and_named(layout, monkeypatch):
    recipe_file.write_or_check(layout, RECIPE)
    versions = tools.versions(RECIPE)
    monkeypatch.setattr(tools, "versions", lambda recipe: versions | {"pillow": "1.0"})
    with pytest.raises(OtherRecipe, match=f"pillow is {versions['pillow']} there and 1.0 here"):
        recipe_file.write_or_check(layout, RECIPE)


def test_differences_are_told_setting_by_setting_within_settings_too():
    there = {"fps": "25", "tvl1": {"tau": 0.25, "warps": 5}, "only there": 1}
    here = {"fps": "25", "tvl1": {"tau": 0.25, "warps": 3}, "only here": None, "also here": 2}
    assert list(recipe_file.differences(there, here)) == [
        "also here is None there and 2 here",
        "only there is 1 there and None here",
        "tvl1 warps is 5 there and 3 here",
    ]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ("null", "cannot be read"),
        ("{}", "holds no recipe"),
        ('{"digest": "a", "recipe": {}}', "holds no recipe"),
        ('{"digest": "a", "recipe": {}, "versions": {}}', "is damaged: its digest is not that of its content"),
    ],
)
def test_a_damaged_recipe_is_refused(text, message, layout):
    layout.output.mkdir()
    layout.recipe.write_text(text)
    with pytest.raises(CorruptShard, match=message):
        recipe_file.read(layout.recipe)
    with pytest.raises(CorruptShard):
        recipe_file.write_or_check(layout, RECIPE)


def test_a_missing_recipe_cannot_be_read(layout):
    with pytest.raises(CorruptShard, match=r"recipe\.json cannot be read: .*No such file"):
        recipe_file.read(layout.recipe)


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
    import dataclasses

    gpu = dataclasses.replace(RECIPE, engine="tvl1-cuda")
    assert gpu.settings() == RECIPE.settings()
    assert recipe_file.digest(gpu, {}) == recipe_file.digest(RECIPE, {})


def test_the_digest_of_a_recipe_stays_the_same_for_ever():
    """A changed digest would end every folder that was begun before."""
    assert recipe_file.digest(Recipe("tvl1"), {"record": "2", "engine": "version 1"}) == "0f5b9a7eca07d6cd"


# labels.txt -------------------------------------------------------------------------------------

MAP = LabelMap(("running", "walking"))


def test_the_first_run_writes_its_labels(layout):
    assert labels.write_or_check(layout, MAP, is_given=False) == MAP
    assert layout.labels.read_text() == "running\nwalking\n"
    assert labels.read_labels(layout) == MAP


@pytest.mark.parametrize("fewer", [("walking",), ("running",), ()])
def test_a_later_split_with_fewer_labels_takes_the_folders(fewer, layout):
    labels.write_or_check(layout, MAP, is_given=False)
    assert labels.write_or_check(layout, LabelMap(fewer), is_given=False) == MAP


@pytest.mark.parametrize("is_given", [True, False])
def test_a_label_that_the_folder_lacks_is_refused_by_name(is_given, layout):
    labels.write_or_check(layout, MAP, is_given=False)
    with pytest.raises(OtherRecipe, match=r"labels\.txt lacks 'yodelling', so class ids would disagree"):
        labels.write_or_check(layout, LabelMap(("running", "walking", "yodelling")), is_given)


@pytest.mark.parametrize("given", [("walking", "running"), ("running",)])
def test_a_map_that_the_user_gave_must_be_the_folders_in_its_order(given, layout):
    labels.write_or_check(layout, MAP, is_given=False)
    with pytest.raises(OtherRecipe, match=r"labels\.txt has other labels, or another order, so class ids would disagr"):
        labels.write_or_check(layout, LabelMap(given), is_given=True)
    assert labels.write_or_check(layout, MAP, is_given=True) == MAP


def test_an_unlabelled_set_has_an_empty_map(layout):
    assert labels.write_or_check(layout, LabelMap(()), is_given=False) == LabelMap(())
    assert labels.read_labels(layout) == LabelMap(())


@pytest.mark.parametrize("content", [b"a\na\n", b"a\n\nb\n", b"\xff\n", b"a\x07\n"])
def test_a_damaged_label_map_is_refused(content, layout):
    layout.output.mkdir()
    layout.labels.write_bytes(content)
    with pytest.raises(CorruptShard, match=r"labels\.txt cannot be read"):
        labels.read_labels(layout)


# sources.json -----------------------------------------------------------------------------------


def test_places_are_recorded_and_taken_where_none_are_named(layout):
    fetching = Fetching(("/data/videos", "youtube"), cache="/data/cache", cookies="/secret/cookies.txt")
    write_sources(layout, fetching)
    assert json.loads(layout.sources.read_text()) == {
        "version": 1,
        "videos": ["/data/videos", "youtube"],
        "cache": "/data/cache",
    }
    resumed = with_recorded_sources(layout, Fetching((), proxy="http://host:1", short_side=99))
    assert (resumed.videos, resumed.cache) == (("/data/videos", "youtube"), "/data/cache")
    assert (resumed.proxy, resumed.short_side, resumed.cookies) == ("http://host:1", 99, None)


@pytest.mark.parametrize("named", [Fetching(("elsewhere",)), Fetching((), cache="elsewhere")])
def test_places_that_are_named_replace_the_recorded_ones(named, layout):
    write_sources(layout, Fetching(("/data/videos",), cache="/data/cache"))
    assert with_recorded_sources(layout, named) is named


WITH_SECRETS = (
    "http://me:secret@mirror.example/{id}.mp4",
    "https://bucket.example/{id}.mp4?X-Amz-Signature=secret&dl=1",
    "yt-dlp:https://site.example/watch?v={id}&token=secret",
)


def test_places_whose_address_holds_a_secret_are_left_out_one_by_one(layout):
    write_sources(layout, Fetching((WITH_SECRETS[0], "/data/my videos", *WITH_SECRETS[1:], "youtube"), cache="/cache"))
    assert "secret" not in layout.sources.read_text()
    assert json.loads(layout.sources.read_text())["videos"] == ["/data/my videos", "youtube"]
    with pytest.raises(BadOption) as caught:
        with_recorded_sources(layout, Fetching(()))
    assert str(caught.value) == (
        f"{layout.sources} lacks http://***@mirror.example/{{id}}.mp4, "
        "https://bucket.example/{id}.mp4?X-Amz-Signature=***&dl=1, "
        "yt-dlp:https://site.example/watch?v={id}&token=***: its address holds a secret, which is not written down. "
        "Give all places again, with the secret in place of ***: --videos 'http://***@mirror.example/{id}.mp4' "
        "'/data/my videos' 'https://bucket.example/{id}.mp4?X-Amz-Signature=***&dl=1' "
        "'yt-dlp:https://site.example/watch?v={id}&token=***' youtube"
    )
    again = Fetching(WITH_SECRETS)
    assert with_recorded_sources(layout, again) is again


def test_a_folder_is_recorded_whatever_its_name(layout):
    write_sources(layout, Fetching(("/data/a?token=b", "me@host")))
    assert with_recorded_sources(layout, Fetching(())).videos == ("/data/a?token=b", "me@host")


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "[]", "{}", '{"videos": 3, "cache": null}', '{"videos": []}', '{"videos": "abc", "cache": null}'),
        *('{"videos": [3], "cache": null}', '{"videos": [], "cache": 3}', '{"videos": [], "cache": [], "given": 3}'),
        *('{"videos": [], "cache": null, "given": [null]}', "[" * 100_000),
    ],
)
def test_without_any_place_the_user_is_asked_for_one(text, layout):
    layout.output.mkdir()
    if text is not None:
        layout.sources.write_text(text)
    with pytest.raises(BadOption, match="does not say where its videos are: give --videos or --cache"):
        with_recorded_sources(layout, Fetching(()))


# The folder -------------------------------------------------------------------------------------


def test_a_folder_is_made_and_has_empty_scratch_space_that_goes_again(layout):
    with folder.exclusive(layout):
        assert list(layout.scratch.iterdir()) == []
    assert list(layout.output.iterdir()) == []


def test_temporary_files_of_a_killed_run_go_and_its_objects_stay(layout):
    (layout.scratch / "nested").mkdir(parents=True)
    (layout.scratch / "half").write_bytes(b"x")
    (layout.work / "train" / "00000").mkdir(parents=True)
    (layout.work / "train" / "00000" / "00000.written").touch()
    with folder.exclusive(layout):
        assert list(layout.scratch.iterdir()) == []
    assert [path.name for path in layout.work.rglob("*")] == ["train", "00000", "00000.written"]


def test_another_run_is_kept_out_until_the_first_is_over(layout):
    program = (
        "import sys; from pathlib import Path\n"
        "from kinetics_prep.dataset import folder; from kinetics_prep.dataset.layout import Layout\n"
        "from kinetics_prep.errors import FolderInUse\n"
        "try:\n with folder.exclusive(Layout(Path(sys.argv[1]))): print('entered')\n"
        "except FolderInUse as error: print(error)\n"
    )

    def other_run() -> str:
        return subprocess.run([sys.executable, "-c", program, layout.output], capture_output=True, text=True).stdout

    with folder.exclusive(layout):
        (layout.scratch / "ours").touch()
        assert "another run is writing to" in other_run()
        assert (layout.scratch / "ours").exists()
        (layout.scratch / "ours").unlink()
    assert other_run() == "entered\n"


def test_an_error_in_the_run_lets_others_in(layout):
    with pytest.raises(ZeroDivisionError), folder.exclusive(layout):
        raise ZeroDivisionError
    with folder.exclusive(layout):
        pass


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        with (
            pytest.raises(BadOption, match=r"--output .* cannot be written to: .*file"),
            folder.exclusive(Layout(output)),
        ):
            pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_named(tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(BadOption, match="Permission denied"), folder.exclusive(Layout(tmp_path / "out")):
        pass


def test_a_folder_is_unused_until_an_object_or_a_marker_is_there(tmp_path):
    dataset = small_dataset.make(tmp_path / "out")
    assert folder.is_unused(dataset.layout)
    dataset.write(dataset.rows[4], "network")
    assert not folder.is_unused(dataset.layout)
    dataset.part.object(dataset.rows[4], "refused").unlink()
    assert folder.is_unused(dataset.layout)
    dataset.complete()
    assert not dataset.layout.work.glob("*/*/*") or not list(dataset.layout.work.glob("*/*/*"))
    assert not folder.is_unused(dataset.layout)


def test_settings_are_removed_and_nothing_else(tmp_path):
    dataset = small_dataset.make(tmp_path / "out")
    dataset.write(dataset.rows[0])
    (dataset.layout.output / "notes.md").touch()
    folder.remove_settings(dataset.layout)
    assert sorted(path.name for path in dataset.layout.output.iterdir()) == [".work", "notes.md", "plan"]
    assert list(dataset.layout.plans.iterdir()) == []
    folder.remove_settings(dataset.layout)
