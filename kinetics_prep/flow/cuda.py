"""Our own TV-L1 for NVIDIA's GPUs: `cuda_kernels`, as an engine.

This file decides which clip runs on which GPU, with how many frames at a time, and what to do when a GPU fails;
`cupy_device` does the rest.
"""

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Protocol

import numpy as np

from kinetics_prep.flow import cuda_kernels
from kinetics_prep.flow.cpu import TVL1CPU, VERSION, expect_grey
from kinetics_prep.flow.cuda_kernels import Device, DeviceFailed, DeviceOutOfMemory, Layout
from kinetics_prep.flow.flow_engine import GPUFailed, QuantizedField
from kinetics_prep.flow.hardware import ANY_HARDWARE, Hardware
from kinetics_prep.flow.parameters import TVL1
from kinetics_prep.media.quantize import BOUND_PX

_LOG = logging.getLogger(__name__)

CLIPS_AT_A_TIME = 3
"""On a GPU: the pairs of one clip use the multiprocessors that the last pairs of another leave idle, while a third
clip is copied."""


class OpenGPU(Protocol):
    """A GPU that is ready, its kernels compiled."""

    memory_bytes: int
    """How much of its memory we may use."""

    def stream(self) -> Device:
        """Makes a stream. Work in different streams overlaps."""


