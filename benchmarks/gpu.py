"""The engine `tvl1-cuda` on a GPU: whether it is right, how fast it is, and where a run's time goes.

    python benchmarks/gpu.py 2>&1 | tee gpu.log   # all of it, some ten minutes: what to run where there is a GPU
    python benchmarks/gpu.py check                # against the CPU engine bit for bit, against the float64 reference
    python benchmarks/gpu.py sanitize             # a small check under compute-sanitizer's four tools
    python benchmarks/gpu.py speed                # beside OpenCV's CUDA class, the CPU engine, and the GPU's ceilings
    python benchmarks/gpu.py end-to-end           # `kinetics-prep flow`: clips a second, and what Kinetics-400 takes

Without a GPU:

    python benchmarks/gpu.py compile              # registers, spills and shared memory; needs nvcc
    python benchmarks/gpu.py emulated             # the kernels on real pairs, on the CPU; half an hour

Takes videos from --videos, by default the real ones of `../shared/data`. OpenCV's class is measured where OpenCV was
built with CUDA (pipelines/opencv_cuda/build_wheel.py); compute-sanitizer comes by `pip install
nvidia-cuda-sanitizer-api`, and what counts launches by `nvidia-cuda-cupti`. Exit code 1 if something is wrong, or
could not be looked at.
"""

import argparse
import concurrent.futures
import csv
import ctypes
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tvl1 as on_cpu
from stages import main as print_stages

from kinetics_prep import flow
from kinetics_prep.errors import ClipError
from kinetics_prep.flow import clip_flow, cuda_kernels, numpy_kernels
from kinetics_prep.flow.cuda import CLIPS_AT_A_TIME
from kinetics_prep.media import quantize

PARAMETERS = on_cpu.PARAMETERS
PASS_BYTES = (2 * 6 + 4) * 4
"""That a pass moves for each pixel at least: what varies, in and out, and what does not, in."""
KINETICS_400_ROWS = 306_245
SANITIZER_TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")

