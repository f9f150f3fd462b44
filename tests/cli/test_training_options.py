"""The flags, without Keras."""

import argparse
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from kinetics_prep.cli import flag_types, training_flags, training_options
from kinetics_prep.errors import BadOption
from kinetics_prep.training.recipes import RECIPES, Plateau, TrainRecipe, recipe


def parsed(*flags):
    parser = argparse.ArgumentParser()
    training_flags.add_train_arguments(parser)
    return training_options.recipe_from(parser.parse_args(["--data", "k400", *flags]))


def test_without_flags_it_is_the_papers_i3d():
    assert parsed() == TrainRecipe("i3d-kinetics")
    assert parsed().learning_rates == ((0, 0.1), (97_000, 0.01), (108_000, 0.001))
    assert (parsed().steps, parsed().batch, parsed().momentum, parsed().dropout) == (115_000, 384, 0.9, 0.5)
    flow = parsed("--stream", "flow")
    assert (
        flow.steps,
        [flow.learning_rate(step) for step in (96_999, 97_000, 104_500, 115_000, 140_000, 150_000)],
    ) == (
        155_000,
        [0.1, 0.01, 0.001, 0.1, 0.01, 0.001],
    )
    assert parsed("--model", "convnet-3d").name == "kinetics"


CHANGES = {
    "steps": (("--steps", "7"), 7),
    "batch": (("--batch", "6"), 6),
    "accumulate": (("--batch", "6", "--batch-at-once", "2"), 3),
    "learning_rates": (("--learning-rate", "0.5", "9:0.25"), ((0, 0.5), (9, 0.25))),
    "plateau": (("--plateau", "4"), Plateau(4)),
    "momentum": (("--momentum", "0.5"), 0.5),
    "dropout": (("--dropout", "0.2"), 0.2),
    "weight_decay": (("--weight-decay", "1e-3"), 1e-3),
    "batch_norm_momentum": (("--batch-norm-momentum", "0.8"), 0.8),
    "size": (("--size", "96"), 96),
    "frames": (("--frames", "16"), 16),
    "stride": (("--stride", "2"), 2),
    "flip": (("--no-flip",), False),
    "precision": (("--precision", "mixed_bfloat16"), "mixed_bfloat16"),
    "protocol": (("--protocol", "fixed"), "fixed"),
    "evaluate_every": (("--evaluate-every", "5"), 5),
    "early_stop": (("--early-stop", "3"), 3),
    "seed": (("--seed", "9"), 9),
    "model": (("--model", "two-stream"), "two-stream"),
    "stream": (("--stream", "flow"), "flow"),
    "name": (("--recipe", "mini-kinetics"), "mini-kinetics"),
}


def test_every_setting_has_a_flag():
    assert set(CHANGES) == {field.name for field in dataclasses.fields(TrainRecipe)}


@pytest.mark.parametrize("name", CHANGES)
def test_a_flag_changes_its_setting(name):
    flags, value = CHANGES[name]
    assert getattr(parsed(*flags), name) == value


def test_to_begin_from_weights_is_to_train_all_of_them_unless_said_otherwise():
    assert parsed("--init-from", "w").protocol == "full-ft"
    assert parsed("--init-from", "w", "--protocol", "fixed").protocol == "fixed"
    assert parsed("--recipe", "ucf101-hmdb51").protocol == "original"
    assert parsed("--recipe", "ucf101-hmdb51", "--init-from", "w").protocol == "full-ft"


def test_a_plateau_can_be_left_out():
    assert parsed("--recipe", "kinetics").plateau == Plateau()
    assert parsed("--recipe", "kinetics", "--plateau", "0").plateau is None


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--learning-rate", "fast"), "expected RATE or STEP:RATE"),
        (("--learning-rate", "5:0.1"), "the first at step 0"),
        (("--learning-rate", "0.1", "0:0.2"), "pairs .* in order"),
        (("--learning-rate", "-1"), "rates over 0"),
        (("--batch-at-once", "100"), "a divisor of the batch, 384"),
        (("--batch-at-once", "0"), "a divisor of the batch, 384"),
        (("--steps", "0"), "steps is 0, expected 1 or more"),
        (("--dropout", "1"), "dropout is 1.0, expected 0 or more and under 1"),
        (("--dropout", "nan"), "dropout is nan"),
        (("--seed", "-1"), "seed is -1"),
        (("--plateau", "-1"), "plateau patience is -1"),
    ],
)
def test_nonsense_is_refused(flags, message):
    with pytest.raises(BadOption, match=message):
        parsed(*flags)


def test_an_unknown_recipe_names_the_known_ones():
    with pytest.raises(BadOption, match="expected one of i3d-kinetics, kinetics"):
        recipe("fast", "i3d", "rgb")


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_say_what_they_are(name):
    made = recipe(name, "i3d", "flow")
    assert (made.name, made.model, made.stream) == (name, "i3d", "flow")
    assert TrainRecipe(**made.settings() | {"plateau": made.plateau}) == made


def test_files_may_have_names():
    assert flag_types.named_path("a=b/c.parquet") == ("a", Path("b/c.parquet"))
    assert flag_types.named_path("c.parquet") == (None, Path("c.parquet"))


def test_help_needs_no_keras():
    code = "import sys; from kinetics_prep import cli\ntry:\n cli.main(['train', '--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'keras', 'tensorflow', 'safetensors'} & set(sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "something that two cores can do" in found.stdout
