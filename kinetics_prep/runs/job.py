"""What the user asks for: a job for a new or an interrupted folder, a resumption of a folder that exists."""

import dataclasses
from pathlib import Path

from kinetics_prep import flow
from kinetics_prep.annotations.selection import Selection
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.errors import RETRYABLE, BadOption
from kinetics_prep.flow import ANY_HARDWARE, Hardware
from kinetics_prep.sources import Fetching
from kinetics_prep.storage.local_paths import expect_local


@dataclasses.dataclass(frozen=True)
class Job:
    """`kinetics-prep flow`: which rows, from where, how, and where to."""

    selection: Selection
    fetching: Fetching
    output: Path
    recipe: Recipe
    retry: tuple[str, ...] = ()
    """Reasons; rows refused for them are tried again."""
    hardware: Hardware = ANY_HARDWARE
    accept_tools: bool = False
    """Whether to go on with programs and libraries that give other bytes."""

    def __post_init__(self) -> None:
        expect_local("--output", self.output)
        check_retryable("--retry", self.retry)
        check_gpu(self.hardware, self.recipe.engine)


@dataclasses.dataclass(frozen=True)
class Resumption:
    """`kinetics-prep retry` and `refresh`: a folder that exists, and what to try again."""

    output: Path
    reasons: tuple[str, ...]
    """Rows refused for these reasons are tried again."""
    fetching: Fetching
    """Where to search videos; if it names no place, those in sources.json."""
    hardware: Hardware = ANY_HARDWARE
    accept_tools: bool = False
    """Whether to go on with programs and libraries that give other bytes."""

    def __post_init__(self) -> None:
        expect_local("the folder", self.output)
        check_retryable("--reason", self.reasons)


def check_retryable(option: str, reasons: tuple[str, ...]) -> None:
    """Checks that rows refused for some reasons can be tried again.

    Raises:
      BadOption: if they cannot, or if there is no such reason.
    """
    hopeless = sorted(set(reasons) - set(RETRYABLE))
    if hopeless:
        raise BadOption(f"{option} {', '.join(hopeless)}: expected one or more of {', '.join(RETRYABLE)}")


def check_gpu(hardware: Hardware, engine: str) -> None:
    """Checks that GPUs are chosen only for an engine that uses them.

    Raises:
      BadOption: if not.
    """
    if hardware != ANY_HARDWARE and not flow.ENGINES[engine].RUNS_ON_GPU:
        raise BadOption(f"--gpus and --gpu-memory: engine {engine} ({flow.why(engine)}) does not run on a GPU")
