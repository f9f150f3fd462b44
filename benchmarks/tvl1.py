"""The engine `tvl1` against OpenCV's CPU class, the reference, and the truth.

    python benchmarks/tvl1.py speed          # ms a pair beside OpenCV's; whole clips on one core and on all
    python benchmarks/tvl1.py speed --avx2   # the same, compiled for AVX2
    python benchmarks/tvl1.py accuracy       # against the float64 reference, and across instruction sets
    python benchmarks/tvl1.py truth          # against Middlebury's measured flow
    python benchmarks/tvl1.py profile        # what the time of a pair goes into

Takes videos from --videos, by default the real ones of `../shared/data`: two pairs of each, from a third and two
thirds of the way, at 25 fps and short side 256. The engines take turns in one process, on one core; medians.
"""

import argparse
import concurrent.futures
import hashlib
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numba
import numpy as np

from kinetics_prep import flow
from kinetics_prep.errors import ClipError
from kinetics_prep.flow import numba_kernels, numpy_kernels, simd, tvl1
from kinetics_prep.flow.simd import fma, splat, sqrt, total
from kinetics_prep.media import quantize, video

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
PARAMETERS = flow.TVL1()
LEVEL_PX = quantize.BOUND_PX / 127
"""What a quantization level stands for."""

AVX2 = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+popcnt,+sse4.2"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("--videos", type=Path, nargs="+", help="files; default: those of ../shared/data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--avx2", action="store_true", help="compile for AVX2 although this machine may have more")
    arguments = parser.parse_args()
    if arguments.avx2 and simd.INSTRUCTIONS != "AVX2":
        # What Numba compiles for is settled when it is imported.
        raise SystemExit(subprocess.run([sys.executable, *sys.argv], env=os.environ | AVX2, check=False).returncode)
    cv2.setNumThreads(1)
    print(
        f"vectors of {simd.INSTRUCTIONS}, OpenCV {cv2.__version__}, Numba {numba.__version__}, {os.cpu_count()} cores"
    )
    WHAT[arguments.what](arguments)


# Pairs ---------------------------------------------------------------------------------------------


def grey_frames(path: Path, seconds: float = 10.0) -> np.ndarray:
    """uint8 [T, H, W]."""
    clip = video.trim(video.probe(path), 0.0, seconds, min_seconds=0.0)
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip.frames])


def videos_of(arguments: argparse.Namespace) -> list[Path]:
    if arguments.videos:
        return arguments.videos
    paths = [*sorted((DATA / "kinetics").glob("*.m*")), *sorted((DATA / "related").glob("*.*"))]
    if not paths:
        raise SystemExit(f"{DATA} is not here: name some --videos")
    return paths


def real_pairs(arguments: argparse.Namespace) -> list[tuple[str, np.ndarray]]:
    """(name, uint8 [2, H, W]) of pairs in which something moves."""
    pairs = []
    for path in videos_of(arguments):
        try:
            grey = grey_frames(path)
        except ClipError as error:
            print(f"{path.name}: {error}", file=sys.stderr)
            continue
        for third in (1, 2):
            k = len(grey) * third // 3
            while k + 2 < len(grey) and np.array_equal(grey[k], grey[k + 1]):  # a frame shown twice
                k += 1
            pairs.append((f"{path.stem[:24]} {k}", grey[k : k + 2]))
    return pairs


# Engines -------------------------------------------------------------------------------------------


class Ours:
    """The engine, frame by frame, and how many pixel-iterations it took."""

    def __init__(self, pair: np.ndarray):
        self.workspace = numba_kernels.Workspace(*pair.shape[1:], PARAMETERS)
        self.pair = pair

    def timed(self) -> tuple[float, np.ndarray]:
        # In a clip each frame is taken in once; so here the first is taken in before the clock starts.
        self.workspace.add(self.pair[0])
        begun = time.perf_counter()
        self.workspace.add(self.pair[1])
        field, self.pixel_iterations = self.workspace.flow()
        return time.perf_counter() - begun, field


