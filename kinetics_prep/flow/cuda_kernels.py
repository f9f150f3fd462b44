"""The host's side of `tvl1.cu`, the kernels of TV-L1 for CUDA: compiler options, memory layout, launches.

Independent of CuPy: a `Device` stands for the GPU.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from importlib import resources
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from kinetics_prep.flow import tvl1
from kinetics_prep.flow.parameters import TVL1
from kinetics_prep.media.quantize import BOUND_PX

SOURCE = resources.files("kinetics_prep.flow").joinpath("tvl1.cu")
KERNELS = ("fill_pyramids", "flow_between")

WARP = 32
STAGES = 8
"""Iterations that a warp does in one pass. More would save memory traffic, but cost registers and overlap."""
THREADS = 192
"""Of a block: six warps. Two such blocks fill a multiprocessor's registers, at 168 per thread."""
BLOCKS_A_MULTIPROCESSOR = 2
SPAN = 2 * WARP
"""Columns that a warp holds, two per lane."""
STEP = SPAN - 2 * STAGES
"""Columns from one warp's strip to the next."""
LANES = 16
"""Columns of a field that stand together."""
CONSTANTS = 4
PLANES = 2 * 6 + CONSTANTS + 1
"""Of a block: its six variables, twice; its constants; the change of u."""

SHARED_BYTES = THREADS // WARP * STAGES * CONSTANTS * SPAN * 4

OPTIONS = (
    "-std=c++17",
    # The source says where to fuse. Otherwise the compiler's choice would decide the last bit.
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
"""The square of a length that is lost in rounding: in float32, 1 + taut * sqrt(LEAST) is 1, for every taut up to
LARGEST_TAUT. So the kernels need not take the root of anything smaller."""


def supports(parameters: TVL1) -> bool:
    """Whether the kernels give the CPU's flow for these parameters."""
    return bool(np.float32(parameters.tau / parameters.theta) <= LARGEST_TAUT)


class DeviceOutOfMemory(Exception):
    """The GPU has no room for the requested arrays; a smaller request may succeed."""


class DeviceFailed(Exception):
    """The GPU or its driver does not work as it should, and is not used again."""


DeviceArray: TypeAlias = object
"""An array in a GPU's memory: only its `Device` knows what that is."""


class Device(Protocol):
    """A stream of a GPU with the kernels loaded. Its methods raise DeviceOutOfMemory and DeviceFailed."""

    def current(self) -> contextlib.AbstractContextManager[None]:
        """A context in which the methods below must be called."""

    def resident_blocks(self) -> int:
        """How many blocks of `flow_between` the GPU runs at a time."""

    def upload(self, array: np.ndarray) -> DeviceArray:
        """Copies an array into the GPU's memory."""

    def empty(self, shape: Sequence[int], dtype: DTypeLike) -> DeviceArray:
        """Makes an array in the GPU's memory, with undefined values."""

    def zeros(self, shape: Sequence[int], dtype: DTypeLike) -> DeviceArray:
        """Makes an array of zeros in the GPU's memory."""

    def launch(self, kernel: str, blocks: int, shared_bytes: int, arguments: Sequence[object]) -> None:
        """Starts a kernel in blocks of THREADS; arguments are arrays of this device and NumPy numbers."""

    def download(self, array: DeviceArray) -> np.ndarray:
        """Waits for the launches before and copies an array out of the GPU's memory."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where pyramids and fields lie in the GPU's memory, for frames of one size."""

    levels: np.ndarray
    """int64 [levels, 4]: height, width, row pitch, and offset of the level in a pyramid; the last two in numbers."""
    pyramid_numbers: int
    """How many float32 a frame's pyramid takes: each level, followed by its gradient."""
    field_numbers: int
    """How many float32 the fields of one block take."""

    @property
    def frame_bytes(self) -> int:
        """What a frame takes: itself, its pyramid, and the flow to the next."""
        height, width = map(int, self.levels[0, :2])
        return self.pyramid_numbers * 4 + height * width * (1 + 2 * 4)

    def bytes(self, frames: int, blocks: int) -> int:
        """What so many frames take, computed by so many blocks."""
        return frames * self.frame_bytes + min(blocks, frames - 1) * self.field_numbers * 4

    def frames_within(self, memory_bytes: int, frames: int, blocks: int) -> int:
        """Returns how many of `frames` to take at a time: all, or about half until they fit; at least two."""
        while frames > 2 and self.bytes(frames, blocks) > memory_bytes:
            frames = frames // 2 + 1
        return frames


def pitch_of(width: int) -> int:
    """Returns the numbers from row to row: the end of the last strip, rounded up to a multiple of LANES."""
    strips = 1 + max(0, -(-(width - SPAN) // STEP))
    return -(-((strips - 1) * STEP + SPAN) // LANES) * LANES


def layout_of(height: int, width: int, parameters: TVL1) -> Layout:
    """The layout for frames of this size."""
    levels, offset = [], 0
    for level_height, level_width in tvl1.level_sizes(height, width, parameters):
        pitch = pitch_of(level_width)
        levels.append((level_height, level_width, pitch, offset))
        offset += 3 * level_height * pitch
    # Rounded up to whole cache lines, so that each frame's pyramid and each block's fields begin on a cache line.
    return Layout(
        np.array(levels, np.int64), _whole_lines(offset), _whole_lines(PLANES * height * pitch_of(width) + height)
    )


def _whole_lines(numbers: int) -> int:
    return -(-numbers // WARP) * WARP


def flow_of(
    device: Device,
    grey: np.ndarray,
    parameters: TVL1,
    layout: Layout,
    quantizer: str | None,
    bound_px: float = BOUND_PX,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Computes the flow from each frame to the next, all pairs at once.

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


def _settings(parameters: TVL1) -> tuple[np.generic, ...]:
    """The parameters as arguments of `flow_between`, rounded to float32 where numba_kernels does."""
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


def _quantizing(quantizer: str | None, bound_px: float) -> tuple[np.generic, ...]:
    """The quantizer as arguments of `flow_between`, rounded to float32 where media/quantize.py does."""
    number = 0 if quantizer is None else 1 + QUANTIZERS.index(quantizer)
    return np.int32(number), np.float32(bound_px), np.float32(127 / bound_px), np.float32(2 * bound_px)
