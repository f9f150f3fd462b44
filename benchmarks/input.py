"""Clips a second of the trainer's two readers, beside the bare decoding of the same frames.

    python benchmarks/input.py                      # a few minutes on two cores, most of them to prepare the data
    python benchmarks/input.py --video FILE ...     # of other content than the sample data set's 13 seconds
    python benchmarks/input.py --data FOLDER        # of a folder that was prepared already

Makes a folder of clips of 250 frames of 340x256, by `kinetics-prep flow` with a hasty TV-L1, and reads from it what I3D
trains on: windows of 64 frames, crops of 224, half of them mirrored. "Bare" is what no reader can do without, done by
the reader's own decoder with as many threads: the same images, in memory already, are decoded and thrown away. The
two take turns, a round each, and a ratio is the median over rounds of one round's two figures: of seconds, and of the
processors' time, which depends less on what else the machine does. Files are read from the page cache. Last come the
decoders that there are to choose from, with one thread.
"""

import argparse
import collections
import concurrent.futures
import functools
import io
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np
import tensorflow as tf
from PIL import Image

from kinetics_prep import sample
from kinetics_prep.media import ffmpeg
from kinetics_prep.reading import CLIP_READERS, prefetch, tensorflow_batches
from kinetics_prep.reading.clips import ClipIndex
from kinetics_prep.reading.order import Order
from kinetics_prep.reading.reader import Reader
from kinetics_prep.reading.sampling import Sampler

_HASTY = ("--tvl1", "warps=2", "iterations=15")
_STREAMS = {"rgb": ("rgb",), "flow": ("flow",), "both": ("rgb", "flow")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, nargs="+", default=[])
    parser.add_argument("--data", type=Path, help="a folder with a split train in both formats")
    parser.add_argument("--clips", type=int, default=16, help="to prepare")
    parser.add_argument("--threads", type=int, default=prefetch.default_threads())
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8, help="batches a round")
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = asked.data or prepared(Path(folder), asked.video, asked.clips)
        print(f"{asked.threads} threads, batches of {asked.batch}, {asked.rounds} rounds of {asked.steps} batches")
        print("data      streams  clips/s  of bare decoding  ratio  of processors' time")
        for format, choice in itertools.product(CLIP_READERS, _STREAMS):
            measure(ClipIndex.open(data, "train", format), choice, asked)
        compare_decoders(ClipIndex.open(data, "train", "tfrecord"), asked.rounds)


def prepared(folder: Path, videos: list[Path], clips: int) -> Path:
    """A folder of so many clips of 10 s, in turn from each video."""
    (folder / "videos").mkdir()
    # Of the two in the sample's file, this is the larger one: enlarged as little as can be.
    for number, (video, stream) in enumerate([(path, "0:v:0") for path in videos] or [(_nasa(), "0:v:1")]):
        render(video, stream, folder / "videos" / f"{number}.mp4")
    count = len(videos) or 1
    lines = (f"moving,{k % count},{k // count * 0.2:.1f},{k // count * 0.2 + 10:.1f},train" for k in range(clips))
    (folder / "rows.csv").write_text("label,youtube_id,time_start,time_end,split\n" + "\n".join(lines) + "\n")
    command = (sys.executable, "-m", "kinetics_prep", "flow", "--annotations", str(folder / "rows.csv"), *_HASTY)
    where = ("--videos", str(folder / "videos"), "--output", str(folder / "data"), "--clips-per-shard", "8")
    subprocess.run([*command, *where, "--format", "tfrecord,parquet"], check=True, stdout=subprocess.DEVNULL)
    return folder / "data"


def _nasa() -> Path:
    return sample.VIDEOS / "nasa_13013.mp4"


def render(video: Path, stream: str, path: Path) -> None:
    """Twenty seconds of the middle of a video, repeated if need be, at 25 fps and 340x256."""
    scale = "fps=25,scale=w='max(340,ceil(256*iw/ih))':h='max(256,ceil(340*ih/iw))',crop=340:256,setsar=1"
    command = (ffmpeg.locate().path, "-v", "error", "-stream_loop", "-1", "-i", str(video), "-map", stream)
    encode = ("-vf", scale, "-t", "20", "-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p", str(path))
    subprocess.run([*command, *encode], check=True)


