"""What engines on GPUs share: which GPUs, how much of their memory, and what becomes of a clip when one fails."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from kinetics_prep.errors import BadOption, MissingTool
from kinetics_prep.flow.parameters import TVL1

Flow = tuple[np.ndarray, int]
"""uint8 levels [H, W, 2] of a quantizer, and how many values lay beyond its bound."""


@dataclasses.dataclass(frozen=True)
class Hardware:
    """What a run may use. It changes no byte of what is written."""

    gpus: tuple[int, ...] = ()
    """Indices as CUDA counts them; empty for all."""
    gpu_memory_bytes: int | None = None
    """Of each GPU, at most; None for three quarters of what is free when it is first used."""

    def __post_init__(self):
        if len(set(self.gpus)) != len(self.gpus) or any(index < 0 for index in self.gpus):
            raise BadOption(f"--gpus {','.join(map(str, self.gpus))}: expected each index once, from 0 on")
        if self.gpu_memory_bytes is not None and self.gpu_memory_bytes <= 0:
            raise BadOption(f"gpu_memory_bytes is {self.gpu_memory_bytes}, expected more than 0")

    def chosen(self, count: int) -> Sequence[int]:
        """The indices to use, where there are `count` GPUs.

        Raises:
          MissingTool: if one that was asked for is not there.
        """
        missing = [index for index in self.gpus if index >= count]
        if missing:
            raise MissingTool(f"--gpus {','.join(map(str, self.gpus))}: there are {count}, counted from 0")
        return self.gpus or range(count)


ANY_HARDWARE = Hardware()


class GPUFailed(Exception):
    """No GPU can compute a flow, or go on with it; the message says why."""


class Quantizes(Protocol):
    """What an engine may have besides the rest: levels, made where the flow is, a quarter of its bytes."""

    def quantized(
        self, grey: np.ndarray, tvl1: TVL1, quantizer: str, bound_px: float, notes: list[str]
    ) -> Iterator[Flow]:
        """As `flows`, and quantized. Adds to `notes` what a reader of the ledger should know.

        Raises:
          GPUFailed: after as many pairs as it could.
          ValueError: if a flow is not finite.
        """
