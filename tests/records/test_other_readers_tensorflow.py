"""TensorFlow reads a shard with the specifications of `test_other_readers.READERS`; skips without TensorFlow."""

import dataclasses

import numpy as np
import pytest
from test_other_readers import LABELS, READERS, prepare_shard

from kinetics_prep.records import tfrecord

tf = pytest.importorskip("tensorflow")

TYPES = {"bytes": tf.string, "float": tf.float32, "int64": tf.int64}


def read(shard, context: dict, feature_lists: dict) -> tuple[dict, dict]:
    (serialized,) = tf.data.TFRecordDataset(str(shard))
    return tf.io.parse_single_sequence_example(serialized, context, feature_lists)


def decode(images) -> np.ndarray:
    # The default is a faster cosine transform, which comes out half a level too dark.
    return np.stack([tf.io.decode_jpeg(image, channels=3, dct_method="INTEGER_ACCURATE") for image in images])


@pytest.mark.parametrize("name", READERS)
def test_tensorflow_parses_what_a_reader_asks_for(name, tmp_path, quick_recipe):
    shard, reader = prepare_shard(tmp_path, quick_recipe), READERS[name]
    context, lists = read(
        shard,
        {key: tf.io.FixedLenFeature((), TYPES[kind]) for key, kind in reader.context.items()},
        {key: tf.io.FixedLenSequenceFeature((), TYPES[kind]) for key, kind in reader.feature_lists.items()},
    )
    assert {key: len(value) for key, value in lists.items()} == {key: 5 for key in reader.feature_lists}
    assert context["clip/label/index"] == LABELS.index("making tea")


@pytest.mark.parametrize("flow_encoding", ["jpeg", "png"])
def test_pixels_agree_within_one_level_by_model_gardens_specification(flow_encoding, tmp_path, quick_recipe):
    shard = prepare_shard(tmp_path, dataclasses.replace(quick_recipe, flow_encoding=flow_encoding))
    (record,) = tfrecord.read_shard(shard)
    # official/vision/dataloaders/video_input.py at 00d83f37, Decoder, with image_key for RGB and for flow. It uses
    # decode_jpeg for both, which takes PNG as well.
    context = {"clip/label/index": tf.io.VarLenFeature(tf.int64)}
    keys = ("image/encoded", "FORWARD_FLOW/image/encoded")
    context, lists = read(shard, context, {key: tf.io.FixedLenSequenceFeature((), tf.string) for key in keys})
    assert tf.sparse.to_dense(context["clip/label/index"]).numpy().tolist() == [LABELS.index("making tea")]
    frames, planes = (decode(lists[key].numpy()).astype(int) for key in keys)
    assert np.abs(frames - [record.frame(k) for k in range(len(record))]).max() <= 1
    assert np.abs(planes[..., :2] - [record.levels(k) for k in range(len(record))]).max() <= 1
    assert not planes[..., 2].any()
