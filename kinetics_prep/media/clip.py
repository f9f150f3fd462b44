"""Video, Clip, QuantizedFlow, TwoStreamClip: values that check shapes, dtypes and units when they are made."""

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np

LAST_FLOWS = ("next_frame", "repeated")
"""What the last flow of a clip can be, see `QuantizedFlow.last`."""


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclasses.dataclass(frozen=True)
class Video:
    """A readable video file, as `video.probe` describes it."""

    path: Path
    width: int
    """Of the picture as a player shows it: upright, in square pixels."""
    height: int
    """The same."""
    time_base: Fraction
    """Seconds per tick of the stream's clock."""
    duration_seconds: float | None
    """As the container states it; None if it does not."""
    codec: str
    zero_us: int = 0
    """Where the video's time 0 is on the clock of the file, in microseconds."""
    primaries: str = "unknown"
    """Colour primaries, in ffmpeg's words."""
    interlaced: bool = False
    high_dynamic_range: bool = False
    colour_space: str = "unknown"
    """Colour matrix, in ffmpeg's words."""

    def __post_init__(self) -> None:
        _expect(self.width > 0 and self.height > 0, f"size must be positive, got {self.width}x{self.height}")
        _expect(self.time_base > 0, f"time_base must be positive, got {self.time_base}")


@dataclasses.dataclass(frozen=True)
class Clip:
    """Frames at a constant rate.

    Frame k is the frame that the video shows at `start_seconds + k / fps`.
    """

    frames: np.ndarray
    """uint8 [T, H, W, 3], RGB."""
    fps: Fraction
    start_seconds: float
    """Where the clip begins, from the video's time 0 on."""
    next_frame: np.ndarray | None = None
    """uint8 [H, W, 3], RGB: the frame just after the clip; None if the video ends before it."""
    ends_early: bool = False
    """The video ended before the clip did."""
    notes: tuple[str, ...] = ()
    """Notes for the ledger on the decoding."""

    def __post_init__(self) -> None:
        frames = self.frames
        _expect(
            frames.ndim == 4 and frames.shape[0] > 0 and frames.shape[3] == 3 and frames.dtype == np.uint8,
            f"frames must be uint8 [T, H, W, 3] with T > 0, got {frames.dtype} {list(frames.shape)}",
        )
        _expect(
            self.next_frame is None or self.next_frame.shape == frames.shape[1:],
            f"next_frame must be like one of the frames {list(frames.shape[1:])}",
        )
        _expect(self.fps > 0, f"fps must be positive, got {self.fps}")

    def __len__(self) -> int:
        """Frames."""
        return len(self.frames)


@dataclasses.dataclass(frozen=True)
class QuantizedFlow:
    """The flow from each frame of a clip to the next as bytes: one flow for each frame."""

    levels: np.ndarray
    """uint8 [T, H, W, 2], (dx, dy)."""
    quantizer: str
    """A name of `quantize.QUANTIZERS`."""
    bound_px: float
    """Flow is clipped to +-bound_px."""
    saturated_share: float
    """The share of all dx and dy that lay beyond +-bound_px, 0 to 1."""
    last: str
    """Where the last flow comes from: "next_frame" if it goes to the frame just after the clip, "repeated" if it
    repeats the flow before it."""

    def __post_init__(self) -> None:
        levels = self.levels
        _expect(
            levels.ndim == 4 and levels.shape[3] == 2 and levels.dtype == np.uint8,
            f"levels must be uint8 [T, H, W, 2], got {levels.dtype} {list(levels.shape)}",
        )
        _expect(0 <= self.saturated_share <= 1, f"saturated_share must be 0 to 1, got {self.saturated_share}")
        _expect(self.last in LAST_FLOWS, f"last must be one of {LAST_FLOWS}, got {self.last!r}")


@dataclasses.dataclass(frozen=True)
class TwoStreamClip:
    """A clip and its flow: N flows for N frames of the same size."""

    clip: Clip
    flow: QuantizedFlow

    def __post_init__(self) -> None:
        frames, levels = self.clip.frames, self.flow.levels
        _expect(
            frames.shape[:3] == levels.shape[:3],
            f"flow {list(levels.shape)} does not match frames {list(frames.shape)}",
        )


def clip_notes(clip: Clip, taken_as_trimmed: bool = False) -> list[str]:
    """Returns notes for the ledger on how a clip was cut.

    Args:
      taken_as_trimmed: whether the whole file was taken as the clip, because it is about as long.
    """
    notes = list(clip.notes)
    if clip.ends_early:
        notes.insert(0, f"video ends early, after {len(clip)} frames")
    if taken_as_trimmed:
        notes.insert(0, "file bears no times and is about as long as the clip: taken as trimmed")
    return notes
