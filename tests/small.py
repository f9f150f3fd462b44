"""What tests of the trainer share: a model of a few thousand parameters, and clips that move left or right."""

from pathlib import Path

import keras
import numpy as np
from conftest import write_video

from kinetics_prep.models.inception import batch_norm
from kinetics_prep.models.spec import CHANNELS, PAPER, Options, Spec

SPEC = Spec(
    name="small", title="Small", streams=("rgb", "flow"), size=32, train_span=4, test_span=8, window=None, rgb_every=1
)
HEAD = ("head",)


def build(classes: int, stream: str, size: int = 32, span=None, options: Options = PAPER) -> keras.Model:
    """A convolution, batch norm, dropout and a dense layer: all kinds of state that a run has."""
    frames = keras.Input((span, size, size, CHANNELS[stream]), name=stream)
    x = keras.layers.Conv3D(8, (3, 5, 5), strides=(1, 4, 4), padding="same", use_bias=False, name="conv")(frames)
    x = batch_norm(x, "norm", options)
    x = keras.layers.GlobalAveragePooling3D(name="mean")(keras.layers.ReLU(name="relu")(x))
    x = keras.layers.Dropout(options.dropout, name="dropout")(x)
    logits = keras.layers.Dense(classes, dtype="float32", name="head")(x)
    return keras.Model({stream: frames}, logits, name="small")


def write_clips(folder: Path) -> Path:
    """Eighteen videos of 1.2 s at 10 fps whose texture moves 2 px a frame, and their list. Returns the list."""
    random, lines = np.random.default_rng(0), []
    for number in range(18):
        texture = random.integers(0, 256, (10, 14, 3), np.uint8).repeat(4, 0).repeat(4, 1)
        label, step = (("moving left", -2), ("moving right", 2))[number % 2]
        frames = np.stack([np.roll(texture, step * k, axis=1) for k in range(12)])
        write_video(folder / f"clip{number}.mp4", frames, fps=10)
        lines.append(f"{label},clip{number},0,1.2,{'val' if number >= 12 else 'train'}")
    path = folder / "moving.csv"
    path.write_text("label,youtube_id,time_start,time_end,split\n" + "\n".join(lines) + "\n")
    return path
