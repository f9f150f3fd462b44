"""The batches of a folder as Keras takes them."""

import os
import subprocess
import sys

import numpy as np
import pytest
from prepared import folder

pytest.importorskip("keras", reason="the extra `train` is not installed")

import keras

from kinetics_prep.reading.batches import Reading
from kinetics_prep.reading.clips import ClipIndex
from kinetics_prep.reading.order import Once, Order
from kinetics_prep.reading.sampling import Sampler
from kinetics_prep.reading.skipped import Skipped
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.training import samples

SAMPLER = Sampler({"rgb": np.arange(1, 6, 2)}, 28, train=True, flip=True, seed=7)


def test_keras_reads_the_batches_of_both_formats():
    images = keras.Input((3, 28, 28, 3), dtype="uint8", name="rgb")
    model = keras.Model({"rgb": images}, keras.ops.cast(keras.ops.sum(images, (1, 2, 3, 4)), "float32"))
    sums = []
    for format in SHARD_FORMATS:
        clips = ClipIndex.open(folder(), "train", format)
        with samples.batches(clips, SAMPLER, Order(5, 4, 5), Reading(), Skipped(), steps=3) as batches:
            sums.append(model.predict(batches, verbose=0))
    np.testing.assert_array_equal(*sums)
    assert len(set(sums[0].tolist())) == 12  # twelve different samples


def test_batches_of_parquet_are_a_dataset_of_keras():
    clips = ClipIndex.open(folder(), "train", "parquet")
    with samples.batches(clips, SAMPLER, Once(5, 2), Reading(), Skipped()) as batches:
        assert isinstance(batches, keras.utils.PyDataset)
        assert len(batches) == 3
        assert [len(batches[k][1]) for k in range(3)] == [2, 2, 1]


def test_parquet_is_read_without_tensorflow_by_another_backend():
    pytest.importorskip("jax")
    code = f"""
import sys
sys.modules["tensorflow"] = None  # importing it is an error
import keras, numpy as np
from kinetics_prep.errors import MissingTool
from kinetics_prep.reading.batches import Reading
from kinetics_prep.reading.clips import ClipIndex
from kinetics_prep.reading.order import Order
from kinetics_prep.reading.sampling import Sampler
from kinetics_prep.reading.skipped import Skipped
from kinetics_prep.training import samples
sampler = Sampler({{"rgb": np.arange(4)}}, 28, train=True)
images = keras.Input((4, 28, 28, 3), dtype="uint8", name="rgb")
model = keras.Model({{"rgb": images}}, keras.layers.Dense(4)(keras.ops.mean(images, (1, 2, 3))))
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
for format in ("parquet", "tfrecord"):
    clips = ClipIndex.open({str(folder())!r}, "train", format)
    try:
        with samples.batches(clips, sampler, Order(5, 4), Reading(), Skipped(), steps=3) as batches:
            print(format, model.fit(batches, shuffle=False, verbose=0).history["loss"][0] > 0)
    except MissingTool as error:
        print(format, keras.backend.backend(), error)
"""
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert "parquet True" in ended.stdout
    assert "tfrecord jax TFRecord is read through tf.data, and TensorFlow is not installed" in ended.stdout