class OpenCV:
    """OpenCV's CPU class."""

    def __init__(self, pair: np.ndarray, **parameters):
        self.solver = cv2.optflow.DualTVL1OpticalFlow_create(**parameters)
        self.pair = pair

    def timed(self) -> tuple[float, np.ndarray]:
        begun = time.perf_counter()
        field = self.solver.calc(*self.pair, None)
        return time.perf_counter() - begun, field


LIKE_CUDA = {"outerIterations": 1, "innnerIterations": PARAMETERS.iterations, "medianFiltering": 1}


# Speed ---------------------------------------------------------------------------------------------


def speed(arguments: argparse.Namespace) -> None:
    floor_ns = measured_floor_ns()
    print(f"floor: {floor_ns:.3f} ns a pixel-iteration, the arithmetic alone, in registers, nothing to wait for")
    print(f"\n{'':30} ms a pair, median (range)                 times OpenCV       pixel-iterations")
    print(f"{'pair':30}  tvl1                  like CUDA defaults  like CUDA defaults million   ns of floor")
    rows = [_speed_of(name, pair, arguments.rounds, floor_ns) for name, pair in real_pairs(arguments)]
    ours, like_cuda, defaults, work = (np.array(column) for column in zip(*rows))
    print(
        f"median of the {len(rows)} ratios: {np.median(like_cuda / ours):.1f} times OpenCV like CUDA, "
        f"{np.median(defaults / ours):.1f} times its defaults"
    )
    print(
        f"all {len(rows)} together: {ours.mean():.1f} ms, {like_cuda.mean():.0f} ms, {defaults.mean():.0f} ms a pair: "
        f"{like_cuda.sum() / ours.sum():.1f} and {defaults.sum() / ours.sum():.1f} times; "
        f"{work.mean():.1f} million pixel-iterations, {ours.sum() / work.sum():.3f} ns, "
        f"{floor_ns * work.sum() / ours.sum():.0%} of the floor's speed"
    )
    _threads(arguments)


def _speed_of(name: str, pair: np.ndarray, rounds: int, floor_ns: float) -> tuple[float, ...]:
    engines = Ours(pair), OpenCV(pair, **LIKE_CUDA), OpenCV(pair)
    engines[0].timed()  # compiles
    seconds = [[], [], []]
    for _ in range(rounds):
        for engine, taken in zip(engines, seconds):
            # The first is over so soon that it may fall into a hole of the machine's.
            taken.extend(engine.timed()[0] for _ in range(5 if engine is engines[0] else 1))
    ours, like_cuda, defaults = (statistics.median(taken) * 1e3 for taken in seconds)
    work = engines[0].pixel_iterations / 1e6
    spread = f"({min(seconds[0]) * 1e3:.1f} to {max(seconds[0]) * 1e3:.1f})"
    opencv_spread = " ".join(f"({min(taken) * 1e3:.0f} to {max(taken) * 1e3:.0f})" for taken in seconds[1:])
    print(
        f"{name:30} {ours:5.1f} {spread:16} {like_cuda:7.0f} {defaults:8.0f} {like_cuda / ours:9.1f}"
        f" {defaults / ours:8.1f} {work:7.1f} {ours / work:4.2f} {floor_ns * work / ours:8.0%}"
        f"   OpenCV's ranges {opencv_spread}",
        flush=True,
    )
    return ours, like_cuda, defaults, work


def _threads(arguments: argparse.Namespace) -> None:
    """Whole clips: one on one thread, then as many at a time as there are cores."""
    engine, cores = flow.engine("tvl1"), len(os.sched_getaffinity(0))
    for path in videos_of(arguments):
        grey = grey_frames(path)
        if len(grey) < 200:
            continue  # whole clips only
        alone, together = [], []
        for _ in range(arguments.rounds):
            alone.append(_clips(engine, [grey]))
            together.append(_clips(engine, [grey] * cores))
        one, many = statistics.median(alone), statistics.median(together)
        print(
            f"{path.stem[:24]}, {len(grey)} frames of {grey.shape[2]}x{grey.shape[1]}: {one:.2f} s on one core, "
            f"{len(grey) / one:.0f} pairs/s; {cores} such clips on {cores} cores {many:.2f} s: "
            f"{cores * one / many:.2f} times the work of one"
        )


