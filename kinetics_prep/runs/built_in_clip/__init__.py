"""The built-in clip: a small video for `fingerprint`, to see what the tools of this machine make of it.

`clip.mp4` is H.264, yuv420p with BT.709 colours, 374x272. Every usual short side scales it, and to an even width: where
the width is odd, ffmpeg treats colours with more care than elsewhere. It shows a coloured texture that moves one way,
and a disc and a chessboard with sharp edges that move other ways.

Frame k begins at `TIMES_MS[k]`: a few milliseconds after the one before at first, hours after it at last. So whatever
the rate of a recipe, its clip shows motion. Frames 0, 4, 5, 6 and 7 are those of 25 fps.

Rendered by this project, under its own licence, with

    python -m kinetics_prep.runs.built_in_clip.render kinetics_prep/runs/built_in_clip/clip.mp4
"""

from pathlib import Path

PATH = Path(__file__).parent / "clip.mp4"

SHA256 = "1bcc43d3f042b95429689e6062385f266a86b7bc57f77175cc44b5e1a7084b48"
"""Of the file. Another clip gives other fingerprints, which no folder prepared so far has."""

TIMES_MS = (
    *(0, 1, 3, 10, 40, 80, 120, 160, 200, 500, 1_500, 5_000, 15_000, 45_000),
    *(135_000, 405_000, 1_215_000, 3_645_000, 9_000_000, 14_400_000),
)
"""When each frame begins, in milliseconds."""
