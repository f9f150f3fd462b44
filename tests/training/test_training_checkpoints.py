import resource

import numpy as np
import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

import keras
import small
from safetensors import numpy as safetensors

from kinetics_prep.errors import CorruptShard, Diverged, NoRoom
from kinetics_prep.training import checkpoints

FRAMES = {"rgb": np.random.default_rng(0).random((4, 4, 32, 32, 3), np.float32)}
CLASS_IDS = np.array([0, 1, 0, 1])


def compiled(classes: int = 2) -> keras.Model:
    model = small.build(classes, "rgb")
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A model after two steps, so that momentum, moving averages and the state of dropout are not as new."""
    keras.utils.set_random_seed(0)
    model = compiled()
    for _ in range(2):
        model.train_on_batch(FRAMES, CLASS_IDS)
    return model


def state(model: keras.Model) -> dict[str, np.ndarray]:
    return {name: np.array(variable.numpy()) for name, variable in checkpoints._variables(model).items()}


def test_a_restored_model_has_every_number_of_the_state_and_takes_the_same_step(model, tmp_path):
    path = checkpoints.write(tmp_path, 2, model, "digest")
    assert path == tmp_path / "step-00000002.safetensors" and checkpoints.step_of(path) == 2
    keras.utils.set_random_seed(1)
    other = compiled()
    assert any(not np.array_equal(array, state(other)[name]) for name, array in state(model).items())
    assert checkpoints.restore(path, other, "digest") == 2
    for name, array in state(model).items():
        assert np.array_equal(array, state(other)[name]), name
    assert int(other.optimizer.iterations) == 2
    assert any(np.abs(array).max() > 0 for name, array in state(other).items() if "momentum" in name)
    losses = [each.train_on_batch(FRAMES, CLASS_IDS) for each in (model, other)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_names_do_not_depend_on_how_many_models_were_made_before(model):
    names = set(state(model))
    assert set(state(compiled())) == names
    assert not any("loss" in name or "seed_generator_1" in name for name in names)
    kinds = (
        "kernel",
        "beta",
        "moving_mean",
        "moving_variance",
        "bias",
        "seed",
        "iteration",
        "learning_rate",
        "momentum",
    )
    assert all(any(kind in name for name in names) for kind in kinds)


def test_the_last_two_checkpoints_stay(model, tmp_path):
    (tmp_path / "step-1.safetensors").write_bytes(b"not a checkpoint's name")
    for step in (9, 10, 100, 1000):
        checkpoints.write(tmp_path, step, model, "digest")
    paths = checkpoints.list_checkpoints(tmp_path)
    assert [checkpoints.step_of(path) for path in paths] == [100, 1000]
    assert (tmp_path / "step-1.safetensors").exists()
    with pytest.raises(ValueError, match="'step-1.safetensors' is not the name of a checkpoint"):
        checkpoints.step_of(tmp_path / "step-1.safetensors")


def refused(path, model, match, digest="digest"):
    """The checkpoint is refused, and no variable of the model changes."""
    before = state(model)
    with pytest.raises(CorruptShard, match=match):
        checkpoints.restore(path, model, digest)
    assert all(np.array_equal(array, before[name]) for name, array in state(model).items())


def test_a_checkpoint_of_another_run_step_or_model_is_refused(model, tmp_path):
    path = checkpoints.write(tmp_path, 2, model, "digest")
    other = compiled()
    refused(path, other, "is of another run: its digest is 'digest', expected 'other'", digest="other")
    refused(path, compiled(classes=3), r'does not fit the model: \["model.0005.kernel", "model.0006.bias", "optimizer')
    renamed = path.rename(path.with_name("step-00000003.safetensors"))
    refused(renamed, other, "is of step '2': it was renamed")


def test_a_checkpoint_that_lacks_an_array_or_has_one_of_another_kind_is_refused(model, tmp_path):
    path, other = tmp_path / "step-00000002.safetensors", compiled()
    arrays, facts = state(model), {"step": "2", "digest": "digest"}
    name = next(name for name in arrays if name.endswith(".bias"))
    for changed in (
        {other_name: array for other_name, array in arrays.items() if other_name != name},
        arrays | {"model.9999.bias": arrays[name]},
        arrays | {name: arrays[name].astype(np.float64)},
        arrays | {name: arrays[name][:1]},
    ):
        path.write_bytes(safetensors.save(changed, facts))
        refused(path, other, r"does not fit the model: \[\"model\.")


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-9], lambda data: b"\xff" * len(data)])
def test_a_damaged_checkpoint_is_refused(model, tmp_path, damage):
    path = checkpoints.write(tmp_path, 2, model, "digest")
    path.write_bytes(damage(path.read_bytes()))
    refused(path, compiled(), "does not read as a checkpoint")


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_state_that_is_not_finite_is_never_written(tmp_path, number):
    diverged = compiled()
    kernel = diverged.get_layer("head").kernel
    kernel.assign(np.full(kernel.shape, number, np.float32))
    with pytest.raises(Diverged, match="after step 2 model.*kernel holds values that are not finite"):
        checkpoints.write(tmp_path, 2, diverged, "digest")
    assert not list(tmp_path.iterdir())


def test_no_room_for_a_checkpoint_is_an_error_of_its_own(model, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        with pytest.raises(NoRoom, match="no room to write .*step-00000000"):
            checkpoints.write(tmp_path, 0, model, "digest")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not checkpoints.list_checkpoints(tmp_path)