def _clips(engine, clips: list[np.ndarray]) -> float:
    def run(grey):
        for _ in engine.flows(grey, PARAMETERS):
            pass

    begun = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(len(clips)) as pool:
        list(pool.map(run, clips))
    return time.perf_counter() - begun


def measured_floor_ns() -> float:
    """ns a pixel-iteration: `arithmetic_only` at its best of many tries."""
    rounds = 20_000
    arithmetic_only(np.float32(1), rounds)
    best = min(_seconds(arithmetic_only, np.float32(1), rounds) for _ in range(50))
    return best / rounds / simd.LANES * 1e9


def _seconds(function, *arguments) -> float:
    begun = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - begun


@numba.njit
def arithmetic_only(number, rounds):
    """The operations of one iteration on sixteen pixels, `rounds` times, on eight chains that do not wait for each
    other: 2 square roots, and 40 others that share its two pipes, 29 in the equations and 11 around them."""
    c = splat(number)
    a0, a1, a2, a3, a4, a5, a6, a7 = c, c + c, c * c, c, c + c, c * c, c, c
    r0, r1 = c, c
    for _ in range(rounds):
        r0, r1 = sqrt(a0), sqrt(a1)
        for _ in range(4):
            a0, a1, a2, a3 = fma(a0, c, c), fma(a1, c, c), fma(a2, c, c), fma(a3, c, c)
            a4, a5, a6, a7 = fma(a4, c, c), fma(a5, c, c), fma(a6, c, c), fma(a7, c, c)
        # The roots go on into the chains: what nobody uses LLVM would leave out.
        a0, a1, a2, a3 = fma(a0, c, c), fma(a1, c, c), fma(a2, c, r0), fma(a3, c, r1)
        a4, a5, a6, a7 = fma(a4, c, c), fma(a5, c, c), fma(a6, c, c), fma(a7, c, c)
    return total(a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7)


# Accuracy ------------------------------------------------------------------------------------------


def accuracy(arguments: argparse.Namespace) -> None:
    print("\nbeside the float64 reference:     tvl1                                   float32 NumPy")
    print("pair                              mean px    largest  over a level off    mean px  over a level off")
    rows = []
    for name, pair in real_pairs(arguments):
        reference = numpy_kernels.flow_of_pair(*pair, PARAMETERS)
        plain = numpy_kernels.flow_of_pair(*pair, PARAMETERS, dtype=np.float32)
        mean, largest, off = difference(Ours(pair).timed()[1], reference)
        plain_mean, _, plain_off = difference(plain, reference)
        rows.append((mean, off, plain_mean, plain_off))
        print(
            f"{name:30} {mean:10.6f} {largest:10.4f} {off:15.4%} {plain_mean:14.6f} {plain_off:15.4%}",
            flush=True,
        )
    means, offs, plain_means, plain_offs = np.array(rows).T
    within = np.count_nonzero((means <= 0.01) & (offs <= 0.001))
    plain_within = np.count_nonzero((plain_means <= 0.01) & (plain_offs <= 0.001))
    print(
        f"mean of {len(rows)} pairs: {means.mean():.5f} px, {offs.mean():.3%} of the pixels over a level off; "
        f"float32 NumPy {plain_means.mean():.5f} px, {plain_offs.mean():.3%}"
    )
    print(f"within 0.01 px and 0.1%: {within} of {len(rows)} pairs; float32 NumPy {plain_within}")
    here = _checksums(arguments, {})
    for name, environment in (
        ("AVX2", AVX2),
        ("none of them", {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}),
    ):
        other = _checksums(arguments, environment)
        same = sum(a == b for a, b in zip(here, other))
        print(f"compiled for {name}: {same} of {len(here)} pairs have the same bytes")


def difference(flow_px: np.ndarray, reference: np.ndarray) -> tuple[float, float, float]:
    """Mean and largest end-point difference, px, and the share of pixels more than one quantization level off."""
    epe = np.hypot(*np.moveaxis(flow_px - reference, -1, 0))
    off = np.abs(np.rint(flow_px / LEVEL_PX) - np.rint(reference / LEVEL_PX)) > 1
    return epe.mean(), epe.max(), off.any(axis=-1).mean()


