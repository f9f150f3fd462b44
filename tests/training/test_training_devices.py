"""Several devices, on the CPU: TensorFlow and JAX can both make several of one."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

import keras
import small

from kinetics_prep.models import weights

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
from kinetics_prep.training import train
from kinetics_prep.training.recipes import TrainRecipe
from kinetics_prep.reading.batches import Reading

MODELS["small"] = small
same = {"batch": 4, "size": 32, "dropout": 0.0, "flip": False, "evaluate_every": 3, "protocol": "fixed"}
settings = same | settings
recipe = TrainRecipe(model="small", steps=3, learning_rates=((0, 0.5),), **settings)
data, output = Path(sys.argv[1]), Path(sys.argv[2])
job = train.TrainJob(recipe, data, output, validation="val", init_from=Path(sys.argv[6]), reading=Reading("parquet"))
with train.prepared(job) as run:
    print(f"{run.devices}, compiled by XLA: {bool(run.model.jit_compile)}", file=sys.stderr)
    train.carry_out(run)
"""


def history(data, output, backend, devices, start, **settings):
    ended = train(data, output, backend, devices, start, **settings)
    assert ended.returncode == 0, ended.stderr[-3000:]
    # JAX computes one operation after the other without: on a CPU that takes twice as long.
    by = f"by {backend}, compiled by XLA: {backend == 'jax'}"
    assert f"{devices} CPU{'s' if devices > 1 else ''}, {by}" in ended.stderr
    return [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]


def train(data, output, backend, devices, start, **settings):
    here = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    environment = os.environ | {"KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    command = [sys.executable, "-c", TRAIN, str(data), str(output), json.dumps(here), backend, str(devices), str(start)]
    return subprocess.run([*command, json.dumps(settings)], env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Weights to begin from, the same for all. Fixed, so that batch norm does not see how a batch is shared."""
    told = {"model": "small", "stream": "rgb", "classes": 3, "size": 32, "span": 4, "fps": "10", "short_side": 40}
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    keras.utils.set_random_seed(0)
    weights.save(path, weights.Weights(weights.Facts(**told), weights.of_model(small.build(3, "rgb"))))
    return path


@pytest.fixture(scope="module")
def alone(moving_data, start, tmp_path_factory):
    """The history of a run on one device, by TensorFlow."""
    return history(moving_data, tmp_path_factory.mktemp("alone") / "run", "tensorflow", 1, start)


def test_two_devices_share_a_batch_and_compute_what_one_does(moving_data, tmp_path, alone, start):
    entries = history(moving_data, tmp_path / "run", "tensorflow", 2, start)
    assert losses(entries) == pytest.approx(losses(alone), abs=1e-4)


def test_so_does_jax(moving_data, tmp_path, alone, start):
    """Its random numbers for the new last layer are others: only that one device and two agree can be told."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    one, two = (history(moving_data, tmp_path / f"run{k}", "jax", k, start) for k in (1, 2))
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)
    assert [set(entry) for entry in one] == [set(entry) for entry in alone]


def test_two_devices_share_each_part_of_a_batch(moving_data, tmp_path, alone, start):
    for name, settings in {"float32": {}, "float16": {"precision": "mixed_float16"}}.items():
        entries = history(moving_data, tmp_path / name, "tensorflow", 2, start, accumulate=2, **settings)
        assert losses(entries) == pytest.approx(losses(alone), abs=1e-4 if name == "float32" else 2e-2)


def test_jax_needs_no_tensorflow(moving_data, tmp_path, start):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    assert len(history(moving_data, tmp_path / "run", "jax", 1, start, without_tensorflow=True)) == 4


def test_a_batch_that_devices_cannot_share_equally_is_refused(moving_data, tmp_path, start):
    ended = train(moving_data, tmp_path / "run", "tensorflow", 2, start, batch=3)
    assert "BadOption: 3 clips at once cannot be shared by 2 CPUs, by tensorflow equally" in ended.stderr


def losses(entries):
    """Of steps, and of the evaluation after them."""
    return [entry["loss"] if "loss" in entry else entry["val_loss"] for entry in entries]
