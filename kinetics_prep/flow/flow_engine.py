"""What a flow engine is: the protocols that the classes in `flow.ENGINES` follow."""

from collections.abc import Iterator
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np

from kinetics_prep.flow.hardware import ANY_HARDWARE, Hardware
from kinetics_prep.flow.parameters import TVL1


class GPUFailed(Exception):
    """No GPU can compute a flow, or continue with it; the message says why."""


class QuantizedField(NamedTuple):
    """The flow from a frame to the next, as levels of a quantizer."""

    levels: np.ndarray
    """uint8 [H, W, 2], (dx, dy)."""
    saturated: int
    """How many of its values lie beyond the quantizer's bound."""


@runtime_checkable
class FlowEngine(Protocol):
    """Computes flow, from several threads at the same time."""

    GIVES: ClassVar[str]
    """The name of the engine whose flow it gives, bit for bit; usually its own. Two engines that give the same flow
    may work on the same data set in turn."""
    RUNS_ON_GPU: ClassVar[bool]
    """Whether it obeys its `Hardware`. If so, `flows` may raise `GPUFailed` in the middle of a clip."""

    def __init__(self, hardware: Hardware = ANY_HARDWARE) -> None: ...

    @staticmethod
    def usable() -> str | None:
        """Returns None where the engine can run, else what is missing, in words."""

    @staticmethod
    def version() -> str:
        """Returns what a data set records about the engine, because it can change the bytes."""

    def flows(self, grey: np.ndarray, tvl1: TVL1) -> Iterator[np.ndarray]:
        """Yields the flow from each frame to the next, one at a time, so that memory need not hold a clip's flow.

        Args:
          grey: uint8 [T, H, W].

        Yields:
          T - 1 arrays, float32 [H, W, 2], (dx, dy) in pixels.
        """


@runtime_checkable
class QuantizingEngine(FlowEngine, Protocol):
    """An engine that quantizes where it computes: levels are a quarter of the bytes to copy from a GPU."""

    def quantized(
        self, grey: np.ndarray, tvl1: TVL1, quantizer: str, bound_px: float, notes: list[str]
    ) -> Iterator[QuantizedField]:
        """Yields what `flows` does, quantized. Adds to `notes` what a reader of the ledger should know.

        Raises:
          GPUFailed: after as many fields as it could compute.
          ValueError: if a flow is not finite.
        """
