"""The kernels of TV-L1 for CUDA, `tvl1.cu`, from the host: what they are compiled with, how memory is laid out for
them, and how they are launched. Knows nothing of CuPy: a `Device` does what a GPU does.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from importlib import resources
from typing import Protocol

import numpy as np

from kinetics_prep.flow import tvl1
from kinetics_prep.flow.parameters import TVL1
from kinetics_prep.media.quantize import BOUND_PX

SOURCE = resources.files("kinetics_prep.flow").joinpath("tvl1.cu")
KERNELS = ("fill_pyramids", "flow_between")

WARP = 32
STAGES = 8
"""Iterations that a warp does in one pass. More would save memory traffic and cost registers and overlap."""
THREADS = 192
"""Of a block; six warps, and two such blocks fill a multiprocessor's registers at 168 a thread."""
BLOCKS_A_MULTIPROCESSOR = 2
SPAN = 2 * WARP
"""Columns that a warp holds, two a lane."""
STEP = SPAN - 2 * STAGES
"""Columns from one warp's strip to the next."""
LANES = 16
"""Columns of a field that stand together."""
CONSTANTS = 4
PLANES = 2 * 6 + CONSTANTS + 1
"""Of a block: what varies, twice; what does not; the change of u."""

SHARED_BYTES = THREADS // WARP * STAGES * CONSTANTS * SPAN * 4

OPTIONS = (
    "-std=c++17",
    # What is to be fused says so. Else the compiler's choice would decide the last bit.
    "-fmad=false",
    # Beside moving texture, u falls off to numbers so small that they must not be taken for zero.
    "-ftz=false",
    "-prec-div=true",
    "-prec-sqrt=true",
    f"-DSTAGES={STAGES}",
    f"-DTHREADS={THREADS}",
    f"-DBLOCKS_A_MULTIPROCESSOR={BLOCKS_A_MULTIPROCESSOR}",
)
"""For nvcc and for NVRTC."""

QUANTIZERS = ("symmetric", "mediapipe", "denseflow")
"""In the order in which `tvl1.cu` numbers them, from 1; 0 is float32."""

LARGEST_TAUT = 2.0**25
LEAST = 2.0**-100
"""The square of a length that 1 swallows when taut times that is added to it, if taut is no larger than above: in
float32, 1 + taut sqrt(LEAST) is 1. The kernels need not take the root of anything smaller."""


def supports(parameters: TVL1) -> bool:
    """Whether the kernels give what the CPU gives."""
    return np.float32(parameters.tau / parameters.theta) <= LARGEST_TAUT


class DeviceOutOfMemory(Exception):
    """The GPU has no room for what was asked for; less may do."""


class DeviceFailed(Exception):
    """The GPU, or its driver, does not do what it should; nothing more is to be expected of it."""


class Device(Protocol):
    """A stream of a GPU with the kernels on it. Its arrays are opaque here. Raises the two errors above."""

    def current(self) -> contextlib.AbstractContextManager:
        """In it everything below is done."""

    def resident_blocks(self) -> int:
        """How many blocks of `flow_between` it runs at a time."""

    def upload(self, array: np.ndarray):
        """The same array in the GPU's memory."""

    def empty(self, shape: Sequence[int], dtype):
        """An array in the GPU's memory, with whatever is there."""

    def zeros(self, shape: Sequence[int], dtype):
        """An array of zeros in the GPU's memory."""

    def launch(self, kernel: str, blocks: int, shared_bytes: int, arguments: Sequence) -> None:
        """Starts a kernel in blocks of THREADS; arguments are arrays of this device and NumPy numbers."""

    def download(self, array) -> np.ndarray:
        """The array here, once what was launched before is done."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where things stand in the GPU's memory, for frames of one size."""

    levels: np.ndarray
    """int64 [levels, 4]: height, width, numbers from row to row, where in a pyramid the level begins."""
    pyramid_numbers: int
    """float32, of one frame: each level, and behind it its gradient."""
    field_numbers: int
    """float32, of one block."""

    @property
    def frame_bytes(self) -> int:
        """That a frame takes: itself, its pyramid, and the flow to the next."""
        height, width = map(int, self.levels[0, :2])
        return self.pyramid_numbers * 4 + height * width * (1 + 2 * 4)

    def bytes(self, frames: int, blocks: int) -> int:
        """That so many frames take."""
        return frames * self.frame_bytes + min(blocks, frames - 1) * self.field_numbers * 4

    def frames_within(self, memory_bytes: int, frames: int, blocks: int) -> int:
        """How many frames to take at a time, of so many: all, or halves until they fit; at least two."""
        while frames > 2 and self.bytes(frames, blocks) > memory_bytes:
            frames = frames // 2 + 1
        return frames


