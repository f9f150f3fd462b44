"""OpenCV's TV-L1: the CPU class of opencv_contrib, and the CUDA class where OpenCV was built with it."""

import itertools
import threading
from collections.abc import Iterator

import cv2
import numpy as np

from kinetics_prep.flow.hardware import ANY_HARDWARE, GPUFailed, Hardware
from kinetics_prep.flow.parameters import TVL1

# The CPU class runs outer x inner iterations and median filters the flow between outer ones. The
# CUDA class knows no filter and no outer loop: one outer loop, and a filter of size 1, which is none.
_OUTER_ITERATIONS = 1
_NO_MEDIAN = 1


class OpenCVCPU:
    """`cv2.optflow.DualTVL1OpticalFlow` with the CUDA class's parameters."""

    RUNS_ON_GPU = False
    GIVES = "opencv-cpu"

    @staticmethod
    def usable() -> str | None:
        if not hasattr(cv2, "optflow"):
            return "this OpenCV has no optflow module; install opencv-contrib-python-headless"
        return None

    @staticmethod
    def version() -> str:
        return f"opencv {cv2.__version__}"

    def flows(self, grey: np.ndarray, tvl1: TVL1) -> Iterator[np.ndarray]:
        # The object keeps its buffers between calls, so it belongs to one caller.
        solver = cv2.optflow.DualTVL1OpticalFlow_create(
            **_shared(tvl1),
            innnerIterations=tvl1.iterations,  # sic
            outerIterations=_OUTER_ITERATIONS,
            medianFiltering=_NO_MEDIAN,
        )
        for previous, following in itertools.pairwise(grey):
            yield solver.calc(previous, following, None)


class OpenCVCUDA:
    """`cv2.cuda.OpticalFlowDual_TVL1`, the class DeepMind names. Each frame is uploaded once.

    PyPI's OpenCV does not have it; `pipelines/opencv_cuda/build_wheel.py` makes one that does.
    """

    RUNS_ON_GPU = True
    GIVES = "opencv-cuda"

    def __init__(self, hardware: Hardware = ANY_HARDWARE):
        # The class is not made for several threads: a GPU computes one pair at a time.
        self._locks = {index: threading.Lock() for index in hardware.chosen(cv2.cuda.getCudaEnabledDeviceCount())}
        self._turns = itertools.cycle(self._locks)

    @staticmethod
    def usable() -> str | None:
        if not hasattr(cv2, "cuda") or not hasattr(cv2.cuda, "OpticalFlowDual_TVL1_create"):
            return "this OpenCV was built without CUDA's optical flow; see pipelines/opencv_cuda"
        if cv2.cuda.getCudaEnabledDeviceCount() < 1:
            return "OpenCV sees no GPU"
        return None

    @staticmethod
    def version() -> str:
        return f"opencv-cuda {cv2.__version__}"

    def flows(self, grey: np.ndarray, tvl1: TVL1) -> Iterator[np.ndarray]:
        index = next(self._turns)
        try:
            with self._locks[index]:
                cv2.cuda.setDevice(index)
                solver = cv2.cuda.OpticalFlowDual_TVL1_create(**_shared(tvl1), iterations=tvl1.iterations)
                previous = _uploaded(grey[0])
            for frame in grey[1:]:
                with self._locks[index]:
                    cv2.cuda.setDevice(index)  # of this thread, which may be another for each step of the generator
                    following = _uploaded(frame)
                    field = solver.calc(previous, following, None).download()
                yield field
                previous = following
        except cv2.error as error:
            raise GPUFailed(f"GPU {index} failed: {error}") from None


def _shared(tvl1: TVL1) -> dict:
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


def _uploaded(frame: np.ndarray):
    image = cv2.cuda.GpuMat()
    image.upload(frame)
    return image
