"""RunContext: what every clip of a run shares."""

import dataclasses
import functools
import json
import socket
import threading
import uuid
from pathlib import Path

import cv2

import kinetics_prep
from kinetics_prep import flow
from kinetics_prep.dataset import tools
from kinetics_prep.dataset.purged import Purged
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.errors import OtherTools
from kinetics_prep.flow import ANY_HARDWARE, FlowEngine, Hardware
from kinetics_prep.runs.fingerprint import fingerprint
from kinetics_prep.sources import Fetching, Sources, open_sources


@dataclasses.dataclass(frozen=True)
class RunContext:
    """What every clip of a run shares. Crosses process borders: sources and engine are opened where they are used."""

    recipe: Recipe
    digest: str
    """Of the recipe."""
    fetching: Fetching
    scratch: str
    """A folder for downloads that are not kept."""
    fingerprints: frozenset[str] = frozenset()
    """Of the tools that may make records of this folder."""
    hardware: Hardware = ANY_HARDWARE
    purged: Purged = dataclasses.field(default_factory=Purged)
    """Clips that must not be prepared."""
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
    def versions(self) -> str:
        """Of this process's tools, as JSON, for the ledger."""
        return _versions(self.recipe)

    @property
    def fingerprint(self) -> str:
        """Of this process's tools."""
        return fingerprint(self.recipe, self.hardware)

    def expect_tools(self) -> None:
        """Checks that records made in this process have the bytes that they have elsewhere.

        Raises:
          OtherTools: if not.
        """
        if self.fingerprint not in self.fingerprints:
            raise OtherTools(
                f"programs or libraries on {socket.gethostname()} give other bytes than those that started this run: "
                f"{self.versions}. Install the same there; or start the run there with --accept-tools"
            )

    @property
    def engine_version(self) -> str:
        """The engine's name and version, for the ledger."""
        return f"{self.recipe.engine}: {self.engine.version()}"

    @property
    def flow_by(self) -> str:
        """The same for the record, whose bytes are the same whichever of the equal engines computed the flow."""
        return f"{self.recipe.flow_by}: {self.engine.version()}"


_OPENING = threading.Lock()


@functools.lru_cache(maxsize=4)
def _versions(recipe: Recipe) -> str:
    return json.dumps({"kinetics-prep": kinetics_prep.__version__} | tools.versions(recipe))


@functools.lru_cache(maxsize=1)
def _sources(run_id: str, fetching: Fetching, scratch: str) -> Sources:
    return open_sources(fetching, Path(scratch), run=run_id)


@functools.lru_cache(maxsize=1)
def _engine(name: str, hardware: Hardware) -> FlowEngine:
    # Clips run side by side; OpenCV's own threads would only fight over the cores.
    cv2.setNumThreads(1)
    return flow.engine(name, hardware)