CHECKS = """
extern "C" __global__ void roots(const float *from, float *to, int numbers) {
    int k = blockIdx.x * blockDim.x + threadIdx.x;
    if (k < numbers) to[k] = sqrt_of(from[k]);
}

// An iteration's arithmetic, its exchanges between lanes and its reads of shared memory, without anything to wait for.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_A_MULTIPROCESSOR) arithmetic_only(
    float *result, int rounds, float tau, float taut, float least
) {
    extern __shared__ float4 shared_memory[];
    float *rows = (float *)shared_memory + threadIdx.x / WARP * (STAGES * CONSTANTS * SPAN);
    rows += threadIdx.x % WARP * PIXELS;
    for (int k = 0; k < STAGES * CONSTANTS; ++k) *(float2 *)(rows + k * SPAN) = make_float2(0.1f, 0.1f);
    Settings settings = {tau, taut, 0.045f, least, 1, 1, 0.01};
    Row above[STAGES] = {}, row = {};
    row.u1[0] = 0.001f * threadIdx.x;
    for (int round = 0; round < rounds; ++round) {
#pragma unroll
        for (int stage = 0; stage < STAGES; ++stage) {
            float changes[PIXELS];
            iterate_row(above[stage], row, rows + stage * CONSTANTS * SPAN, settings, 2, 1 << 20, false, changes);
        }
    }
    result[blockIdx.x * blockDim.x + threadIdx.x] = row.u1[0] + row.u2[1] + row.p11[0] + row.p22[1];
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["all", *WHAT, *WITHOUT_GPU], default="all")
    parser.add_argument("--videos", type=Path, nargs="+", help="files; default: those of ../shared/data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=96, help="of end-to-end; default: 96")
    parser.add_argument("--dollars-an-hour", type=float, default=3.0, help="that such a machine costs; default: 3")
    parser.add_argument("--small", action="store_true", help="of check: made-up pictures only, for compute-sanitizer")
    arguments = parser.parse_args()
    if arguments.what in WITHOUT_GPU:
        raise SystemExit(WITHOUT_GPU[arguments.what](arguments))
    missing = flow.ENGINES["tvl1-cuda"].usable()
    if missing:
        raise SystemExit(f"tvl1-cuda cannot run here: {missing}")
    describe()
    wrong = []
    for name in WHAT if arguments.what == "all" else [arguments.what]:
        print(f"\n== {name}", flush=True)
        wrong += WHAT[name](arguments)
    print("\n" + ("\n".join(f"WRONG: {what}" for what in wrong) or "nothing wrong"))
    raise SystemExit(1 if wrong else 0)


def describe() -> None:
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(0)
    print(
        f"{properties['name'].decode()}, {properties['multiProcessorCount']} multiprocessors, compute capability "
        f"{properties['major']}.{properties['minor']}; driver for CUDA {cupy.cuda.runtime.driverGetVersion()}, CuPy "
        f"{cupy.__version__}; {len(os.sched_getaffinity(0))} cores"
    )


# Right? --------------------------------------------------------------------------------------------


def check(arguments: argparse.Namespace) -> list[str]:
    """Names what is wrong."""
    wrong = _check_bits(arguments.small)
    if not arguments.small:
        wrong += _check_roots()
        wrong += _check_real_pairs(arguments)
    return wrong


def _check_bits(small: bool) -> list[str]:
    """Made-up pictures of odd sizes, fresh at each call, in memory that held something else before."""
    seed = int(time.time())
    rng, engine, wrong = np.random.default_rng(seed), flow.engine("tvl1-cuda"), []
    sizes = [(16, 16), (17, 31), (21, 65), (33, 113), (90, 18)]
    sizes += [] if small else [(256, 340), (256, 455), (256, 144), (455, 256), (131, 1000), (1000, 131), (720, 1280)]
    for height, width in sizes:
        _poison(256_000_000)
        block = int(rng.integers(1, 9))
        noise = rng.integers(0, 256, (3, -(-height // block), -(-width // block)), np.uint8)
        grey = np.kron(noise, np.ones((1, block, block), np.uint8))[:, :height, :width]
        parameters = flow.TVL1(iterations=20, scales=2, warps=2) if small else PARAMETERS
        found = np.stack(list(engine.flows(grey, parameters)))
        expected = np.stack(list(flow.engine("tvl1").flows(grey, parameters)))
        same = found.tobytes() == expected.tobytes()
        print(f"{width}x{height}, seed {seed}: {'the bits of the CPU' if same else 'OTHER BITS'}", flush=True)
        if not same:
            wrong.append(f"{width}x{height} with seed {seed}: other bits than on the CPU")
    return wrong


def _poison(count: int) -> None:
    """Leaves bytes behind in the GPU's memory that are no numbers."""
    import cupy

    memory = cupy.empty(count, np.uint8)
    memory.data.memset(0xFF, count)
    del memory
    cupy.get_default_memory_pool().free_all_blocks()


def _kernel(name: str):
    import cupy

    from kinetics_prep.flow import cupy_device

    module = cupy.cuda.function.Module()
    source = cuda_kernels.SOURCE.read_text("utf-8") + CHECKS
    module.load(cupy_device.compiled(source, cupy.cuda.Device().compute_capability))
    return module.get_function(name)


