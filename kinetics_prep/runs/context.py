"""RunContext: what every clip of a run shares."""

import dataclasses
import functools
import threading
import uuid
from pathlib import Path

import cv2

from kinetics_prep import flow
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.flow import ANY_HARDWARE, FlowEngine, Hardware
from kinetics_prep.sources import Fetching, Sources, open_sources


@dataclasses.dataclass(frozen=True)
class RunContext:
    """What every clip of a run shares. Crosses process borders: sources and engine are opened where they are used."""

    recipe: Recipe
    digest: str
    """Of the recipe and the tools."""
    versions: str
    """Of the tools, as JSON, for the ledger."""
    fetching: Fetching
    scratch: str
    """A folder for downloads that are not kept."""
    hardware: Hardware = ANY_HARDWARE
    run_id: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)
    """Tells runs in one process apart: a folder is listed once a run, not once a process."""

    @property
    def sources(self) -> Sources:
        """The places of videos, opened once a process."""
        with _OPENING:  # else each thread of a pool would list the folder for itself
            return _sources(self.run_id, self.fetching, self.scratch)

    @property
    def engine(self) -> FlowEngine:
        """The flow engine, opened once a process."""
        with _OPENING:
            return _engine(self.recipe.engine, self.hardware)

    @property
    def engine_version(self) -> str:
        """The engine's name and version, for the ledger."""
        return f"{self.recipe.engine}: {self.engine.version()}"

    @property
    def flow_by(self) -> str:
        """The same for the record, whose bytes are the same whichever of the equal engines computed the flow."""
        return f"{self.recipe.flow_by}: {self.engine.version()}"


_OPENING = threading.Lock()


@functools.lru_cache(maxsize=1)
def _sources(run_id: str, fetching: Fetching, scratch: str) -> Sources:
    return open_sources(fetching, Path(scratch), run=run_id)


@functools.lru_cache(maxsize=1)
def _engine(name: str, hardware: Hardware) -> FlowEngine:
    # Clips run side by side; OpenCV's own threads would only fight over the cores.
    cv2.setNumThreads(1)
    return flow.engine(name, hardware)
