"""Inception-V1 with batch norm, in two dimensions and in three: the base of the I3D paper's models.

Sources: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, table 1; Ioffe & Szegedy, "Batch Normalization",
ICML 2015; for three dimensions Carreira & Zisserman, CVPR 2017, figure 3. Layers bear the names of DeepMind's
checkpoints and of TF-Slim's, with "." for "/", which Keras refuses: `Mixed_3b.Branch_0.Conv3d_0a_1x1.conv_3d`.

One name differs: both say `Mixed_5b/Branch_2/Conv2d_0a_3x3` where every other block says `0b_3x3`. Here it is 0b.
"""

import dataclasses
from typing import Any

import keras
from keras import KerasTensor, layers

from kinetics_prep.models.spec import CHANNELS, PAPER, Options

NAME = "inception-v1"

EPSILON = 1e-3
"""Of batch norm. There is no scale: the layer after the ReLU can scale as well."""

SHRINKS = 32
"""By how much the trunk shrinks height and width, rounding up."""

MIXED = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}
"""Channels of the branches of each mixed block: of the 1x1; of the 1x1 before the 3x3, and of the 3x3; the same for the
other 3x3, which is a 5x5 in the first paper; and of the 1x1 after the pool."""

HEAD = "Logits.Conv2d_0c_1x1.conv_2d"
"""The layer of `image_logits` that holds the classes, without a prefix."""