class GPU:
    """One GPU: which clips use it, how many frames it takes at a time, and whether it still works."""

    def __init__(self, name: str, open: Callable[[], OpenGPU]) -> None:
        self.name = name
        self.failed: str | None = None
        """Why it is no longer used; None while it works."""
        self.clips = 0
        """How many clips wait for it or are on it."""
        self._open = open
        self._opened: OpenGPU | None = None
        self._opening = threading.Lock()
        self._places = threading.Semaphore(CLIPS_AT_A_TIME)
        self._idle: list[Device] = []
        self._clip_bytes = 0
        """A clip's share of its memory; known once it is open."""
        self._most_frames: dict[int, int] = {}
        """How many frames fit at a time, by their size in bytes, where memory has run out before."""

    @contextlib.contextmanager
    def borrowed_stream(self) -> Iterator[Device]:
        """Waits for a place on the GPU and yields a stream of it. The first call opens and tests the GPU.

        Raises:
          DeviceFailed: if the GPU cannot be used. Callers that were waiting get the same error without a new attempt.
        """
        with self._places:
            stream = self._take_stream()
            try:
                with stream.current():
                    yield stream
            finally:
                self._idle.append(stream)

    def _take_stream(self) -> Device:
        with self._opening:
            if self.failed is None and self._opened is None:
                self._open_and_test()
            if self.failed is not None or self._opened is None:
                raise DeviceFailed(self.failed)
            return self._idle.pop() if self._idle else self._opened.stream()

    def _open_and_test(self) -> None:
        """Opens the GPU and lets it compute a test picture; if anything goes wrong, the GPU has failed."""
        try:
            opened = self._open()
            _expect_flow_of_cpu(opened.stream())
            self._clip_bytes = opened.memory_bytes // CLIPS_AT_A_TIME
            self._opened = opened
        except Exception as error:  # drivers and compilers can raise anything; the CPU can do without them
            self.fail(str(error) if isinstance(error, DeviceFailed) else f"{type(error).__name__}: {error}")

    def fail(self, why: str) -> None:
        """Marks the GPU as failed: from now on no clip gets it."""
        if self.failed is None:
            _LOG.error("%s failed, the run goes on without it: %s", self.name, why)
            self.failed = why

    def frames_at_a_time(self, device: Device, layout: Layout, frames: int) -> int:
        """Returns how many of a clip's frames to compute at a time: as many as fit in a clip's share of the memory,
        and no more than have fitted so far."""
        frames = min(frames, self._most_frames.get(layout.frame_bytes, frames))
        return layout.frames_within(self._clip_bytes, frames, device.resident_blocks())

    def take_less(self, layout: Layout, frames: int) -> bool:
        """Halves how many frames of this size are computed at a time, because so many did not fit.

        Returns:
          False if there were only two, the least that has a flow.
        """
        most = self._most_frames.get(layout.frame_bytes, frames)
        self._most_frames[layout.frame_bytes] = min(most, frames // 2 + 1)
        return frames > 2


def _expect_flow_of_cpu(device: Device) -> None:
    """Computes a small flow on the GPU and on the CPU, before any clip is left to the GPU.

    Otherwise a broken processor, or a fault in a driver or a compiler, would show in a model's accuracy, if at all.

    Raises:
      DeviceFailed: if they differ by a bit.
    """
    # Texture that moves, three strips wide, beside a flat place, where u falls off to the smallest numbers there are.
    texture = np.kron(np.random.default_rng(0).integers(0, 256, (10, 9), np.uint8), np.ones((2, 2), np.uint8))
    grey = np.zeros((2, 20, 130), np.uint8)
    grey[0, :, 2:20], grey[1, :, 3:21] = texture, texture
    for parameters in (TVL1(scales=1, warps=1, iterations=80, epsilon=1e-6), TVL1(scales=2, warps=2, iterations=12)):
        layout = cuda_kernels.layout_of(*grey.shape[1:], parameters)
        with device.current():
            fields, _, _ = cuda_kernels.flow_of(device, grey, parameters, layout, None)
        (expected,) = TVL1CPU().flows(grey, parameters)
        if fields[0].tobytes() != expected.tobytes():
            share = np.mean((fields[0] != expected).any(axis=-1))
            raise DeviceFailed(f"its flow of a test picture is not the CPU's: {share:.1%} of the pixels differ")


class TVL1CUDA:
    """`cuda::OpticalFlowDual_TVL1` in float32: all pairs of a clip at once, several clips at a time, on every GPU.

    The flow is that of the engine `tvl1`, bit for bit, on any GPU and however a clip is divided.
    """

    RUNS_ON_GPU: ClassVar[bool] = True
    GIVES: ClassVar[str] = "tvl1"

    def __init__(self, hardware: Hardware = ANY_HARDWARE, gpus: Sequence[GPU] | None = None) -> None:
        self._gpus = _gpus_of(hardware) if gpus is None else gpus
        self._lock = threading.Lock()
        self._layout_of = functools.lru_cache(maxsize=64)(cuda_kernels.layout_of)

    @staticmethod
    def usable() -> str | None:
        from kinetics_prep.flow import cupy_device

        return cupy_device.missing() or TVL1CPU.usable() or _cpu_difference()

    @staticmethod
    def version() -> str:
        return f"version {VERSION}"

    def flows(self, grey: np.ndarray, tvl1: TVL1) -> Iterator[np.ndarray]:
        for field, _ in self._fields(grey, tvl1, None, BOUND_PX, []):
            yield field

    def quantized(
        self, grey: np.ndarray, tvl1: TVL1, quantizer: str, bound_px: float, notes: list[str]
    ) -> Iterator[QuantizedField]:
        """See `flow_engine.QuantizingEngine`."""
        for levels, saturated in self._fields(grey, tvl1, quantizer, bound_px, notes):
            yield QuantizedField(levels, saturated)

    def _fields(
        self, grey: np.ndarray, tvl1: TVL1, quantizer: str | None, bound_px: float, notes: list[str]
    ) -> Iterator[tuple[np.ndarray, int]]:
        """Yields each flow, in levels or, without a quantizer, in pixels; and how many values lie beyond the bound."""
        expect_grey(grey)
        if not cuda_kernels.supports(tvl1):
            raise GPUFailed(f"tvl1-cuda takes tau / theta up to {cuda_kernels.LARGEST_TAUT:g}")
        layout, first = self._layout_of(*grey.shape[1:], tvl1), 0
        while first < len(grey) - 1:
            results, counts = self._portion(grey[first:], tvl1, layout, quantizer, bound_px, notes)
            for result, (beyond, not_finite) in zip(results, counts):
                if not_finite and quantizer is not None:
                    raise ValueError("flow holds values that are not finite")
                yield result, int(beyond)
            first += len(results)

    def _portion(
        self, grey: np.ndarray, tvl1: TVL1, layout: Layout, quantizer: str | None, bound_px: float, notes: list[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The flow between the first frames, as many as a GPU takes at a time; and what `flow_of` counts.

        Raises:
          GPUFailed: if no GPU is left, or none has room for two frames.
        """
        while True:
            frames, gpu = len(grey), self._take_least_busy()
            try:
                with gpu.borrowed_stream() as device:
                    frames = gpu.frames_at_a_time(device, layout, frames)
                    results, counts, _ = cuda_kernels.flow_of(device, grey[:frames], tvl1, layout, quantizer, bound_px)
                    return results, counts
            except DeviceOutOfMemory as error:
                if not gpu.take_less(layout, frames):
                    raise GPUFailed(f"{gpu.name} has no room for two frames of this size: {error}") from None
                notes.append(f"{gpu.name} had no room for {frames} frames at a time")
            except DeviceFailed as error:
                gpu.fail(str(error))
                notes.append(f"{gpu.name} failed: {error}")
            finally:
                with self._lock:
                    gpu.clips -= 1

    def _take_least_busy(self) -> GPU:
        """Returns the working GPU with the fewest clips, and counts a clip more for it."""
        with self._lock:
            working = [gpu for gpu in self._gpus if gpu.failed is None]
            if not working:
                raise GPUFailed("; ".join(f"{gpu.name} failed: {gpu.failed}" for gpu in self._gpus))
            gpu = min(working, key=lambda gpu: gpu.clips)
            gpu.clips += 1
            return gpu


def _cpu_difference() -> str | None:
    """Says why this machine's CPU would not give the GPU's flow; None if it does."""
    from kinetics_prep.flow import simd

    return None if simd.FUSED else "this CPU cannot multiply and add in one step, so its flow is not the GPU's"


def _gpus_of(hardware: Hardware) -> list[GPU]:
    from kinetics_prep.flow import cupy_device

    def opener(index: int) -> Callable[[], OpenGPU]:
        return lambda: cupy_device.CuPyGPU(index, hardware.gpu_memory_bytes)

    return [GPU(f"GPU {index}", opener(index)) for index in hardware.gpu_indices(cupy_device.count())]
