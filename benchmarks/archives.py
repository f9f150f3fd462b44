"""Videos in tar archives: how long one takes to be gone through, and how long a video is in coming.

    python benchmarks/archives.py                        # 400 MB, under a minute on two cores
    python benchmarks/archives.py --megabytes 1500       # as large as CVDF's
    python benchmarks/archives.py --archives 242 --videos 1000   # only how much memory their indexes take

Writes a tar of random bytes in pieces as long as clips of Kinetics, which compress as little as those, and gzips it.
Prints, for the same file in the same run: MB/s of `gzip -t`, of zlib alone, and of indexing; the bytes of the index; ms
for a clip at random from the plain and from the gzipped archive; and the peak memory of this process. The file is in
the page cache: a slow disk comes on top, twice when the archive is gone through, unless there is memory to keep it.
"""

import argparse
import io
import random
import resource
import shutil
import subprocess
import tarfile
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np

from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.sources import seek_points
from kinetics_prep.sources.archive import Archives
from kinetics_prep.sources.archive_indexing import index_of, rebuild_index
from kinetics_prep.sources.fetching import Fetching


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--fetches", type=int, default=200)
    parser.add_argument("--spacing", type=int, nargs="+", default=[seek_points.SPACING_BYTES >> 20], help="MB")
    parser.add_argument("--archives", type=int, help="so many small archives instead")
    parser.add_argument("--videos", type=int, default=1000, help="in each of --archives")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.archives:
            many(Path(folder), arguments.archives, arguments.videos)
        else:
            one(Path(folder), arguments.megabytes, arguments.fetches, arguments.spacing)


def one(folder: Path, megabytes: int, fetches: int, spacings: list[int]) -> None:
    """Times everything on one archive."""
    plain, packed = folder / "part_0.tar", folder / "packed/part_0.tar.gz"
    packed.parent.mkdir()
    names = write(plain, megabytes * 1_000_000)
    with open(packed, "wb") as file:
        subprocess.run(["gzip", "-c", str(plain)], stdout=file, check=True)
    size_bytes = plain.stat().st_size
    print(f"{len(names)} clips, {size_bytes / 1e6:.0f} MB, gzipped {packed.stat().st_size / 1e6:.0f} MB")
    if shutil.which("gzip"):
        print_speed("gzip -t", size_bytes, lambda: subprocess.run(["gzip", "-t", str(packed)], check=True))
    print_speed("zlib alone", size_bytes, lambda: inflate(packed))
    print_speed("indexing the plain one", size_bytes, lambda: rebuild_index(plain, folder / "archives"))
    print(f"  {milliseconds(plain, folder, names, fetches):.1f} ms a clip from the plain one")
    for spacing in spacings:
        seek_points.SPACING_BYTES = spacing << 20
        before_bytes = peak_bytes()
        print_speed(
            f"indexing, points every {spacing} MB",
            size_bytes,
            lambda: rebuild_index(packed, folder / "archives"),
        )
        index = index_of(packed, folder / "archives")
        print(f"  index {index.file.stat().st_size / 1e6:.2f} MB, {len(index.contents.points)} points")
        print(f"  {milliseconds(packed, folder, names, fetches):.1f} ms a clip from the gzipped one")
        print(f"  peak memory {peak_bytes() / 1e6:.0f} MB, before {before_bytes / 1e6:.0f} MB")


def write(path: Path, size_bytes: int) -> list[str]:
    """A tar of clips of 0.5 to 2.5 MB; returns their ids."""
    rng, names, written_bytes = random.Random(0), [], 0
    with tarfile.open(path, "w") as archive:
        while written_bytes < size_bytes:
            data = rng.randbytes(rng.randrange(500_000, 2_500_000))
            info = tarfile.TarInfo(f"train/{len(names):011d}_000010_000020.mp4")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
            names.append(f"{len(names):011d}")
            written_bytes += len(data)
    return names


def inflate(path: Path) -> None:
    """Inflates a file of one gzip stream as Python can at best."""
    unpacker = zlib.decompressobj(wbits=31)
    with open(path, "rb") as file:
        while data := file.read(1 << 20):
            while data:
                unpacker.decompress(data, 1 << 20)
                data = unpacker.unconsumed_tail


def milliseconds(path: Path, folder: Path, names: list[str], fetches: int) -> float:
    """Mean time to fetch a clip, in one thread."""
    archives = Archives.open(str(path), Fetching((str(path),)), folder / "scratch")
    rng = random.Random(1)
    began = time.perf_counter()
    for _ in range(fetches):
        with next(archives.candidates(row(rng.choice(names)))):
            pass
    return (time.perf_counter() - began) / fetches * 1000


def row(media_id: str) -> PlannedRow:
    return PlannedRow(0, 0, media_id, media_id, None, None, "train", 10.0, 20.0, "rows.csv", 2)


def many(folder: Path, archives: int, videos: int) -> None:
    """Prints what the indexes of many archives take."""
    for k in range(archives):
        with tarfile.open(folder / f"part_{k}.tar", "w") as archive:
            for clip in range(videos):
                archive.addfile(tarfile.TarInfo(f"train/{k:05d}{clip:06d}_000010_000020.mp4"))
    began, before_bytes = time.perf_counter(), peak_bytes()
    Archives.open(str(folder), Fetching((str(folder),)), folder / "scratch/run")
    print(f"{archives} archives of {videos} videos: indexed in {time.perf_counter() - began:.1f} s")
    began = time.perf_counter()
    found = Archives.open(str(folder), Fetching((str(folder),)), folder / "scratch/run")
    print(f"opened again in {time.perf_counter() - began:.2f} s")
    rng, began = np.random.default_rng(0), time.perf_counter()
    for k, clip in zip(rng.integers(archives, size=1000), rng.integers(videos, size=1000)):
        with next(found.candidates(row(f"{k:05d}{clip:06d}"))):
            pass
    print(f"{(time.perf_counter() - began):.2f} ms a fetch of an empty video")
    print(f"peak memory {peak_bytes() / 1e6:.0f} MB, before {before_bytes / 1e6:.0f} MB")


def print_speed(what: str, size_bytes: int, work) -> None:
    began = time.perf_counter()
    work()
    print(f"{what}: {size_bytes / 1e6 / (time.perf_counter() - began):.0f} MB/s", flush=True)


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
