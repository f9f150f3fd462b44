"""Renders the sample's videos of known motion, one per row of `MOTIONS`.

    python -m kinetics_prep.sample.render OUTDIR

About 2 s; six videos of 256x256, 2 s, 25 fps, 0.2 MB together. The same bytes again from the same ffmpeg and NumPy.
"""

import argparse
import dataclasses
import pathlib
import subprocess
import zlib

import imageio_ffmpeg
import numpy as np

from kinetics_prep.sample import MOTIONS, Motion


@dataclasses.dataclass(frozen=True)
class Waves:
    """A texture without edges or pixels: a sum of N plane waves, each of its own colour.

    Attributes:
      kx, ky: float64 [N], radians per pixel.
      phase: float64 [N], radians.
      colour: float64 [3, N], amplitudes in red, green and blue, in levels.
    """

    kx: np.ndarray
    ky: np.ndarray
    phase: np.ndarray
    colour: np.ndarray

    def __post_init__(self) -> None:
        shapes = self.kx.shape, self.ky.shape, self.phase.shape, self.colour.shape[1:]
        if len(set(shapes)) > 1:
            raise ValueError(f"expected one kx, ky, phase and colour for each wave, got {shapes}")


def random_waves(
    seed: int, number: int = 96, shortest_pixels: float = 7.0, longest_pixels: float = 100.0, contrast: float = 45.0
) -> Waves:
    """Draws waves of all directions and colours; `contrast` is the texture's standard deviation in levels."""
    rng = np.random.default_rng(seed)
    length = np.exp(rng.uniform(np.log(shortest_pixels), np.log(longest_pixels), number))
    direction = rng.uniform(0, 2 * np.pi, number)
    phase = rng.uniform(0, 2 * np.pi, number)
    # Long waves are the stronger ones, as in nature. All are more grey than coloured, as flow sees only grey.
    colour = rng.normal(1.0, 0.6, (3, number)) * length**0.7
    colour *= contrast / np.sqrt((colour**2 / 2).sum(axis=1, keepdims=True))
    return Waves(2 * np.pi / length * np.cos(direction), 2 * np.pi / length * np.sin(direction), phase, colour)


def picture(waves: Waves, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Samples the texture where columns x [W] and rows y [H] meet, in pixels.

    Returns:
      uint8 [H, W, 3], RGB.
    """
    # cos(kx x + ky y + phase) is the real part of a product of one factor for the column and one for the row,
    # so the sum over the waves is a matrix product.
    columns = np.exp(1j * (waves.kx[:, None] * x + waves.phase[:, None]))
    rows = np.exp(1j * waves.ky * y[:, None])
    total = np.stack([((rows * amplitude) @ columns).real for amplitude in waves.colour], axis=-1)
    return np.clip(np.rint(128 + total), 0, 255).astype(np.uint8)


def frames(motion: Motion, seed: int, number: int = 50, side: int = 256) -> np.ndarray:
    """Renders a random texture that moves with `motion`.

    Args:
      motion: shift in pixels per frame, zoom as growth per frame.
      seed: chooses the texture.
      number: frames, T.
      side: height and width in pixels.

    Returns:
      uint8 [T, side, side, 3], RGB.
    """
    waves = random_waves(seed)
    x = y = np.arange(side) - (side - 1) / 2
    pictures = []
    for _ in range(number):
        pictures.append(picture(waves, x, y))
        # What a pixel shows next stood one step up the flow. The texture is sampled afresh there,
        # so no interpolation blurs the motion or makes it uneven.
        x, y = (x - motion.dx) / (1 + motion.zoom), (y - motion.dy) / (1 + motion.zoom)
    return np.stack(pictures)


def encode(rgb: np.ndarray, path: pathlib.Path, fps: int = 25, crf: int = 18) -> None:
    """Writes uint8 [T, H, W, 3] RGB frames as H.264 in MP4."""
    height, width = rgb.shape[1:3]
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "pipe:"]
    # One thread, as x264's bytes depend on their number; bitexact leaves the date and libavformat's version out.
    codec = ["-c:v", "libx264", "-crf", str(crf), "-pix_fmt", "yuv420p", "-threads", "1"]
    exact = ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *source, *codec, *exact, str(path)]
    subprocess.run(command, input=rgb.tobytes(), check=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m kinetics_prep.sample.render", description=__doc__.splitlines()[0])
    parser.add_argument("outdir", type=pathlib.Path)
    outdir = parser.parse_args().outdir
    outdir.mkdir(parents=True, exist_ok=True)
    for name, motion in MOTIONS.items():
        # The seed comes from the name, not the row's place, so a new row leaves the old videos as they are.
        encode(frames(motion, seed=zlib.crc32(name.encode())), outdir / f"{name}.mp4")


if __name__ == "__main__":
    main()