def measure(clips: ClipIndex, choice: str, asked: argparse.Namespace) -> None:
    """Prints one row of the table."""
    streams = _STREAMS[choice]
    sampler = Sampler({name: np.arange(64) for name in streams}, 224, train=True, flip=True)
    order = Order(len(clips), asked.batch, seed=1)
    images = [list(encoded(clips, sampler, order, position)) for position in range(asked.batch * asked.steps)]
    batches = endless(clips, sampler, order, streams, asked.threads)
    spent = {"reader": [], "bare": []}
    # The same threads in each round: fresh ones would begin with fresh memory.
    pool = concurrent.futures.ThreadPoolExecutor(asked.threads)
    decode_all(images, pool)
    for _ in range(asked.rounds):
        take(batches, asked.threads + 4)  # what was ready, or nearly
        spent["reader"].append(timed(lambda: take(batches, asked.steps)))
        until_quiet()
        spent["bare"].append(timed(lambda: decode_all(images, pool)))
    rates = {name: len(images) / np.median(taken, 0)[0] for name, taken in spent.items()}
    ratio, of_time = np.median(np.divide(spent["bare"], spent["reader"]), 0)
    print(f"{clips.format:9} {choice:7} {rates['reader']:8.1f} {rates['bare']:17.1f}  {ratio:5.2f}", end="")
    print(f"  {of_time:20.2f}", flush=True)


def take(batches: Iterator, count: int) -> None:
    for _ in itertools.islice(batches, count):
        pass


def until_quiet() -> None:
    """Waits until the reader has filled its queues."""
    spent = -1.0
    while time.process_time() - spent > 0.01:
        spent = time.process_time()
        time.sleep(0.1)


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds, and seconds of processors."""
    began = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began[0], time.process_time() - began[1]


def encoded(clips: ClipIndex, sampler: Sampler, order: Order, position: int) -> Iterator[np.ndarray]:
    """The images that the sample of a position is made of."""
    epoch, number = order.at(position)
    clip = clips[number]
    drawn = sampler.draw(clip.clip_id, epoch, clip.frames, clip.height, clip.width)
    wanted = {name: np.unique(indices).tolist() for name, indices in drawn.indices.items()}
    for found in CLIP_READERS[clips.format].read_part(clip, wanted).encoded.values():
        yield from (np.array(data) for data in found.values())


def decode_all(images: list[list[np.ndarray]], pool: concurrent.futures.Executor) -> None:
    collections.deque(pool.map(decode_clip, images), 0)


def decode_clip(images: list[np.ndarray]) -> None:
    for image in images:
        cv2.imdecode(image, cv2.IMREAD_COLOR)


def compare_decoders(clips: ClipIndex, rounds: int) -> None:
    """Prints what an image takes by each of three decoders that give the same pixels."""
    tf.config.set_visible_devices([], "GPU")
    decoders = {
        "opencv": lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR),
        "pillow": lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("RGB")),
        "tensorflow": lambda data: tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE"),
    }
    for stream in ("rgb", "flow"):
        found = CLIP_READERS["tfrecord"].read_part(clips[0], {stream: list(range(0, clips[0].frames, 2))})
        images = [bytes(data) for data in found.encoded[stream].values()]
        spent = {name: [] for name in decoders}
        for _ in range(rounds + 1):
            for name, decode in decoders.items():
                spent[name].append(timed(functools.partial(decode_by, decode, images))[1])
        told = (f"{name} {np.median(taken[1:]) / len(images) * 1e6:.0f}" for name, taken in spent.items())
        print(f"{stream}: processors' microseconds an image: {', '.join(told)}")


def decode_by(decode: Callable[[bytes], object], images: list[bytes]) -> None:
    for data in images:
        decode(data)


def endless(clips: ClipIndex, sampler: Sampler, order: Order, streams: tuple[str, ...], threads: int) -> Iterator:
    """The reader's batches, more than are asked for."""
    settings = (Reader(clips, sampler, order, streams), 0, 1_000_000, threads)
    return iter(tensorflow_batches.dataset(*settings) if clips.format == "tfrecord" else prefetch.Prefetcher(*settings))


if __name__ == "__main__":
    main()