def pitch_of(width: int) -> int:
    """Numbers from row to row: what the last strip reaches to, in whole sixteens of columns."""
    strips = 1 + max(0, -(-(width - SPAN) // STEP))
    return -(-((strips - 1) * STEP + SPAN) // LANES) * LANES


def layout_of(height: int, width: int, parameters: TVL1) -> Layout:
    """The layout for frames of this size."""
    levels, at = [], 0
    for level_height, level_width in tvl1.level_sizes(height, width, parameters):
        pitch = pitch_of(level_width)
        levels.append((level_height, level_width, pitch, at))
        at += 3 * level_height * pitch
    # To whole cache lines, so that each frame's and each block's begins at one.
    return Layout(np.array(levels, np.int64), _lines(at), _lines(PLANES * height * pitch_of(width) + height))


def _lines(numbers: int) -> int:
    return -(-numbers // WARP) * WARP


def flow_of(
    device: Device,
    grey: np.ndarray,
    parameters: TVL1,
    layout: Layout,
    quantizer: str | None,
    bound_px: float = BOUND_PX,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The flow from each frame to the next, all at once.

    Args:
      grey: uint8 [T, H, W], T at least two.
      quantizer: a name of `quantize.QUANTIZERS`, or None for px.

    Returns:
      float32 px or uint8 levels [T - 1, H, W, 2]; int32 [T - 1, 2], how many values lie beyond the bound and how
      many are not finite; int64 [T - 1, 2], the iterations and the passes of all pixels.

    Raises:
      DeviceOutOfMemory, DeviceFailed.
    """
    pairs, blocks = len(grey) - 1, min(len(grey) - 1, device.resident_blocks())
    levels = device.upload(layout.levels)
    pyramids = device.empty((len(grey), layout.pyramid_numbers), np.float32)
    numbers, level_count = np.int64(layout.pyramid_numbers), np.int32(len(layout.levels))
    frames = device.upload(np.ascontiguousarray(grey))
    stride = np.float64(1 / parameters.scale_step)
    device.launch("fill_pyramids", len(grey), 0, (frames, pyramids, numbers, levels, level_count, stride))
    fields = device.empty((blocks, layout.field_numbers), np.float32)
    results = device.empty((*grey[1:].shape, 2), np.float32 if quantizer is None else np.uint8)
    counts, work = device.zeros((pairs, 2), np.int32), device.empty((pairs, 2), np.int64)
    device.launch(
        "flow_between",
        blocks,
        SHARED_BYTES,
        (
            *(pyramids, numbers, levels, level_count, fields, np.int64(layout.field_numbers)),
            *(device.zeros((1,), np.int32), np.int32(pairs)),
            *_settings(parameters),
            *(results, *_quantizing(quantizer, bound_px), counts, work),
        ),
    )
    return device.download(results), device.download(counts), device.download(work)


def _settings(parameters: TVL1) -> tuple:
    """As `flow_between` takes them: rounded to float32 where numba_kernels does."""
    return (
        np.float32(parameters.tau),
        np.float32(parameters.tau / parameters.theta),
        np.float32(parameters.lambda_ * parameters.theta),
        np.float32(1 / parameters.scale_step),
        np.float32(LEAST),
        np.float64(parameters.epsilon),
        np.int32(parameters.warps),
        np.int32(parameters.iterations),
    )


def _quantizing(quantizer: str | None, bound_px: float) -> tuple:
    """As `flow_between` takes it: rounded to float32 where quantize.py does."""
    number = 0 if quantizer is None else 1 + QUANTIZERS.index(quantizer)
    return np.int32(number), np.float32(bound_px), np.float32(127 / bound_px), np.float32(2 * bound_px)