def _check_roots() -> list[str]:
    import cupy

    numbers = np.arange(0x3F800000, 0x40800000, dtype=np.uint32).view(np.float32)  # every significand, from 1 to 4
    there, back = cupy.asarray(numbers), cupy.empty(len(numbers), np.float32)
    _kernel("roots")((len(numbers) // 256,), (256,), (there, back, np.int32(len(numbers))))
    off = int(np.count_nonzero(back.get() != np.sqrt(numbers)))
    print(f"square roots: {off} of {len(numbers)} not rounded as IEEE 754 has it")
    return [f"{off} square roots are off"] if off else []


def _check_real_pairs(arguments: argparse.Namespace) -> list[str]:
    engine, wrong, rows = flow.engine("tvl1-cuda"), [], []
    print("pair                            of the CPU's bits   beside float64: mean px   over a level off")
    for name, pair in on_cpu.real_pairs(arguments):
        (found,), (expected,) = (list(flow.engine(one).flows(pair, PARAMETERS)) for one in ("tvl1-cuda", "tvl1"))
        same = found.tobytes() == expected.tobytes()
        mean, _, off = on_cpu.difference(found, numpy_kernels.flow_of_pair(*pair, PARAMETERS))
        rows.append((mean, off))
        print(f"{name:30}  {'all' if same else 'NOT ALL':>17}   {mean:23.5f}   {off:16.3%}", flush=True)
        for quantizer in quantize.QUANTIZERS:
            ((levels, beyond),) = engine.quantized(pair, PARAMETERS, quantizer, quantize.BOUND_PX, [])
            same &= np.array_equal(levels, quantize.quantize(expected, quantizer))
            same &= beyond == quantize.saturated_count(expected)
        if not same:
            wrong.append(f"{name}: other bits than on the CPU")
    mean, off = np.mean(rows, axis=0)
    print(f"mean of {len(rows)} pairs: {mean:.5f} px, {off:.3%} of the pixels over a level off")
    return wrong


def sanitize(arguments: argparse.Namespace) -> list[str]:
    """`check --small` under each of compute-sanitizer's tools."""
    beside = Path(sysconfig.get_path("purelib")) / "nvidia/cu13/bin/compute-sanitizer"
    tool = shutil.which("compute-sanitizer") or (str(beside) if beside.exists() else None)
    if tool is None:
        return ["compute-sanitizer is not here: pip install nvidia-cuda-sanitizer-api"]
    wrong = []
    for name in SANITIZER_TOOLS:
        command = [tool, "--tool", name, "--error-exitcode", "9", sys.executable, __file__, "check", "--small"]
        done = subprocess.run(command, capture_output=True, text=True)
        summary = [line for line in done.stdout.splitlines() if "SUMMARY" in line]
        print(f"{name}: exit code {done.returncode}; {'; '.join(summary) or done.stdout[-2000:] + done.stderr[-2000:]}")
        if done.returncode:
            wrong.append(f"compute-sanitizer --tool {name}")
    return wrong


# Fast? ---------------------------------------------------------------------------------------------


def speed(arguments: argparse.Namespace) -> list[str]:
    """Whole clips: ours alone, several of ours at a time, OpenCV's, in turns; and the CPU engine on one core."""
    bandwidth, floor_ns = measured_bandwidth(), measured_floor_ns()
    print(
        f"ceilings: {bandwidth / 1e9:.0f} GB/s copied, read and written; {floor_ns * 1e3:.2f} ps a pixel-iteration, the"
    )
    print("arithmetic alone")
    opencv = flow.ENGINES["opencv-cuda"].usable()
    if opencv:
        print(f"opencv-cuda is not measured: {opencv}")
    print(f"\n{'':26}        ms a pair, median                        times         launches a clip   of the ceilings")
    print(
        f"{'clip':26}  size     {CLIPS_AT_A_TIME} at once  alone  OpenCV  a CPU core  OpenCV  core   ours  OpenCV",
        end="",
    )
    print("    copying  arithmetic")
    ratios, ours = [], []
    for path in on_cpu.videos_of(arguments):
        try:
            grey = on_cpu.grey_frames(path)
        except ClipError:
            continue
        if len(grey) >= 200:  # whole clips only
            result = _speed_of(path.stem[:26], grey, arguments.rounds, opencv is None, bandwidth, floor_ns)
            ours.append(result[0])
            ratios.append(result[1])
    if not ours:
        return ["speed: no video lasts 8 s"]
    print(f"median: {statistics.median(ours):.3f} ms a pair, {1e3 / statistics.median(ours):.0f} pairs/s", end="")
    print(f"; {statistics.median(ratios):.1f} times OpenCV's CUDA class" if opencv is None else "")
    return []


def _speed_of(name: str, grey: np.ndarray, rounds: int, with_opencv: bool, bandwidth: float, floor_ns: float):
    ours, pairs = flow.engine("tvl1-cuda"), len(grey) - 1
    theirs = flow.engine("opencv-cuda") if with_opencv else None
    work = _work_of(grey)
    _seconds(ours, [grey] * CLIPS_AT_A_TIME)  # memory and streams are there from now on
    together, alone, opencv = [], [], []
    for _ in range(rounds):
        together.append(_seconds(ours, [grey] * CLIPS_AT_A_TIME) / CLIPS_AT_A_TIME)
        alone.append(_seconds(ours, [grey]))
        if theirs:
            opencv.append(_seconds(theirs, [grey]))
    few = np.stack([grey[k : k + 2] for k in range(0, pairs, 10)])
    core = sum(on_cpu.Ours(pair).timed()[0] for pair in few) / len(few) * pairs
    best = statistics.median(together)
    their = statistics.median(opencv) if opencv else float("nan")
    iterations, passes = work
    print(
        f"{name:26}  {grey.shape[2]}x{grey.shape[1]}  {best / pairs * 1e3:9.3f}  "
        f"{statistics.median(alone) / pairs * 1e3:5.3f}  {their / pairs * 1e3:6.2f}  {core / pairs * 1e3:10.1f}  "
        f"{their / best:6.1f}  {core / best:4.0f}   {_launches_of(lambda: _seconds(ours, [grey])):>4}  "
        f"{_launches_of(lambda: _seconds(theirs, [grey])) if theirs else '-':>6}"
        f"  {passes * PASS_BYTES / best / bandwidth:8.0%}  {iterations * floor_ns * 1e-9 / best:10.0%}",
        flush=True,
    )
    return best / pairs * 1e3, their / best


def _seconds(engine, clips: list[np.ndarray]) -> float:
    """Of so many clips at a time, each to quantized levels in this process's memory."""

    def run(grey):
        for _ in clip_flow.quantized_fields(engine, grey, PARAMETERS, "symmetric", quantize.BOUND_PX, []):
            pass

    with concurrent.futures.ThreadPoolExecutor(len(clips)) as pool:
        begun = time.perf_counter()
        list(pool.map(run, clips))
        return time.perf_counter() - begun


def _work_of(grey: np.ndarray) -> tuple[int, int]:
    """Pixel-iterations and pixel-passes of a clip."""
    from kinetics_prep.flow.cupy_device import CuPyGPU

    stream = CuPyGPU(0, None).stream()
    with stream.current():
        layout = cuda_kernels.layout_of(*grey.shape[1:], PARAMETERS)
        return tuple(map(int, cuda_kernels.flow_of(stream, grey, PARAMETERS, layout, "symmetric")[2].sum(axis=0)))


class _CallbackData(ctypes.Structure):
    """The beginning of CUPTI's CUpti_CallbackData."""

    _fields_ = (("site", ctypes.c_int), ("function", ctypes.c_char_p))


_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.POINTER(_CallbackData))
_DRIVER_API, _ENTER = 1, 0


def _launches_of(run: Callable[[], object]) -> str:
    """How many kernels are launched meanwhile, by anyone in this process; CUPTI tells."""
    beside = Path(sysconfig.get_path("purelib")) / "nvidia/cu13/lib/libcupti.so.13"
    try:
        cupti = ctypes.CDLL(str(beside) if beside.exists() else "libcupti.so")
    except OSError:
        return "-"  # pip install nvidia-cuda-cupti
    launched = [0]

    @_CALLBACK
    def count(_data, _domain, _number, call):
        launched[0] += call.contents.site == _ENTER and call.contents.function.startswith(b"cuLaunch")

    subscriber = ctypes.c_void_p()
    if cupti.cuptiSubscribe(ctypes.byref(subscriber), count, None):
        return "-"
    try:
        cupti.cuptiEnableDomain(1, subscriber, _DRIVER_API)
        run()
    finally:
        cupti.cuptiUnsubscribe(subscriber)
    return str(launched[0])


def measured_bandwidth() -> float:
    """Bytes a second that a copy within the GPU reads and writes."""
    import cupy

    count = 1 << 30
    one, other = cupy.empty(count, np.uint8), cupy.empty(count, np.uint8)
    return 2 * count / min(_gpu_seconds(lambda: other.data.copy_from_device(one.data, count)) for _ in range(20))


def measured_floor_ns() -> float:
    """ns a pixel-iteration: `arithmetic_only` at its best, on all multiprocessors."""
    import cupy

    kernel, rounds, driver = _kernel("arithmetic_only"), 2000, cupy.cuda.driver
    attribute = driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    driver.funcSetAttribute(kernel.ptr, attribute, cuda_kernels.SHARED_BYTES)
    blocks = cupy.cuda.Device().attributes["MultiProcessorCount"] * cuda_kernels.BLOCKS_A_MULTIPROCESSOR
    result = cupy.empty(blocks * cuda_kernels.THREADS, np.float32)
    numbers = np.int32(rounds), np.float32(0.25), np.float32(0.25 / 0.3), np.float32(cuda_kernels.LEAST)

    def run():
        kernel((blocks,), (cuda_kernels.THREADS,), (result, *numbers), shared_mem=cuda_kernels.SHARED_BYTES)

    run()
    pixels = blocks * cuda_kernels.THREADS * cuda_kernels.SPAN // cuda_kernels.WARP
    return min(_gpu_seconds(run) for _ in range(10)) / rounds / cuda_kernels.STAGES / pixels * 1e9


def _gpu_seconds(start) -> float:
    import cupy

    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    begin.record()
    start()
    end.record()
    end.synchronize()
    return cupy.cuda.get_elapsed_time(begin, end) / 1e3


# A whole run ---------------------------------------------------------------------------------------


def end_to_end(arguments: argparse.Namespace) -> list[str]:
    """`kinetics-prep flow` over copies of the videos, on the GPU and, for a quarter of them, on the CPU."""
    videos = on_cpu.videos_of(arguments)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        for split, engine, clips in (
            ("test", "tvl1-cuda", 2),  # compiles and opens everything
            ("train", "tvl1-cuda", arguments.clips),
            ("val", "tvl1", max(2, arguments.clips // 4)),
        ):
            rows = [(f"{split}{k:04d}", videos[k % len(videos)]) for k in range(clips)]
            for name, path in rows:
                (folder / f"{name}{path.suffix}").symlink_to(path.resolve())
            with (folder / f"{split}.csv").open("w", newline="") as file:
                csv.writer(file).writerows(("moving", name, 0, 10, split) for name, _ in rows)
            seconds = _run(folder, split, engine)
            if split != "test":
                hours = seconds / clips * KINETICS_400_ROWS / 3600
                print(
                    f"{engine}: {clips} clips in {seconds:.1f} s, {clips / seconds:.2f} clips/s. Kinetics-400, "
                    f"{KINETICS_400_ROWS} rows: {hours:.0f} h, {hours * arguments.dollars_an_hour:.0f} dollars"
                )
                print_stages(folder / f"{split}-out")
    return []


def _run(folder: Path, split: str, engine: str) -> float:
    command = [sys.executable, "-m", "kinetics_prep", "flow", "--annotations", str(folder / f"{split}.csv")]
    command += ["--videos", str(folder), "--output", str(folder / f"{split}-out"), "--engine", engine]
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun


def compile_only(arguments: argparse.Namespace) -> str | None:
    """What the CUDA compiler says of the kernels."""
    if shutil.which("nvcc") is None:
        return "nvcc is not on the PATH"
    with tempfile.TemporaryDirectory() as folder:
        for architecture in ("sm_75", "sm_80", "sm_90"):
            command = ["nvcc", "-cubin", f"-arch={architecture}", *cuda_kernels.OPTIONS, "-Xptxas", "-v"]
            command += ["-o", f"{folder}/cubin", str(cuda_kernels.SOURCE)]
            report = subprocess.run(command, check=True, capture_output=True, text=True).stderr
            for name in cuda_kernels.KERNELS:
                lines = report.partition(f"entry function '{name}'")[2].splitlines()
                print(f"{architecture} {name}: {lines[2].strip()}; {lines[3].partition('Used ')[2]}")
    print(f"flow_between, shared memory of {cuda_kernels.THREADS} threads: {cuda_kernels.SHARED_BYTES} bytes")
    return None


def emulated(arguments: argparse.Namespace) -> str | None:
    """The kernels as the tests run them without a GPU, on real pairs."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "flow"))
    from cuda_on_cpu import EmulatedGPU

    pairs = on_cpu.real_pairs(arguments)
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:

        def run(pair: tuple[str, np.ndarray]) -> tuple[bool, float, float]:
            name, grey = pair
            layout = cuda_kernels.layout_of(*grey.shape[1:], PARAMETERS)
            found, _, work = cuda_kernels.flow_of(EmulatedGPU().stream(), grey, PARAMETERS, layout, None)
            (expected,) = flow.engine("tvl1").flows(grey, PARAMETERS)
            same = found[0].tobytes() == expected.tobytes()
            iterations, passes = work[0] / 1e6
            print(f"{name:30}  {iterations:6.1f} M pixel-iterations in {passes:5.1f} M pixel-passes: ", end="")
            print("the bits of the CPU" if same else "OTHER BITS", flush=True)
            return same, iterations, passes

        same, iterations, passes = map(sum, zip(*pool.map(run, pairs)))
    print(f"{same} of {len(pairs)} pairs have the bits of the CPU; in the mean of them ", end="")
    print(f"{iterations / len(pairs):.1f} M pixel-iterations in {passes / len(pairs):.1f} M pixel-passes")
    return None if same == len(pairs) else "the kernels are wrong"


WHAT = {"check": check, "sanitize": sanitize, "speed": speed, "end-to-end": end_to_end}
WITHOUT_GPU = {"compile": compile_only, "emulated": emulated}

if __name__ == "__main__":
    main()
