"""Cross-modality initialisation: a network for RGB as the beginning of a network for flow.

Wang et al., "Temporal Segment Networks", ECCV 2016, section 3.2: the first kernel is averaged over red, green and blue,
and each channel of the new input gets the mean.
"""

from collections.abc import Mapping

import numpy as np

from kinetics_prep.errors import BadWeights
from kinetics_prep.models.spec import CHANNELS
from kinetics_prep.models.weights import Arrays


def with_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A first kernel that was made for RGB, for another number of input channels.

    Args:
      kernel: float32 [..., 3, out].
      channels: of the new input.

    Returns:
      float32 [..., channels, out]: in each channel the mean over red, green and blue.
    """
    return np.repeat(kernel.mean(axis=-2, keepdims=True, dtype=np.float32), channels, axis=-2)


def adapt_rgb_to_flow(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The weights of an RGB network as those of a flow network to begin from: its first kernel takes dx and dy.

    Raises:
      BadWeights: if not exactly one kernel takes three channels.
    """
    first = [name for name, array in arrays.items() if name.endswith("/kernel") and _takes_rgb(array)]
    if len(first) != 1:
        raise BadWeights(f"expected one kernel that takes RGB, found {len(first)}: {', '.join(first[:10])}")
    return dict(arrays) | {first[0]: with_channels(arrays[first[0]], CHANNELS["flow"])}


def _takes_rgb(kernel: np.ndarray) -> bool:
    return kernel.ndim >= 4 and kernel.shape[-2] == CHANNELS["rgb"]
