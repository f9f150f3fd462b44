"""Flow engines: uint8 grey frames -> float32 flow, by TV-L1.

An engine is one file here and one row in `ENGINES`; the tests find it by its row. Each is a class
with

* `usable() -> str | None`: None where it can run, else what is missing, in words;
* `version() -> str`: what to record, because it may change the bytes;
* `flows(grey, tvl1) -> Iterator`: uint8 [T, H, W] -> T - 1 arrays float32 [H, W, 2], (dx, dy) px,
  the motion from frame k to frame k + 1. One at a time, so that a clip's flow need not stand in
  memory whole. Must be safe to call from several threads;
* `GIVES`: the name of the engine whose flow it gives, bit for bit; most often its own. Two that give the same
  may work at one data set in turn;
* `RUNS_ON_GPU`: if so, it is made with a `Hardware`, and `flows` may raise `GPUFailed` in mid-clip;
* `quantized`, if it quantizes by itself: see `hardware.Quantizes`.
"""

import functools
import itertools
from collections.abc import Iterator

import numpy as np

from kinetics_prep.errors import BadOption, MissingTool
from kinetics_prep.flow.cpu import TVL1CPU
from kinetics_prep.flow.cuda import TVL1CUDA
from kinetics_prep.flow.hardware import ANY_HARDWARE, Flow, GPUFailed, Hardware
from kinetics_prep.flow.opencv import OpenCVCPU, OpenCVCUDA
from kinetics_prep.flow.parameters import TVL1
from kinetics_prep.media import quantize

ENGINES = {
    "tvl1-cuda": TVL1CUDA,
    "tvl1": TVL1CPU,
    "opencv-cuda": OpenCVCUDA,
    "opencv-cpu": OpenCVCPU,
}
"""In the order that `auto` tries them: the fastest first, on a machine with more than a few cores."""

__all__ = ["ANY_HARDWARE", "ENGINES", "TVL1", "Hardware", "choose", "engine", "giving", "quantized", "why"]


def engine(name: str, hardware: Hardware = ANY_HARDWARE):
    """The engine called `name`, which must be usable on this machine.

    Raises:
      BadOption: if there is no such engine.
      MissingTool: if it cannot run here.
    """
    if name not in ENGINES:
        raise BadOption(f"engine is {name!r}, expected auto or one of {', '.join(ENGINES)}")
    kind = ENGINES[name]
    missing = kind.usable()
    if missing:
        raise MissingTool(f"engine {name} cannot run here: {missing}")
    return kind(hardware) if kind.RUNS_ON_GPU else kind()


def choose(name: str = "auto") -> str:
    """The engine's name; for `auto` that of the first one in the table that can run here."""
    if name == "auto":
        missing = {name: candidate.usable() for name, candidate in ENGINES.items()}
        if all(missing.values()):
            raise MissingTool("; ".join(f"engine {name} cannot run here: {what}" for name, what in missing.items()))
        return next(name for name, what in missing.items() if what is None)
    engine(name)
    return name


def giving(flow_by: str) -> str:
    """The name of the first engine that gives the flow of another, and can run here.

    Raises:
      MissingTool: if none can.
    """
    missing = {name: kind.usable() for name, kind in ENGINES.items() if flow_by == kind.GIVES}
    for name, what in missing.items():
        if what is None:
            return name
    raise MissingTool(
        f"no engine that gives the flow of {flow_by!r} can run here: {'; '.join(map(str, missing.items()))}"
    )


def why(chosen: str) -> str:
    """Why `auto` has chosen an engine, in words."""
    before = itertools.takewhile(lambda name: name != chosen, ENGINES)
    return "; ".join(f"no {name}: {ENGINES[name].usable()}" for name in before) or "the fastest there is"


def quantized(
    engine, grey: np.ndarray, tvl1: TVL1, quantizer: str, bound_px: float, notes: list[str]
) -> Iterator[Flow]:
    """The flow from each frame to the next, as levels, with the number of values beyond the bound.

    Where GPUs fail, the rest of the clip is computed by `tvl1` on the CPU. What a reader of the ledger should know of
    is added to `notes`.

    Raises:
      ValueError: if a flow is not finite.
    """
    done = 0
    try:
        for flow in _quantized(engine, grey, tvl1, quantizer, bound_px, notes):
            yield flow
            done += 1
    except GPUFailed as error:
        notes.append(f"{error}; flow from frame {done} on by tvl1 on the CPU")
        yield from _quantized(_on_cpu(), grey[done:], tvl1, quantizer, bound_px, notes)


def _quantized(engine, grey, tvl1, quantizer, bound_px, notes) -> Iterator[Flow]:
    if hasattr(engine, "quantized"):
        yield from engine.quantized(grey, tvl1, quantizer, bound_px, notes)
    else:
        for field in engine.flows(grey, tvl1):
            yield quantize.quantize(field, quantizer, bound_px), quantize.saturated_count(field, bound_px)


@functools.lru_cache(maxsize=1)
def _on_cpu():
    return engine("tvl1")
