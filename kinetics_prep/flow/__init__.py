"""Flow engines: uint8 grey frames -> float32 flow, by TV-L1.

An engine is one file here and one row in `ENGINES`; the tests find it by its row. Each is a class
with

* `usable() -> str | None`: None where it can run, else what is missing, in words;
* `version() -> str`: what to record, because it may change the bytes;
* `flows(grey, tvl1) -> Iterator`: uint8 [T, H, W] -> T - 1 arrays float32 [H, W, 2], (dx, dy) px,
  the motion from frame k to frame k + 1. One at a time, so that a clip's flow never stands in
  memory whole. Must be safe to call from several threads.
"""

from kinetics_prep.errors import BadOption, MissingTool
from kinetics_prep.flow.cpu import TVL1CPU
from kinetics_prep.flow.opencv import OpenCVCPU, OpenCVCUDA
from kinetics_prep.flow.parameters import TVL1

ENGINES = {
    "tvl1": TVL1CPU,
    "opencv-cuda": OpenCVCUDA,
    "opencv-cpu": OpenCVCPU,
}
"""In the order that `auto` tries them."""

__all__ = ["ENGINES", "TVL1", "choose", "engine"]


def engine(name: str):
    """The engine called `name`, which must be usable on this machine.

    Raises:
      BadOption: if there is no such engine.
      MissingTool: if it cannot run here.
    """
    if name not in ENGINES:
        raise BadOption(f"engine is {name!r}, expected auto or one of {', '.join(ENGINES)}")
    missing = ENGINES[name].usable()
    if missing:
        raise MissingTool(f"engine {name} cannot run here: {missing}")
    return ENGINES[name]()


def choose(name: str = "auto") -> str:
    """The engine's name; for `auto` that of the first one in the table that can run here."""
    if name == "auto":
        missing = {name: candidate.usable() for name, candidate in ENGINES.items()}
        if all(missing.values()):
            raise MissingTool("; ".join(f"engine {name} cannot run here: {what}" for name, what in missing.items()))
        return next(name for name, what in missing.items() if what is None)
    engine(name)
    return name
