"""Our own TV-L1 for the CPU: `numba_kernels`, as an engine."""

import os
import threading
from collections.abc import Iterator

import numpy as np

from kinetics_prep.flow.parameters import TVL1

VERSION = 1
"""Goes up whenever the same frames and parameters give another flow."""


class TVL1CPU:
    """`cuda::OpticalFlowDual_TVL1` in float32, as fast as one core goes. Compiles for some seconds at its first use.

    Flow depends on the frames and the parameters alone: not on the machine, the threads, or what was
    computed before. (Except on processors that cannot multiply and add in one step, older than 2013;
    `version` tells.)
    """

    def __init__(self):
        self._idle, self._lock = [], threading.Lock()

    @staticmethod
    def usable() -> str | None:
        try:
            import numba  # noqa: F401
        except ImportError as error:  # it is not there, or does not go with this NumPy
            return f"{error}; pip install numba"
        if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
            return "NUMBA_DISABLE_JIT is set"
        return None

    @staticmethod
    def version() -> str:
        from kinetics_prep.flow import simd  # Numba takes a second to import: not for those who only ask for --help

        return f"version {VERSION}" + ("" if simd.FUSED else " without fma")

    def flows(self, grey: np.ndarray, tvl1: TVL1) -> Iterator[np.ndarray]:
        if grey.ndim != 3 or grey.dtype != np.uint8:
            raise ValueError(f"grey must be uint8 [T, H, W], got {grey.dtype} {list(grey.shape)}")
        workspace = self._workspace(*grey.shape[1:], tvl1)
        try:
            for k, frame in enumerate(grey):
                workspace.add(np.ascontiguousarray(frame))
                if k > 0:
                    yield workspace.flow()[0]
        finally:
            with self._lock:
                self._idle = [workspace, *self._idle][: os.cpu_count()]

    def _workspace(self, height: int, width: int, tvl1: TVL1):
        """One that nobody else has, left by an earlier caller if its frames had the same size."""
        from kinetics_prep.flow.numba_kernels import Workspace

        with self._lock:
            for k, workspace in enumerate(self._idle):
                if workspace.key == (height, width, tvl1):
                    return self._idle.pop(k)
        return Workspace(height, width, tvl1)
