"""Several devices, on the CPU: TensorFlow and JAX can both make several of one."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

import keras
from run_cases import save_weights

from kinetics_prep.errors import BadOption
from kinetics_prep.models import weights
from kinetics_prep.training import devices

pytestmark = pytest.mark.usefixtures("small_model")

TRAIN = """
import json, sys
sys.path[:0] = json.loads(sys.argv[3])
settings = json.loads(sys.argv[7])
if settings.pop("without_tensorflow", False):
    sys.modules["tensorflow"] = None
from pathlib import Path

if sys.argv[4] == "tensorflow":
    import tensorflow as tf
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[5]))

import small
from kinetics_prep.models import MODELS
from kinetics_prep.training import loop, opening
from kinetics_prep.training.job import TrainJob
from kinetics_prep.training.recipes import TrainRecipe
from kinetics_prep.reading.batches import Reading

MODELS["small"] = small
same = {"batch": 4, "size": 32, "dropout": 0.0, "flip": False, "evaluate_every": 3, "protocol": "fixed"}
settings = same | {"learning_rates": [[0, 0.5]]} | settings
recipe = TrainRecipe(model="small", steps=3, **settings)
data, output = Path(sys.argv[1]), Path(sys.argv[2])
job = TrainJob(recipe, data, output, validation="val", init_from=Path(sys.argv[6]), reading=Reading("parquet"))
with opening.open_run(job) as run:
    print(f"{run.devices}, compiled by XLA: {bool(run.model.jit_compile)}", file=sys.stderr)
    loop.train(run)
"""


def train(data, output, backend, devices, start, **settings):
    """Trains three steps in a process of its own."""
    here = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    environment = os.environ | {"KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    command = [sys.executable, "-c", TRAIN, str(data), str(output), json.dumps(here), backend, str(devices), str(start)]
    return subprocess.run([*command, json.dumps(settings)], env=environment, capture_output=True, text=True)


def losses(data, output, backend, devices, start, **settings):
    """Trains; returns the losses of three steps and of the evaluation after them."""
    ended = train(data, output, backend, devices, start, **settings)
    assert ended.returncode == 0, ended.stderr[-3000:]
    # JAX computes one operation after the other without: on a CPU that takes twice as long.
    by = f"by {backend}, compiled by XLA: {backend == 'jax'}"
    assert f"{devices} CPU{'s' if devices > 1 else ''}, {by}" in ended.stderr
    entries = [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [1, 2, 3, 3] and "val_loss" in entries[-1]
    return [entry["loss"] if "loss" in entry else entry["val_loss"] for entry in entries]


def head(path):
    """The kernel of the last layer, which the protocol `fixed` trains."""
    return weights.load(path).arrays["head/kernel"]


def assert_moved_alike(output, reference, start, share):
    """The last layer moved, and as in the reference but for this share of how far it moved there."""
    moved, expected = (head(path / "weights.safetensors") - head(start) for path in (output, reference))
    assert np.abs(expected).max() > 0.02
    assert np.abs(moved - expected).max() < share * np.abs(expected).max()


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Weights to begin from, the same for all. Fixed, so that batch norm does not see how a batch is shared."""
    with pytest.MonkeyPatch.context() as patched:
        import small

        from kinetics_prep.models import MODELS

        patched.setitem(MODELS, "small", small)
        keras.utils.set_random_seed(0)
        return save_weights(tmp_path_factory.mktemp("start") / "start.safetensors")


@pytest.fixture(scope="module")
def alone(moving_data, start, tmp_path_factory):
    """A run on one device, by TensorFlow: its folder and its losses."""
    output = tmp_path_factory.mktemp("alone") / "run"
    return output, losses(moving_data, output, "tensorflow", 1, start)


def test_two_devices_share_a_batch_and_compute_what_one_does(moving_data, tmp_path, alone, start):
    reference, expected = alone
    assert losses(moving_data, tmp_path / "run", "tensorflow", 2, start) == pytest.approx(expected, abs=1e-5)
    assert_moved_alike(tmp_path / "run", reference, start, share=1e-3)


@pytest.mark.parametrize("devices", [1, 2])
def test_jax_computes_what_tensorflow_does(moving_data, tmp_path, alone, start, devices):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    reference, expected = alone
    assert losses(moving_data, tmp_path / "run", "jax", devices, start) == pytest.approx(expected, abs=1e-4)
    assert_moved_alike(tmp_path / "run", reference, start, share=1e-2)


@pytest.mark.parametrize("precision, share", [("float32", 1e-3), ("mixed_float16", 5e-2), ("mixed_bfloat16", 0.3)])
def test_two_devices_share_each_part_of_a_batch(moving_data, tmp_path, alone, start, precision, share):
    reference, expected = alone
    parts = losses(moving_data, tmp_path / "run", "tensorflow", 2, start, accumulate=2, precision=precision)
    # The losses fall by 0.01 or so: they alone would not show whether weights have moved.
    assert parts == pytest.approx(expected, abs=1e-5 if precision == "float32" else 1e-2)
    assert_moved_alike(tmp_path / "run", reference, start, share)


def test_jax_needs_no_tensorflow(moving_data, tmp_path, start):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    assert len(losses(moving_data, tmp_path / "run", "jax", 1, start, without_tensorflow=True)) == 4


def test_float16_on_two_devices_of_tensorflow_stops_when_only_the_second_overflows(moving_data, tmp_path):
    """Not as it should be, but as it is. Keras's LossScaleOptimizer lets a step pass if the gradients of the first
    device are finite, and does not ask the others. Here each device has one clip of a part: the gradients of the first
    clip are finite, and those of the second, times 32768, are not. The sum gets into the weights.

    The trainer stops at the loss that is not finite, before it writes a checkpoint.
    """
    start = steep_weights(tmp_path / "start.safetensors")
    settings = {"protocol": "full-ft", "learning_rates": [[0, 0.0001]], "precision": "mixed_float16", "accumulate": 2}
    ended = train(moving_data, tmp_path / "run", "tensorflow", 2, start, **settings)
    assert "Diverged: the loss of step " in ended.stderr and " is nan" in ended.stderr, ended.stderr[-3000:]
    assert not list((tmp_path / "run").glob("checkpoints/*"))
    whole = train(moving_data, tmp_path / "whole", "tensorflow", 2, start, **settings | {"precision": "float32"})
    assert whole.returncode == 0, whole.stderr[-3000:]


def steep_weights(path):
    """Weights whose gradients float16 cannot hold when they are scaled by 32768, with which Keras begins."""
    keras.utils.set_random_seed(0)
    arrays = weights.load(save_weights(path)).arrays
    return save_weights(path, {"head/kernel": arrays["head/kernel"] * 10})


def test_a_batch_that_devices_cannot_share_equally_is_refused(moving_data, tmp_path, start):
    ended = train(moving_data, tmp_path / "run", "tensorflow", 2, start, batch=3)
    assert "BadOption: 3 clips at once cannot be shared by 2 CPUs, by tensorflow equally" in ended.stderr


def test_shares_are_whole_clips():
    four = devices.Devices(tuple("abcd"), "gpu")
    four.check_share(8)
    with pytest.raises(BadOption, match="6 clips at once .* 4 GPUs, by tensorflow equally: take a multiple of 4 with"):
        four.check_share(6)
    assert str(devices.Devices(("a",), "cpu")) == "1 CPU, by tensorflow"


def test_the_policy_holds_for_a_block_also_when_it_fails():
    before = keras.config.dtype_policy().name
    with pytest.raises(KeyError), devices.policy("mixed_bfloat16"):
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
        raise KeyError
    assert keras.config.dtype_policy().name == before