def _checksums(arguments: argparse.Namespace, environment: dict[str, str]) -> list[str]:
    command = [
        sys.executable,
        __file__,
        "checksums",
        *(["--videos", *map(str, arguments.videos)] if arguments.videos else []),
    ]
    done = subprocess.run(command, env=os.environ | environment, check=True, capture_output=True, text=True)
    return re.findall(r"^[0-9a-f]{16}", done.stdout, re.M)


def checksums(arguments: argparse.Namespace) -> None:
    """What `accuracy` asks of itself, compiled for other instructions."""
    for name, pair in real_pairs(arguments):
        print(hashlib.sha256(Ours(pair).timed()[1]).hexdigest()[:16], name)


def truth(arguments: argparse.Namespace) -> None:
    folder = DATA / "flow_truth"
    print("\n                 mean end-point error, px")
    print("pair             tvl1   float64 reference   OpenCV, like CUDA   OpenCV, defaults   tvl1 over like CUDA")
    for place in sorted(folder.iterdir()):
        pair = np.stack([cv2.imread(str(place / f"frame{k}.png"), cv2.IMREAD_GRAYSCALE) for k in (10, 11)])
        known_flow = cv2.readOpticalFlow(str(place / "flow10.flo"))
        known = (np.abs(known_flow) < 1e9).all(axis=-1)
        fields = [engine.timed()[1] for engine in (Ours(pair), OpenCV(pair, **LIKE_CUDA), OpenCV(pair))]
        fields.insert(1, numpy_kernels.flow_of_pair(*pair, PARAMETERS))
        ours, reference, like_cuda, defaults = (
            np.hypot(*np.moveaxis(field - known_flow, -1, 0))[known].mean() for field in fields
        )
        print(
            f"{place.name:15} {ours:6.3f} {reference:19.3f} {like_cuda:19.3f} {defaults:18.3f}"
            f" {ours / like_cuda - 1:+21.1%}"
        )


# Profile -------------------------------------------------------------------------------------------


@numba.njit(nogil=True)
def _linearise(pair, settings, level, times):
    state = numba_kernels.state_of(pair, level)
    for _ in range(times):
        for y in range(state.height):
            numba_kernels._linearise(state, settings, y)


@numba.njit(nogil=True)
def _iterate(pair, settings, level, count, times):
    state = numba_kernels.state_of(pair, level)
    for _ in range(times):
        numba_kernels.iterate(state, settings, tvl1.GO_ON, count, True)


def profile(arguments: argparse.Namespace) -> None:
    name, pair = real_pairs(arguments)[0]
    ours = Ours(pair)
    whole, frame = [], []
    for _ in range(20):
        whole.append(ours.timed()[0])
        frame.append(_seconds(ours.workspace.add, pair[1]))
    ours.workspace.add(pair[0])
    ours.workspace.add(pair[1])
    work = ours.workspace
    arrays = numba_kernels.Pair(work.plan, work._fields, *work._pyramids, work._row)
    settings, sizes = work.settings, tvl1.level_sizes(*pair.shape[1:], PARAMETERS)
    print(f"{name}: {statistics.median(whole) * 1e3:.1f} ms, its new frame {statistics.median(frame) * 1e3:.2f} of it")
    print("\nlevel      one warp, ms   ns a pixel-iteration in passes of 2, 8, 32, 128")
    for level, (height, width) in enumerate(sizes):
        _linearise(arrays, settings, level, 1)
        warp = statistics.median(_seconds(_linearise, arrays, settings, level, 5) / 5 for _ in range(20))
        costs = []
        for count in (2, 8, 32, 128):
            _iterate(arrays, settings, level, count, 1)
            times = 128 // count
            seconds = statistics.median(_seconds(_iterate, arrays, settings, level, count, times) for _ in range(10))
            costs.append(seconds / 128 / height / width * 1e9)
        print(f"{width:4}x{height:<5} {warp * 1e3:9.3f}     " + "  ".join(f"{cost:5.3f}" for cost in costs))


WHAT = {"speed": speed, "accuracy": accuracy, "truth": truth, "profile": profile, "checksums": checksums}

if __name__ == "__main__":
    main()
