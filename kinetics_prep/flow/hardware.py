"""Which GPUs an engine may use, and how much of their memory."""

import dataclasses
from collections.abc import Sequence

from kinetics_prep.errors import BadOption, MissingTool


@dataclasses.dataclass(frozen=True)
class Hardware:
    """What a run may use. It never changes the bytes that a run writes."""

    gpus: tuple[int, ...] = ()
    """Indices as CUDA counts them; empty for all."""
    gpu_memory_bytes: int | None = None
    """Of each GPU, at most; None for three quarters of what is free when the GPU is first used."""

    def __post_init__(self) -> None:
        if len(set(self.gpus)) != len(self.gpus) or any(index < 0 for index in self.gpus):
            raise BadOption(f"--gpus {','.join(map(str, self.gpus))}: expected each index once, from 0 on")
        if self.gpu_memory_bytes is not None and self.gpu_memory_bytes <= 0:
            raise BadOption(f"gpu_memory_bytes is {self.gpu_memory_bytes}, expected more than 0")

    def gpu_indices(self, count: int) -> Sequence[int]:
        """Returns the indices of the GPUs to use, on a machine with `count` GPUs.

        Raises:
          MissingTool: if `gpus` names a GPU that the machine lacks.
        """
        if any(index >= count for index in self.gpus):
            raise MissingTool(f"--gpus {','.join(map(str, self.gpus))}: there are {count}, counted from 0")
        return self.gpus or range(count)


ANY_HARDWARE = Hardware()
