"""OpenCV's TV-L1: the CPU class of opencv_contrib, and the CUDA class where OpenCV was built with it."""

import itertools
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from kinetics_prep.flow.flow_engine import GPUFailed
from kinetics_prep.flow.hardware import ANY_HARDWARE, Hardware
from kinetics_prep.flow.parameters import TVL1

# The CPU class runs outer x inner iterations, and median filters the flow between outer ones. The CUDA class has
# neither filter nor outer loop. So: one outer iteration, and a filter of size 1, which changes nothing.
_OUTER_ITERATIONS = 1
_NO_MEDIAN = 1


def _cv2() -> Any:
    """OpenCV, imported at first use. Its type hints lack both classes, so it is Any here."""
    import cv2

    return cv2


def _import_error() -> str | None:
    """Returns why OpenCV cannot be imported, with a remedy; None if it can."""
    try:
        _cv2()
    except (ImportError, OSError) as error:  # not installed, or it does not fit this NumPy or this system
        return f"{error}; pip install opencv-contrib-python-headless"
    return None


class OpenCVCPU:
    """`cv2.optflow.DualTVL1OpticalFlow` with the CUDA class's parameters."""

    RUNS_ON_GPU: ClassVar[bool] = False
    GIVES: ClassVar[str] = "opencv-cpu"

    def __init__(self, hardware: Hardware = ANY_HARDWARE) -> None:
        pass

    @staticmethod
    def usable() -> str | None:
        if error := _import_error():
            return error
        if not hasattr(_cv2(), "optflow"):
            return "this OpenCV has no optflow module; install opencv-contrib-python-headless"
        return None

    @staticmethod
    def version() -> str:
        return f"opencv {_cv2().__version__}"

    def flows(self, grey: np.ndarray, tvl1: TVL1) -> Iterator[np.ndarray]:
        # One for each caller: the solver keeps its buffers between calls.
        solver = _cv2().optflow.DualTVL1OpticalFlow_create(
            **_shared(tvl1),
            innnerIterations=tvl1.iterations,  # sic
            outerIterations=_OUTER_ITERATIONS,
            medianFiltering=_NO_MEDIAN,
        )
        for previous, following in itertools.pairwise(grey):
            yield solver.calc(previous, following, None)


class OpenCVCUDA:
    """`cv2.cuda.OpticalFlowDual_TVL1`, the class DeepMind names. Each frame is uploaded once.

    PyPI's OpenCV lacks it; `pipelines/opencv_cuda/build_wheel.py` builds an OpenCV that has it.
    """

    RUNS_ON_GPU: ClassVar[bool] = True
    GIVES: ClassVar[str] = "opencv-cuda"

    def __init__(self, hardware: Hardware = ANY_HARDWARE) -> None:
        # The class is not made for several threads: a GPU computes one pair of frames at a time.
        indices = hardware.gpu_indices(_cv2().cuda.getCudaEnabledDeviceCount())
        self._locks = {index: threading.Lock() for index in indices}
        self._turns = itertools.cycle(self._locks)

    @staticmethod
    def usable() -> str | None:
        if error := _import_error():
            return error
        cv2 = _cv2()
        if not hasattr(cv2, "cuda") or not hasattr(cv2.cuda, "OpticalFlowDual_TVL1_create"):
            return "this OpenCV was built without CUDA's optical flow; see pipelines/opencv_cuda"
        if cv2.cuda.getCudaEnabledDeviceCount() < 1:
            return "OpenCV sees no GPU"
        return None

    @staticmethod
    def version() -> str:
        return f"opencv-cuda {_cv2().__version__}"

    def flows(self, grey: np.ndarray, tvl1: TVL1) -> Iterator[np.ndarray]:
        cv2, index = _cv2(), next(self._turns)
        try:
            with self._locks[index]:
                cv2.cuda.setDevice(index)
                solver = cv2.cuda.OpticalFlowDual_TVL1_create(**_shared(tvl1), iterations=tvl1.iterations)
                previous = _uploaded(grey[0])
            for frame in grey[1:]:
                with self._locks[index]:
                    # CUDA keeps the device per thread, and each step of a generator may run in another thread.
                    cv2.cuda.setDevice(index)
                    following = _uploaded(frame)
                    field = solver.calc(previous, following, None).download()
                yield field
                previous = following
        except cv2.error as error:
            raise GPUFailed(f"GPU {index} failed: {error}") from None


def _shared(tvl1: TVL1) -> dict[str, float]:
    """The parameters that both classes have, under the names they give them."""
    return {
        "tau": tvl1.tau,
        "lambda_": tvl1.lambda_,
        "theta": tvl1.theta,
        "nscales": tvl1.scales,
        "warps": tvl1.warps,
        "epsilon": tvl1.epsilon,
        "scaleStep": tvl1.scale_step,
    }


def _uploaded(frame: np.ndarray) -> Any:
    """A frame in the memory of the current GPU."""
    image = _cv2().cuda.GpuMat()
    image.upload(frame)
    return image
