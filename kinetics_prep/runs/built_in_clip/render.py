"""Renders the built-in clip.

    python -m kinetics_prep.runs.built_in_clip.render OUTFILE

The same bytes again from the same ffmpeg and NumPy. If they change, so must `SHA256` and all fingerprints.
"""

import argparse
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from kinetics_prep.runs.built_in_clip import TIMES_MS

WIDTH, HEIGHT = 374, 272


def picture(k: int) -> np.ndarray:
    """Draws frame k: a coloured texture, a red disc and a chessboard, each moved its own way.

    Returns:
      uint8 [HEIGHT, WIDTH, 3], RGB.
    """
    # The fractional parts of multiples of irrational numbers: whichever two frames a recipe takes, they differ, and the
    # motion between them is less than 15 px.
    across, down = k * 0.618034 % 1, k * 0.414214 % 1
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    rgb = _texture(x - 11 * across, y - 7 * down)
    disc = (x - 108 - 14 * down) ** 2 + (y - 108 + 11 * across) ** 2 < 50**2
    rgb[disc] = 230, 60, 30
    column, row = np.floor((x - 217 + 11 * down) / 11), np.floor((y - 87 - 14 * across) / 11)
    on_board, is_white = (column // 8 == 0) & (row // 8 == 0), (column + row) % 2 == 0
    rgb[on_board] = 20, 30, 90
    rgb[on_board & is_white] = 250, 250, 250
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def _texture(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Waves of three colours; float64 [..., 3], in levels."""
    fine, slanted, wide = np.sin(x / 8.3 + y / 18.4), np.sin(x / 27.8 - y / 11.2 + 1), np.sin((x + y) / 40 + 2)
    curved = np.sin(x * y / 1200)
    return np.stack([128 + 45 * fine + 40 * wide, 120 + 45 * slanted + 30 * wide, 128 + 30 * fine - 55 * curved], -1)


def encode(path: Path) -> None:
    """Writes all frames as H.264 in MP4, frame k at `TIMES_MS[k]`."""
    rgb = b"".join(picture(k).tobytes() for k in range(len(TIMES_MS)))
    times = "+".join(f"eq(N,{k})*{time}" for k, time in enumerate(TIMES_MS))
    colours = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
    exact_scale = "scale=out_color_matrix=bt709:flags=accurate_rnd+full_chroma_int+bitexact"
    graph = f"settb=1/1000,setpts='{times}',{exact_scale},format=yuv420p,{colours}"
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", "1000", "-i", "pipe:"]
    # One thread, as x264's bytes depend on their number. Without B-frames, times are written as they are.
    codec = ["-c:v", "libx264", "-preset", "veryslow", "-crf", "42", "-bf", "0", "-threads", "1"]
    clock = ["-fps_mode", "passthrough", "-enc_time_base", "1/1000", "-video_track_timescale", "1000"]
    # Leave out the date, the versions of the libraries, and what x264 says of itself.
    exact = ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact"]
    exact += ["-bsf:v", "filter_units=remove_types=6"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *source, "-vf", graph, *clock, *codec, *exact]
    subprocess.run([*command, str(path)], input=rgb, check=True)


def main() -> None:
    prog = "python -m kinetics_prep.runs.built_in_clip.render"
    parser = argparse.ArgumentParser(prog=prog, description="Renders the built-in clip.")
    parser.add_argument("outfile", type=Path)
    encode(parser.parse_args().outfile)


if __name__ == "__main__":
    main()
