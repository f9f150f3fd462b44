"""Flow engines: uint8 grey frames -> float32 flow, by TV-L1.

An engine is a class that follows `flow_engine.FlowEngine`, in a file of its own, and a row in `ENGINES`; the tests
find it by its row. Here engines are chosen and made; `clip_flow` computes the quantized flow of a clip with one.

Numba, CuPy and OpenCV are imported when an engine first needs them: a program that asks for --help should not wait.
"""

import itertools

from kinetics_prep.errors import BadOption, MissingTool
from kinetics_prep.flow.cpu import TVL1CPU
from kinetics_prep.flow.cuda import TVL1CUDA
from kinetics_prep.flow.flow_engine import FlowEngine
from kinetics_prep.flow.hardware import ANY_HARDWARE, Hardware
from kinetics_prep.flow.opencv import OpenCVCPU, OpenCVCUDA
from kinetics_prep.flow.parameters import TVL1

ENGINES: dict[str, type[FlowEngine]] = {
    "tvl1-cuda": TVL1CUDA,
    "tvl1": TVL1CPU,
    "opencv-cuda": OpenCVCUDA,
    "opencv-cpu": OpenCVCPU,
}
"""In the order in which `auto` tries them: the fastest first, on a machine with more than a few cores."""

__all__ = ["ANY_HARDWARE", "ENGINES", "TVL1", "FlowEngine", "Hardware", "choose", "engine", "giving", "why"]


def engine(name: str, hardware: Hardware = ANY_HARDWARE) -> FlowEngine:
    """Makes the engine called `name`.

    Raises:
      BadOption: if there is no such engine.
      MissingTool: if it cannot run on this machine.
    """
    if name not in ENGINES:
        raise BadOption(f"engine is {name!r}, expected auto or one of {', '.join(ENGINES)}")
    missing = ENGINES[name].usable()
    if missing:
        raise MissingTool(f"engine {name} cannot run here: {missing}")
    return ENGINES[name](hardware)


def choose(name: str = "auto") -> str:
    """Returns the name of an engine that can run here: `name` itself, or for `auto` the first in `ENGINES` that can.

    Raises:
      BadOption: if there is no such engine.
      MissingTool: if it cannot run on this machine; for `auto`, if none can.
    """
    if name != "auto":
        engine(name)
        return name
    missing = {name: candidate.usable() for name, candidate in ENGINES.items()}
    if all(missing.values()):
        raise MissingTool("; ".join(f"engine {name} cannot run here: {reason}" for name, reason in missing.items()))
    return next(name for name, reason in missing.items() if reason is None)


def giving(flow_by: str) -> str:
    """Returns the name of the first engine that can run here and gives the flow of the engine `flow_by`, bit for bit.

    Raises:
      MissingTool: if there is none.
    """
    missing = {name: candidate.usable() for name, candidate in ENGINES.items() if flow_by == candidate.GIVES}
    for name, reason in missing.items():
        if reason is None:
            return name
    reasons = "; ".join(map(str, missing.items()))
    raise MissingTool(f"no engine that gives the flow of {flow_by!r} can run here: {reasons}")


def why(chosen: str) -> str:
    """Says in words why `auto` chose this engine: what the faster ones lack."""
    faster = itertools.takewhile(lambda name: name != chosen, ENGINES)
    return "; ".join(f"no {name}: {ENGINES[name].usable()}" for name in faster) or "the fastest there is"
