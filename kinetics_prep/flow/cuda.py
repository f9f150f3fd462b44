"""Our own TV-L1 for NVIDIA's GPUs: `cuda_kernels`, as an engine. Who is on which GPU, with how many frames, and
what to do when one fails; `cupy_device` does the rest.
"""

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from kinetics_prep.flow import cuda_kernels
from kinetics_prep.flow.cpu import TVL1CPU, VERSION
from kinetics_prep.flow.cuda_kernels import Device, DeviceFailed, DeviceOutOfMemory, Layout
from kinetics_prep.flow.hardware import ANY_HARDWARE, Flow, GPUFailed, Hardware
from kinetics_prep.flow.parameters import TVL1
from kinetics_prep.media.quantize import BOUND_PX

_LOG = logging.getLogger(__name__)

CLIPS_AT_A_TIME = 3
"""On a GPU: the pairs of one fill the multiprocessors that the last of another leave idle, while a third is copied."""


class Opened(Protocol):
    """A GPU that is ready, its kernels compiled."""

    memory_bytes: int
    """That we may use."""

    def stream(self) -> Device:
        """What is done in different ones overlaps."""


class GPU:
    """One GPU: who uses it, how many frames it takes at a time, and whether it still works."""

    def __init__(self, name: str, open: Callable[[], Opened]):
        self.name = name
        self.failed: str | None = None
        """Why nothing more is to be expected of it."""
        self.clips = 0
        """That wait for it or are on it."""
        self._open, self._opened = open, None
        self._opening = threading.Lock()
        self._places = threading.Semaphore(CLIPS_AT_A_TIME)
        self._idle: list[Device] = []
        self._most_frames: dict[int, int] = {}

    @contextlib.contextmanager
    def lent(self) -> Iterator[Device]:
        """A stream of it, when there is a place.

        Raises:
          DeviceFailed: if it cannot be used; those who waited meanwhile need not find out by themselves.
        """
        with self._places:
            with self._opening:
                if self.failed is None and self._opened is None:
                    self._opened = self._tried()
                if self.failed is not None:
                    raise DeviceFailed(self.failed)
                stream = self._idle.pop() if self._idle else self._opened.stream()
            try:
                with stream.current():
                    yield stream
            finally:
                self._idle.append(stream)

    def _tried(self) -> Opened | None:
        """Opens it and has it compute a test picture; None, and why in `failed`, if anything goes wrong with that."""
        try:
            opened = self._open()
            _expect_flow_of_cpu(opened.stream())
            return opened
        except Exception as error:  # of drivers and compilers, whatever they are; the CPU can do without them
            self.fail(str(error) if isinstance(error, DeviceFailed) else f"{type(error).__name__}: {error}")

    def fail(self, why: str) -> None:
        """From now on nobody is lent it."""
        if self.failed is None:
            _LOG.error("%s failed, the run goes on without it: %s", self.name, why)
            self.failed = why

    def frames_at_a_time(self, device: Device, layout: Layout, frames: int) -> int:
        """Of so many: as many as fit in a clip's share of the memory, and have fitted so far."""
        frames = min(frames, self._most_frames.get(layout.frame_bytes, frames))
        share = self._opened.memory_bytes // CLIPS_AT_A_TIME
        return layout.frames_within(share, frames, device.resident_blocks())

    def take_less(self, layout: Layout, frames: int) -> bool:
        """From now on, after so many frames of this size did not fit. False if it cannot be less."""
        most = self._most_frames.get(layout.frame_bytes, frames)
        self._most_frames[layout.frame_bytes] = min(most, frames // 2 + 1)
        return frames > 2


def _expect_flow_of_cpu(device: Device) -> None:
    """Computes a small flow on the GPU and on the CPU, before anything is left to the GPU.

    A processor that is broken, a driver or a compiler with a fault would else show in a model's accuracy, if at all.

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
            found, _, _ = cuda_kernels.flow_of(device, grey, parameters, layout, None)
        (expected,) = TVL1CPU().flows(grey, parameters)
        if found[0].tobytes() != expected.tobytes():
            share = np.mean((found[0] != expected).any(axis=-1))
            raise DeviceFailed(f"its flow of a test picture is not the CPU's: {share:.1%} of the pixels differ")


class TVL1CUDA:
    """`cuda::OpticalFlowDual_TVL1` in float32: all pairs of a clip at once, several clips at a time, on every GPU.

    The flow is that of the engine `tvl1`, bit for bit, on whatever GPU and in whatever portions.
    """

    RUNS_ON_GPU = True
    GIVES = "tvl1"

    def __init__(self, hardware: Hardware = ANY_HARDWARE, gpus: Sequence[GPU] | None = None):
        self._gpus = _gpus_of(hardware) if gpus is None else gpus
        self._lock = threading.Lock()
        self._layout_of = functools.lru_cache(maxsize=64)(cuda_kernels.layout_of)

    @staticmethod
    def usable() -> str | None:
        from kinetics_prep.flow import cupy_device

        return cupy_device.missing() or TVL1CPU.usable() or _unlike()

    @staticmethod
    def version() -> str:
        return f"version {VERSION}"

    def flows(self, grey: np.ndarray, tvl1: TVL1) -> Iterator[np.ndarray]:
        for field, _ in self._computed(grey, tvl1, None, BOUND_PX, []):
            yield field

    def quantized(
        self, grey: np.ndarray, tvl1: TVL1, quantizer: str, bound_px: float, notes: list[str]
    ) -> Iterator[Flow]:
        """See `hardware.Quantizes`."""
        return self._computed(grey, tvl1, quantizer, bound_px, notes)

    def _computed(self, grey, tvl1, quantizer, bound_px, notes) -> Iterator[Flow]:
        if grey.ndim != 3 or grey.dtype != np.uint8:
            raise ValueError(f"grey must be uint8 [T, H, W], got {grey.dtype} {list(grey.shape)}")
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

    def _portion(self, grey, tvl1, layout, quantizer, bound_px, notes) -> tuple[np.ndarray, np.ndarray]:
        """The flow between as many of the frames as some GPU takes at a time, and what `flow_of` counts."""
        while True:
            frames, gpu = len(grey), self._least_busy()
            try:
                with gpu.lent() as device:
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

    def _least_busy(self) -> GPU:
        with self._lock:
            alive = [gpu for gpu in self._gpus if gpu.failed is None]
            if not alive:
                raise GPUFailed("; ".join(f"{gpu.name} failed: {gpu.failed}" for gpu in self._gpus))
            gpu = min(alive, key=lambda gpu: gpu.clips)
            gpu.clips += 1
            return gpu


def _unlike() -> str | None:
    from kinetics_prep.flow import simd

    return None if simd.FUSED else "this CPU cannot multiply and add in one step, so its flow is not the GPU's"


def _gpus_of(hardware: Hardware) -> list[GPU]:
    from kinetics_prep.flow import cupy_device

    def opener(index: int) -> Callable[[], Opened]:
        return lambda: cupy_device.CuPyGPU(index, hardware.gpu_memory_bytes)

    return [GPU(f"GPU {index}", opener(index)) for index in hardware.chosen(cupy_device.count())]
