"""Our own TV-L1 for the CPU: `numba_kernels`, as an engine."""

import collections
import os
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

    RUNS_ON_GPU = False
    GIVES = "tvl1"

    def __init__(self):
        # A deque, whose single steps need no lock: the garbage collector may end a clip in the midst of another's.
        self._idle = collections.deque(maxlen=os.cpu_count())

    @staticmethod
    def usable() -> str | None:
        try:
            import numba
        except (ImportError, OSError) as error:  # it is not there, or does not go with this NumPy or this system
            return f"{error}; pip install numba"
        if numba.config.DISABLE_JIT:
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
            self._idle.appendleft(workspace)

    def _workspace(self, height: int, width: int, tvl1: TVL1):
        """One that nobody else has, left by an earlier caller if its frames had the same size."""
        from kinetics_prep.flow.numba_kernels import Workspace

        others = []
        try:
            while (workspace := self._idle.popleft()).key != (height, width, tvl1):
                others.append(workspace)
        except IndexError:
            workspace = Workspace(height, width, tvl1)
        self._idle.extend(others)
        return workspace