@dataclasses.dataclass(frozen=True)
class Builder:
    """Makes layers of one kind: 2D or 3D, under one prefix, with the same options."""

    dims: int
    """2: [B, H, W, C]. 3: [B, T, H, W, C]."""
    options: Options
    prefix: str = ""
    """Of every layer's name: "RGB." where a model has two trunks."""

    def conv(self, x: KerasTensor, name: str, channels: int, kernel: int = 1, stride: int = 1) -> KerasTensor:
        """Convolution, batch norm, ReLU; padding as TensorFlow's SAME. `name` is the one in 3D, e.g. Conv3d_2b_1x1."""
        name = self.name(name)
        x = self.bare_conv(x, name, channels, kernel, stride, use_bias=False)
        x = batch_norm(x, f"{name}.batch_norm", self.options)
        return layers.ReLU(name=f"{name}.relu")(x)

    def bare_conv(
        self, x: KerasTensor, name: str, channels: int, kernel: int, stride: int = 1, **more: Any
    ) -> KerasTensor:
        """A convolution alone. `name` is complete: no prefix is added. `more` goes to Keras's layer."""
        kind = {2: layers.Conv2D, 3: layers.Conv3D}[self.dims]
        return kind(
            channels,
            kernel,
            strides=stride,
            padding="same",
            kernel_regularizer=decay(self.options),
            name=f"{name}.conv_{self.dims}d",
            **more,
        )(x)

    def max_pool(self, x: KerasTensor, name: str, window: int, stride: int, over_time: bool = True) -> KerasTensor:
        """The largest value of each window; SAME. In 3D also over time, unless `over_time` is False."""
        kind = {2: layers.MaxPooling2D, 3: layers.MaxPooling3D}[self.dims]
        # An axis of length 1 needs no pool. A pool of 2 along it makes jaxlib 0.10.2 read beyond the array's end.
        pooled = [length != 1 for length in x.shape[1:-1]]
        if self.dims == 3 and not over_time:
            pooled[0] = False
        windows, strides = (tuple(size if is_pooled else 1 for is_pooled in pooled) for size in (window, stride))
        return kind(windows, strides, "same", name=self.name(name))(x)

    def mixed(self, x: KerasTensor, block: str) -> KerasTensor:
        """An Inception block: four branches, and their channels side by side."""
        name = f"Mixed_{block}"
        direct, reduce_1, branch_1, reduce_2, branch_2, pooled = MIXED[block]
        branches = [
            self.conv(x, f"{name}.Branch_0.Conv3d_0a_1x1", direct),
            self._reduced_conv(x, f"{name}.Branch_1", reduce_1, branch_1),
            self._reduced_conv(x, f"{name}.Branch_2", reduce_2, branch_2),
            self.conv(
                self.max_pool(x, f"{name}.Branch_3.MaxPool3d_0a_3x3", 3, 1), f"{name}.Branch_3.Conv3d_0b_1x1", pooled
            ),
        ]
        return layers.Concatenate(name=self.name(name))(branches)

    def _reduced_conv(self, x: KerasTensor, branch: str, reduced: int, channels: int) -> KerasTensor:
        """A 3x3 behind a 1x1 that reduces the channels."""
        x = self.conv(x, f"{branch}.Conv3d_0a_1x1", reduced)
        return self.conv(x, f"{branch}.Conv3d_0b_3x3", channels, kernel=3)

    def trunk(self, x: KerasTensor) -> KerasTensor:
        """From images to 1024 features at 1/32 of their height and width; in 3D also at 1/8 of the frames."""
        x = self.conv(x, "Conv3d_1a_7x7", 64, kernel=7, stride=2)
        x = self.max_pool(x, "MaxPool3d_2a_3x3", 3, 2, over_time=False)
        x = self.conv(x, "Conv3d_2b_1x1", 64)
        x = self.conv(x, "Conv3d_2c_3x3", 192, kernel=3)
        x = self.max_pool(x, "MaxPool3d_3a_3x3", 3, 2, over_time=False)
        for block in ("3b", "3c"):
            x = self.mixed(x, block)
        x = self.max_pool(x, "MaxPool3d_4a_3x3", 3, 2)
        for block in ("4b", "4c", "4d", "4e", "4f"):
            x = self.mixed(x, block)
        x = self.max_pool(x, "MaxPool3d_5a_2x2", 2, 2)
        for block in ("5b", "5c"):
            x = self.mixed(x, block)
        return x

    def image_logits(self, x: KerasTensor, classes: int) -> KerasTensor:
        """From the features of images, [B, H, W, 1024], to logits, float32 [B, classes]; `HEAD` holds the classes."""
        x = layers.GlobalAveragePooling2D(keepdims=True, name=self.name("AvgPool3d_0a_7x7"))(x)
        x = layers.Dropout(self.options.dropout, name=self.name("Logits.Dropout_0b"))(x)
        x = self.bare_conv(x, self.prefix + HEAD.removesuffix(".conv_2d"), classes, kernel=1, dtype="float32")
        return layers.Flatten(dtype="float32", name=self.name("Logits"))(x)

    def name(self, name: str) -> str:
        """A layer's complete name, given its name in 3D."""
        return self.prefix + (name if self.dims == 3 else name.replace("3d_", "2d_"))


def batch_norm(x: KerasTensor, name: str, options: Options) -> KerasTensor:
    """Batch norm as DeepMind's and TF-Slim's: with beta, without a scale."""
    return layers.BatchNormalization(momentum=options.batch_norm_momentum, epsilon=EPSILON, scale=False, name=name)(x)


def decay(options: Options) -> keras.regularizers.L2 | None:
    """The regularizer that adds `weight_decay * w` to a gradient: Keras adds l2 * w^2 to the loss."""
    return keras.regularizers.L2(options.weight_decay / 2) if options.weight_decay else None


def build(classes: int, size: int = 224, options: Options = PAPER) -> keras.Model:
    """Inception-V1 for images, as trained on ImageNet: other models may begin from its weights.

    Returns:
      {"rgb": float32 [B, size, size, 3] in [-1, 1]} -> logits, float32 [B, classes].
    """
    images = keras.Input((size, size, CHANNELS["rgb"]), name="rgb")
    layer = Builder(2, options)
    return keras.Model({"rgb": images}, layer.image_logits(layer.trunk(images), classes), name=NAME)
