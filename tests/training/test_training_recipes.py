import dataclasses
import json

import pytest

from kinetics_prep.errors import BadOption
from kinetics_prep.training.recipes import PRECISIONS, PROTOCOLS, RECIPES, Plateau, TrainRecipe, recipe

SCHEDULE = TrainRecipe(learning_rates=((0, 0.05), (4, 0.01)), steps=6, batch=4)


def test_the_learning_rate_falls_with_the_schedule():
    assert [SCHEDULE.learning_rate(step) for step in (0, 3, 4, 5)] == [0.05, 0.05, 0.01, 0.01]


@pytest.mark.parametrize(
    "losses, drops",
    [
        ([], 0),
        ([3, 2, 1], 0),
        ([3, 4], 0),
        ([3, 4, 3], 1),
        ([3, 4, 2, 4], 0),
        ([3, 4, 3, 5], 1),
        ([3, 4, 3, 5, 6], 2),
        ([3, 4, 3, 2, 6, 7], 2),
        ([3, 4, 3, 5, 6, 7, 8, 9, 10], 2),
    ],
)
def test_the_learning_rate_falls_where_the_validation_loss_no_longer_does(losses, drops):
    plateau = Plateau(patience=2, factor=0.1, drops=2)
    falling = dataclasses.replace(SCHEDULE, plateau=plateau)
    assert plateau.scale(losses) == pytest.approx(0.1**drops)
    assert falling.learning_rate(3, losses) == pytest.approx(0.05 * 0.1**drops)
    assert falling.learning_rate(4, losses) == pytest.approx(0.01 * 0.1**drops)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"patience": 0}, "plateau patience is 0, expected 1 or more"),
        ({"factor": 0.0}, "plateau factor is 0.0, expected between 0 and 1"),
        ({"factor": 1.0}, "plateau factor is 1.0"),
        ({"drops": 0}, "plateau drops is 0"),
    ],
)
def test_a_plateau_refuses_nonsense(changes, message):
    with pytest.raises(BadOption, match=message):
        Plateau(**changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        *(({name: 0}, f"^{name} is 0, expected 1 or more$") for name in ("steps", "batch", "accumulate", "stride")),
        *(({name: 0}, f"^{name} is 0, expected 1 or more$") for name in ("evaluate_every", "size", "frames")),
        ({"early_stop": 0}, "early_stop is 0"),
        ({"steps": 2.0}, "steps is 2.0"),
        ({"steps": True}, "steps is True"),
        ({"batch": 384, "accumulate": 5}, "batch is 384, expected a multiple of the 5 parts"),
        *(({name: 1.0}, f"{name} is 1.0, expected 0 or more and under 1") for name in ("momentum", "dropout")),
        *(({name: -0.1}, f"{name} is -0.1") for name in ("momentum", "dropout", "batch_norm_momentum")),
        ({"weight_decay": 1.5}, "weight_decay is 1.5, expected 0 to 1"),
        ({"weight_decay": -1e-9}, "weight_decay is -1e-09"),
        ({"learning_rates": ()}, "learning_rates is .* the first at step 0"),
        ({"learning_rates": ((1, 0.1),)}, "the first at step 0"),
        ({"learning_rates": ((0, 0.1), (5, 0.1), (5, 0.2))}, "in order"),
        ({"learning_rates": ((0, 0.0),)}, "rates over 0 and under 1000"),
        ({"learning_rates": ((0, 1000.0),)}, "rates over 0 and under 1000"),
        ({"learning_rates": ((0, float("nan")),)}, "rates over 0 and under 1000"),
        ({"precision": "float64"}, "precision is float64, expected one of float32, mixed_float16, mixed_bfloat16"),
        ({"protocol": "best"}, "protocol is best, expected one of original, fixed, full-ft"),
        ({"seed": -1}, "seed is -1, expected 0 to 2147483647"),
        ({"seed": 2**31}, "seed is 2147483648"),
    ],
)
def test_a_recipe_refuses_nonsense(changes, message):
    with pytest.raises(BadOption, match=message):
        TrainRecipe(**changes)


def test_the_ends_of_what_a_recipe_allows_are_allowed():
    TrainRecipe(
        momentum=0, dropout=0, batch_norm_momentum=0, weight_decay=0, seed=0, steps=1, batch=1, size=1, frames=1
    )
    TrainRecipe(weight_decay=1, seed=2**31 - 1, learning_rates=((0, 999.9),), batch=6, accumulate=6)
    assert {TrainRecipe(precision=name).precision for name in PRECISIONS} == set(PRECISIONS)
    assert {TrainRecipe(protocol=name).protocol for name in PROTOCOLS} == set(PROTOCOLS)


def test_a_batch_is_computed_in_equal_parts():
    assert TrainRecipe(batch=384, accumulate=8).batch_at_once == 48


def test_i3d_on_kinetics_is_the_paper_s_run():
    """Steps and drops as in the README of deepmind/kinetics-i3d."""
    rgb, flow = recipe("i3d-kinetics", "i3d", "rgb"), recipe("i3d-kinetics", "i3d", "flow")
    assert (rgb.steps, rgb.batch, rgb.momentum, rgb.dropout, rgb.weight_decay) == (115_000, 64 * 6, 0.9, 0.5, 1e-7)
    assert rgb.learning_rates == ((0, 0.1), (97_000, 0.01), (108_000, 0.001))
    assert flow.steps == 155_000
    drops = ((0, 0.1), (97_000, 0.01), (104_500, 0.001), (115_000, 0.1), (140_000, 0.01), (150_000, 0.001))
    assert flow.learning_rates == drops


@pytest.mark.parametrize(
    "name, steps, batch", [("kinetics", 110_000, 192), ("mini-kinetics", 35_000, 192), ("ucf101-hmdb51", 5_000, 96)]
)
def test_the_paper_s_other_recipes_wait_for_a_plateau(name, steps, batch):
    made = recipe(name, "two-stream", "both")
    assert (made.steps, made.batch, made.plateau, made.precision) == (steps, batch, Plateau(3, 0.1, 2), "float32")
    assert made.protocol == ("full-ft" if name == "ucf101-hmdb51" else "original")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_knows_its_name_model_and_stream_and_may_be_changed(name):
    made = recipe(name, "two-stream", "flow", seed=7)
    assert (made.name, made.model, made.stream, made.seed) == (name, "two-stream", "flow", 7)
    with pytest.raises(BadOption, match="steps is 0"):
        recipe(name, "i3d", "rgb", steps=0)


def test_a_recipe_that_is_not_there_is_refused():
    with pytest.raises(BadOption, match="recipe is 'best', expected one of i3d-kinetics, kinetics, "):
        recipe("best", "i3d", "rgb")


def test_settings_are_plain_values_and_name_every_field():
    made = recipe("kinetics", "i3d", "rgb")
    settings = made.settings()
    assert json.loads(json.dumps(settings)) == settings
    assert set(settings) == {field.name for field in dataclasses.fields(TrainRecipe)}
    assert settings["learning_rates"] == [[0, 0.1]] and settings["plateau"] == {
        "patience": 3,
        "factor": 0.1,
        "drops": 2,
    }
