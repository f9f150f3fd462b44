"""The embedded sample data set: what `kinetics-prep flow` prepares if it is given no other.

Nine 1-second clips of four classes, listed in `annotations.csv` in the layout of Kinetics-400.

- `videos/nasa_13013.mp4`: a technician inspects the mirror of the James Webb Space Telescope from a lift while the
  camera pulls back. 13 s of NASA's "NASA's Most Scientifically Complex Space Observatory Requires Precision"
  (https://svs.gsfc.nasa.gov/13013, public domain), cut and scaled for the tests of torchaudio
  (https://github.com/pytorch/audio/pull/2167). It holds two video streams; we use
  the first, 320x180 at 25 fps, though ffmpeg by itself picks the larger one.
- every other video: random waves that move as `MOTIONS` says, so that a flow can be compared with the truth.
  Rendered by this project, under its own licence, with

      python -m kinetics_prep.sample.render kinetics_prep/sample/videos

The three NASA clips are of one take, and one of them is in the other split: good for a demonstration, not for a score.
"""

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

Pixels = TypeVar("Pixels", float, "NDArray[Any]")

ANNOTATIONS = pathlib.Path(__file__).parent / "annotations.csv"
VIDEOS = pathlib.Path(__file__).parent / "videos"


@dataclasses.dataclass(frozen=True)
class Motion:
    """A flow field that stays the same from the first frame to the last.

    Attributes:
      dx, dy: shift in pixels per frame; content moves right where dx > 0 and down where dy > 0.
      zoom: growth about the picture's centre per frame; 0.01 is one percent.
    """

    dx: float = 0.0
    dy: float = 0.0
    zoom: float = 0.0

    def __post_init__(self) -> None:
        if self.zoom <= -1:
            raise ValueError(f"zoom must be above -1, or the picture would vanish; is {self.zoom}")

    def flow(self, x: Pixels, y: Pixels) -> tuple[Pixels, Pixels]:
        """Returns the flow (dx, dy) in pixels per frame at x pixels right of and y below the picture's centre."""
        return self.dx + self.zoom * x, self.dy + self.zoom * y


# A horizontal flip, the usual augmentation, turns "moving left" into "moving right".
MOTIONS = {
    "pan_left_1": Motion(dx=-2.0),
    "pan_left_2": Motion(dx=-1.5, dy=0.5),
    "pan_right_1": Motion(dx=2.0),
    "pan_right_2": Motion(dx=2.5, dy=-0.5),
    "zoom_in_1": Motion(zoom=0.010),
    "zoom_in_2": Motion(zoom=0.008),
}
