"""Our own TV-L1 for the CPU: `numba_kernels`, as an engine."""

import collections
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kinetics_prep.flow.hardware import ANY_HARDWARE, Hardware
from kinetics_prep.flow.parameters import TVL1

if TYPE_CHECKING:
    from kinetics_prep.flow.numba_kernels import Workspace

VERSION = 1
"""Goes up whenever the same frames and parameters give another flow."""


class TVL1CPU:
    """`cuda::OpticalFlowDual_TVL1` in float32, optimised for one core. Its first use compiles for some seconds.

    The flow depends on the frames and the parameters alone: not on the machine, the threads, or what was computed
    before. Processors older than 2013 are an exception, because they cannot multiply and add in one step; `version`
    says so.
    """

    RUNS_ON_GPU: ClassVar[bool] = False
    GIVES: ClassVar[str] = "tvl1"

    def __init__(self, hardware: Hardware = ANY_HARDWARE) -> None:
        # A deque, because its single operations need no lock: the garbage collector may close one clip's generator
        # in the middle of another's operation.
        self._idle: collections.deque[Workspace] = collections.deque(maxlen=os.cpu_count())

    @staticmethod
    def usable() -> str | None:
        try:
            import numba
        except (ImportError, OSError) as error:  # not installed, or it does not fit this NumPy or this system
            return f"{error}; pip install numba"
        config: Any = numba.config  # its settings are set at run time
        return "NUMBA_DISABLE_JIT is set" if config.DISABLE_JIT else None

    @staticmethod
    def version() -> str:
        from kinetics_prep.flow import simd  # here, because Numba takes a second to import

        return f"version {VERSION}" + ("" if simd.FUSED else " without fma")

    def flows(self, grey: np.ndarray, tvl1: TVL1) -> Iterator[np.ndarray]:
        expect_grey(grey)
        workspace = self._take_workspace(grey.shape[1], grey.shape[2], tvl1)
        try:
            for k, frame in enumerate(grey):
                workspace.add(np.ascontiguousarray(frame))
                if k > 0:
                    yield workspace.flow()[0]
        finally:
            self._idle.appendleft(workspace)

    def _take_workspace(self, height: int, width: int, tvl1: TVL1) -> "Workspace":
        """Returns a workspace that no other caller has: an idle one for frames of this size, else a new one."""
        from kinetics_prep.flow.numba_kernels import Workspace

        others = []
        try:
            while (workspace := self._idle.popleft()).key != (height, width, tvl1):
                others.append(workspace)
        except IndexError:
            workspace = Workspace(height, width, tvl1)
        self._idle.extend(others)
        return workspace


def expect_grey(grey: np.ndarray) -> None:
    """Raises ValueError unless `grey` is uint8 [T, H, W]."""
    if grey.ndim != 3 or grey.dtype != np.uint8:
        raise ValueError(f"grey must be uint8 [T, H, W], got {grey.dtype} {list(grey.shape)}")
