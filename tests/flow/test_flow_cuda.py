"""The engine `tvl1-cuda` without a GPU: `cuda_on_cpu` runs its kernels; the host's part is the real one.

Against the CPU engine, whose bits it has to give. On a GPU `benchmarks/gpu.py` does the same with real clips.
"""

import concurrent.futures
import ctypes
import dataclasses
import platform
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import cuda_on_cpu
import numpy as np
import pytest
from cuda_on_cpu import EmulatedGPU

from kinetics_prep import flow
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.flow import TVL1, clip_flow, cuda_kernels
from kinetics_prep.flow.clip_flow import quantized_flow
from kinetics_prep.flow.cuda import CLIPS_AT_A_TIME, GPU, TVL1CUDA
from kinetics_prep.flow.cuda_kernels import DeviceFailed, DeviceOutOfMemory
from kinetics_prep.flow.flow_engine import GPUFailed
from kinetics_prep.media import quantize
from kinetics_prep.media.clip import Clip
from kinetics_prep.runs.fingerprint import fingerprint_by

pytestmark = pytest.mark.skipif(cuda_on_cpu.missing() is not None, reason=str(cuda_on_cpu.missing()))

QUICK = TVL1(scales=2, warps=2, iterations=5)


def moving(frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 [frames, H, W]: a smooth picture that moves by (2, -1) px a frame."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(float)
    waves = rng.normal(size=(6, 3)) * (0.3, 0.3, 3)
    pictures = [sum(np.sin(a * (x - 2 * t) + b * (y + t) + c) for a, b, c in waves) for t in range(frames)]
    return ((np.stack(pictures) + 6) * 21).astype(np.uint8)


def noise(frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width), np.uint8)


def engine_on(*gpus: EmulatedGPU) -> TVL1CUDA:
    return TVL1CUDA(gpus=[GPU(f"GPU {index}", gpu.open) for index, gpu in enumerate(gpus)])


@pytest.fixture
def cuda() -> TVL1CUDA:
    return engine_on(EmulatedGPU())


def flow_of(engine, grey: np.ndarray, tvl1: TVL1 = QUICK) -> np.ndarray:
    return np.stack(list(engine.flows(grey, tvl1)))


def flow_on_cpu(grey: np.ndarray, tvl1: TVL1 = QUICK) -> np.ndarray:
    return flow_of(flow.engine("tvl1"), grey, tvl1)


# The kernels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("height, width", [(16, 16), (17, 31), (40, 64), (21, 65), (33, 113), (20, 130), (90, 18)])
def test_it_gives_the_bits_of_the_cpu(cuda, height, width):
    grey = moving(3, height, width)
    assert np.array_equal(flow_of(cuda, grey, TVL1()), flow_on_cpu(grey, TVL1()))


@pytest.mark.parametrize("iterations", [*range(1, 10), 14, 16, 31])
def test_any_number_of_iterations_gives_the_bits_of_the_cpu(cuda, iterations):
    """However the iterations are divided into passes."""
    grey, tvl1 = moving(2, 24, 70), TVL1(scales=2, warps=2, iterations=iterations)
    assert np.array_equal(flow_of(cuda, grey, tvl1), flow_on_cpu(grey, tvl1))


@pytest.mark.parametrize("tvl1", [TVL1(tau=0.1, lambda_=0.05, theta=0.1), TVL1(scale_step=0.5, epsilon=0.2, warps=3)])
def test_other_parameters_give_the_bits_of_the_cpu(cuda, tvl1):
    grey = moving(2, 40, 52)
    assert np.array_equal(flow_of(cuda, grey, tvl1), flow_on_cpu(grey, tvl1))


def test_torn_motion_and_flat_pictures_give_the_bits_of_the_cpu(cuda):
    """Flow vectors that cross and point out of the picture; gradients that are zero."""
    grey = noise(4, 30, 66)
    grey[2:, 8:20, 10:50] = 7
    tvl1 = TVL1(lambda_=1.0, iterations=40)
    assert np.array_equal(flow_of(cuda, grey, tvl1), flow_on_cpu(grey, tvl1))


def test_two_equal_frames_have_no_flow(cuda):
    assert not flow_of(cuda, np.repeat(noise(1, 20, 20), 2, axis=0)).any()


def test_the_order_of_threads_does_not_matter():
    """If it does, a barrier is missing somewhere."""
    grey, tvl1 = moving(2, 40, 70), TVL1(scales=2, warps=2, iterations=20)
    for seed in range(5):
        assert np.array_equal(flow_of(engine_on(EmulatedGPU(seed=seed)), grey, tvl1), flow_on_cpu(grey, tvl1))


@pytest.mark.parametrize("blocks", [1, 3, 7])
def test_the_number_of_blocks_does_not_matter(blocks):
    grey = moving(5, 20, 40)
    assert np.array_equal(flow_of(engine_on(EmulatedGPU(blocks=blocks)), grey), flow_on_cpu(grey))


@pytest.mark.parametrize("quantizer", quantize.QUANTIZERS)
def test_levels_and_counts_are_those_of_quantize(cuda, quantizer):
    grey, notes = moving(3, 20, 40), []
    bound = 1.5  # px, so that many lie beyond
    computed = list(cuda.quantized(grey, QUICK, quantizer, bound, notes))
    fields = flow_on_cpu(grey)
    assert notes == [] and len(computed) == 2
    for (levels, beyond), field in zip(computed, fields):
        assert np.array_equal(levels, quantize.quantize(field, quantizer, bound))
        assert beyond == quantize.saturated_count(field, bound) > 0


def test_its_numbers_of_quantizers_are_those_of_the_table():
    assert set(cuda_kernels.QUANTIZERS) == set(quantize.QUANTIZERS)


def test_square_roots_are_rounded_as_in_ieee_754():
    """For every significand, from guesses as bad as a GPU may make."""
    numbers = np.arange(0x3F800000, 0x40800000, dtype=np.uint32).view(np.float32)  # 1 to 4
    few = np.array([cuda_kernels.LEAST, 2.0**-99 * 1.1, 1e-12, 7e9, 3e37], np.float32)
    for values in (numbers, few):
        roots = np.empty_like(values)
        cuda_on_cpu.library().roots(*(x.ctypes.data_as(ctypes.c_void_p) for x in (values, roots)), len(values))
        assert np.array_equal(roots, np.sqrt(values))


def test_what_the_root_leaves_out_is_swallowed_anyway():
    taut, least = np.float32(cuda_kernels.LARGEST_TAUT), np.float32(cuda_kernels.LEAST)
    assert np.float32(float(taut) * float(np.sqrt(least)) + 1.0) == 1.0


def test_parameters_that_need_smaller_roots_are_left_to_the_cpu(cuda):
    tvl1 = TVL1(theta=1e-9, iterations=2, scales=1)
    with pytest.raises(GPUFailed, match="takes tau / theta up to"):
        flow_of(cuda, moving(2, 16, 16), tvl1)


def test_tau_over_theta_may_be_as_large_as_the_limit():
    theta = 2.0**-20
    assert cuda_kernels.supports(TVL1(tau=theta * cuda_kernels.LARGEST_TAUT, theta=theta))
    assert not cuda_kernels.supports(TVL1(tau=theta * cuda_kernels.LARGEST_TAUT * 1.001, theta=theta))


NVCC = shutil.which("nvcc")


@pytest.mark.skipif(NVCC is None, reason="nvcc is not here")
@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_90"])
def test_the_cuda_compiler_takes_it_and_two_blocks_fit_a_multiprocessor(architecture, tmp_path):
    command = [
        NVCC,
        "-cubin",
        f"-arch={architecture}",
        *cuda_kernels.OPTIONS,
        "-Xptxas",
        "-v",
        "-o",
        tmp_path / "cubin",
    ]
    done = subprocess.run([*command, str(cuda_kernels.SOURCE)], capture_output=True, text=True, check=True)
    report = done.stderr.partition("entry function 'flow_between'")[2]
    registers = int(re.search(r"Used (\d+) registers", report)[1])
    assert registers * cuda_kernels.THREADS * cuda_kernels.BLOCKS_A_MULTIPROCESSOR <= 65536
    assert "warning" not in done.stderr


@pytest.mark.skipif(NVCC is None, reason="nvcc is not here")
def test_compiled_by_these_options_the_smallest_numbers_stay(tmp_path):
    command = [NVCC, "-ptx", "-arch=compute_80", *cuda_kernels.OPTIONS, "-o", str(tmp_path / "ptx")]
    subprocess.run([*command, str(cuda_kernels.SOURCE)], check=True)
    code = (tmp_path / "ptx").read_text()
    assert set(re.findall(r"\S+\.ftz\S*", code)) == {"rsqrt.approx.ftz.f32"}
    assert "fma.rn.f32" in code and "div.rn.f32" in code and "sqrt.rn.f32" in code


def test_nvrtc_compiles_it_and_keeps_the_code(tmp_path, monkeypatch):
    pytest.importorskip("cupy", reason="CuPy is not here")
    from kinetics_prep.flow import cupy_device

    try:
        cupy_device.cupy.cuda.nvrtc.getVersion()
    except RuntimeError:
        pytest.skip("NVRTC is not here")
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    source = cuda_kernels.SOURCE.read_text("utf-8")
    code = cupy_device.compiled(source, "80")
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    assert code[:4] == b"\x7fELF" and whole.endswith(code)
    kept.write_bytes(whole[:-1] + b"?")  # damaged: not loaded, but compiled anew
    assert cupy_device.compiled(source, "80") == code
    with pytest.raises(DeviceFailed, match="does not compile for sm_80: .*error"):
        cupy_device.compiled(source + "?", "80")


# Memory --------------------------------------------------------------------------------------------


def test_strips_reach_to_the_end_of_a_row_and_not_beyond():
    for width in range(1, 700):
        strips = 1 if width <= cuda_kernels.SPAN else 1 + -(-(width - cuda_kernels.SPAN) // cuda_kernels.STEP)
        ends = (strips - 1) * cuda_kernels.STEP + cuda_kernels.SPAN
        assert width <= ends <= cuda_kernels.pitch_of(width) < ends + 16 and cuda_kernels.pitch_of(width) % 16 == 0


def test_as_many_frames_at_a_time_as_fit():
    layout = cuda_kernels.layout_of(256, 340, TVL1())
    assert layout.frames_within(1 << 40, 251, 264) == 251
    few = layout.frames_within(500_000_000, 251, 264)
    assert 2 < few < 251 and layout.bytes(few, 264) <= 500_000_000
    assert layout.frames_within(1, 251, 264) == 2


def test_memory_is_counted_to_the_byte():
    """One level of 20x40 pixels, in rows of 64 numbers."""
    layout = cuda_kernels.layout_of(20, 40, TVL1(scales=1))
    assert layout.levels.tolist() == [[20, 40, 64, 0]]
    assert layout.pyramid_numbers == 3 * 20 * 64  # a frame and its gradient in x and y
    assert layout.field_numbers == 21_792  # 17 planes and 20 sums, 21,780 numbers, in whole lines of 32
    assert layout.frame_bytes == 3840 * 4 + 20 * 40 * (1 + 8)  # uint8 in, two float32 out
    assert layout.bytes(3, 1) == 3 * layout.frame_bytes + 21_792 * 4
    assert layout.bytes(3, 7) == 3 * layout.frame_bytes + 2 * 21_792 * 4  # two pairs need two blocks


def test_levels_follow_each_other_in_a_pyramid():
    layout = cuda_kernels.layout_of(40, 50, TVL1(scales=2, scale_step=0.5))
    assert layout.levels.tolist() == [[40, 50, 64, 0], [20, 25, 64, 3 * 40 * 64]]
    assert layout.pyramid_numbers == 3 * (40 + 20) * 64


def test_frames_at_a_time_fit_a_clips_share_and_never_grow_again():
    layout, device = cuda_kernels.layout_of(20, 40, QUICK), EmulatedGPU().stream()
    gpu = GPU("GPU 0", EmulatedGPU(memory_bytes=CLIPS_AT_A_TIME * layout.bytes(5, 2)).open)
    with gpu.borrowed_stream():
        assert gpu.frames_at_a_time(device, layout, 5) == 5
        assert gpu.frames_at_a_time(device, layout, 9) == 5
        assert gpu.frames_at_a_time(device, layout, 6) == 4
    assert gpu.take_less(layout, 5) and gpu.frames_at_a_time(device, layout, 9) == 3
    assert gpu.take_less(layout, 9) and gpu.frames_at_a_time(device, layout, 9) == 3
    assert gpu.take_less(layout, 3) and gpu.frames_at_a_time(device, layout, 9) == 2
    assert not gpu.take_less(layout, 2)
    other = cuda_kernels.layout_of(16, 16, QUICK)
    assert gpu.frames_at_a_time(device, other, 5) == 5  # frames of another size have a limit of their own


def test_portions_give_the_bits_of_the_whole():
    grey = moving(9, 20, 40)
    layout = cuda_kernels.layout_of(20, 40, QUICK)
    gpu = EmulatedGPU(memory_bytes=CLIPS_AT_A_TIME * layout.bytes(4, 2))
    assert np.array_equal(flow_of(engine_on(gpu), grey), flow_on_cpu(grey))
    assert gpu.launches == 2 * (2 + 3)  # two tests; then 2, 3 and 3 pairs


def test_where_memory_runs_out_less_is_taken_and_noted():
    grey, notes, gpu = moving(9, 20, 40), [], EmulatedGPU()
    engine = engine_on(gpu)
    list(engine.flows(grey, QUICK))  # opens it
    gpu.capacity_bytes = cuda_kernels.layout_of(20, 40, QUICK).bytes(3, 2) + 2000
    computed = [levels for levels, _ in engine.quantized(grey, QUICK, "symmetric", 20.0, notes)]
    assert np.array_equal(computed, quantize.quantize(flow_on_cpu(grey)))
    assert notes == ["GPU 0 had no room for 9 frames at a time", "GPU 0 had no room for 5 frames at a time"]


def test_a_gpu_without_room_for_anything_is_not_tried_again():
    notes = []
    engine = engine_on(EmulatedGPU(capacity_bytes=1000))
    assert len(with_fallback(engine, moving(4, 20, 40), notes)) == 3
    assert notes[0].startswith("GPU 0 failed: DeviceOutOfMemory")


def test_it_remembers_how_many_frames_fit():
    grey, notes = moving(9, 20, 40), []
    layout = cuda_kernels.layout_of(20, 40, QUICK)
    gpu = EmulatedGPU()
    engine = engine_on(gpu)
    list(engine.flows(moving(2, 20, 40), QUICK))  # opens it
    gpu.capacity_bytes = layout.bytes(5, 2) + 2000
    for _ in range(2):
        list(engine.quantized(grey, QUICK, "symmetric", 20.0, notes))
    assert notes == ["GPU 0 had no room for 9 frames at a time"]


# Failures ------------------------------------------------------------------------------------------


def with_fallback(engine, grey: np.ndarray, notes: list[str]) -> np.ndarray:
    return np.stack([levels for levels, _ in clip_flow.quantized_fields(engine, grey, QUICK, "symmetric", 20.0, notes)])


def test_where_not_even_two_frames_fit_the_cpu_takes_over():
    grey, notes, gpu = moving(4, 20, 40), [], EmulatedGPU()
    engine = engine_on(gpu)
    list(engine.flows(grey, QUICK))
    gpu.capacity_bytes = 1000
    assert np.array_equal(with_fallback(engine, grey, notes), quantize.quantize(flow_on_cpu(grey)))
    assert notes[-1].startswith("GPU 0 has no room for two frames of this size")
    assert notes[-1].endswith("flow from frame 0 on by tvl1 on the CPU")


def test_where_a_gpu_fails_in_mid_clip_another_goes_on():
    grey, notes = moving(9, 20, 40), []
    share = CLIPS_AT_A_TIME * cuda_kernels.layout_of(20, 40, QUICK).bytes(4, 2)
    gpus = EmulatedGPU(memory_bytes=share, fails_at=6), EmulatedGPU(memory_bytes=share)
    engine = engine_on(*gpus)
    assert np.array_equal(with_fallback(engine, grey, notes), quantize.quantize(flow_on_cpu(grey)))
    assert notes == ["GPU 0 failed: it fell off the bus"]
    list(engine.flows(grey, QUICK))
    assert gpus[0].launches == 7  # and was not tried again


def test_where_all_gpus_fail_in_mid_clip_the_cpu_goes_on_from_there():
    grey, notes = moving(9, 20, 40), []
    share = CLIPS_AT_A_TIME * cuda_kernels.layout_of(20, 40, QUICK).bytes(4, 2)
    engine = engine_on(EmulatedGPU(memory_bytes=share, fails_at=6))
    assert np.array_equal(with_fallback(engine, grey, notes), quantize.quantize(flow_on_cpu(grey)))
    failed = "GPU 0 failed: it fell off the bus"
    assert notes == [failed, f"{failed}; flow from frame 2 on by tvl1 on the CPU"]


def test_a_gpu_that_computes_another_flow_is_not_used():
    grey, notes = moving(3, 20, 40), []
    engine = engine_on(EmulatedGPU(wrong=True))
    assert np.array_equal(with_fallback(engine, grey, notes), quantize.quantize(flow_on_cpu(grey)))
    assert "its flow of a test picture is not the CPU's: 0.0% of the pixels differ" in notes[0]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the emulator flushes to zero by x86's own switch")
def test_a_gpu_that_takes_the_smallest_numbers_for_zero_is_not_used():
    notes = []
    with_fallback(engine_on(EmulatedGPU(flushes=True)), moving(2, 20, 40), notes)
    assert "its flow of a test picture is not the CPU's" in notes[0]


@pytest.mark.parametrize(
    "error", [RuntimeError("libnvrtc is not here"), OSError("disk full"), DeviceOutOfMemory("4 GB")]
)
def test_a_gpu_that_cannot_be_opened_is_tried_once_and_left(error, caplog):
    tries, notes = [], []

    def open_it():
        tries.append(threading.current_thread())
        raise error

    engine = TVL1CUDA(gpus=[GPU("GPU 0", open_it)])
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: with_fallback(engine, moving(2, 20, 40, k), notes), range(8)))
    assert len(tries) == 1
    assert sum("failed, the run goes on without it" in message for message in caplog.messages) == 1
    assert all(f"{type(error).__name__}: {error}" in note for note in notes)


def test_a_gpu_is_opened_once_by_however_many_clips():
    gpu = EmulatedGPU()
    engine = engine_on(gpu)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: flow_of(engine, moving(2, 16, 20, k)), range(8)))
    assert gpu.opened == 1
    assert [busy.clips for busy in engine._gpus] == [0]


def test_a_flow_that_is_not_finite_is_a_bug_and_not_a_level():
    engine = engine_on(EmulatedGPU(not_finite=True))
    with pytest.raises(ValueError, match="not finite"):
        list(engine.quantized(moving(2, 16, 20), QUICK, "symmetric", 20.0, []))


def test_values_beyond_the_bound_and_values_that_are_not_finite_are_counted():
    variables = cuda_on_cpu.Array((6, 16), np.float32, 0)
    variables.values[0, :4] = 19, -21, np.nan, np.inf
    variables.values[1, 5] = -np.inf
    result, counts = cuda_on_cpu.Array((16, 2), np.uint8, 0), cuda_on_cpu.Array((2,), np.int32, 0)
    addresses = [np.array(array.values.ctypes.data) for array in (variables, result, counts)]
    pointers = (ctypes.c_void_p * 3)(*(address.ctypes.data for address in addresses))
    cuda_on_cpu.library().launch_handed_over(1, 64, ctypes.c_size_t(0), 0, pointers)
    assert counts.values.tolist() == [3, 3]
    assert result.values[:2, 0].tolist() == [round(19 * 127 / 20) + 128, 1]


def test_a_failure_is_noted_for_the_ledger_and_changes_no_level():
    frames = np.repeat(moving(4, 16, 24)[..., None], 3, axis=-1)
    clip, recipe = Clip(frames, fps=25, start_seconds=0.0), Recipe(engine="tvl1-cuda", tvl1=QUICK)
    usual, other = [], []
    expected = quantized_flow(clip, flow.engine("tvl1"), recipe.tvl1, recipe.quantizer, recipe.bound_px, usual)
    computed = quantized_flow(
        clip, engine_on(EmulatedGPU(fails_at=4)), recipe.tvl1, recipe.quantizer, recipe.bound_px, other
    )
    assert np.array_equal(computed.levels, expected.levels) and computed.saturated_share == expected.saturated_share
    assert usual == [] and other[-1].endswith("flow from frame 0 on by tvl1 on the CPU")


def test_what_is_wrong_with_the_caller_is_not_blamed_on_the_gpu(cuda):
    with pytest.raises(ValueError, match="grey must be uint8"):
        flow_of(cuda, np.zeros((2, 16, 16), np.float32))


# Several clips, several GPUs -----------------------------------------------------------------------


def test_clips_of_several_sizes_side_by_side_on_two_gpus():
    gpus = EmulatedGPU(), EmulatedGPU()
    engine = engine_on(*gpus)
    clips = [moving(3, 20 + 4 * k, 40 - 3 * k, seed=k) for k in range(6)]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        computed = list(pool.map(lambda clip: flow_of(engine, clip), clips))
    assert all(np.array_equal(a, flow_on_cpu(clip)) for a, clip in zip(computed, clips))
    assert all(gpu.launches > 4 for gpu in gpus)


def test_a_gpu_is_lent_to_so_many_clips_and_no_more():
    gpu = GPU("GPU 0", EmulatedGPU().open)
    entered = []
    streams = [gpu.borrowed_stream() for _ in range(CLIPS_AT_A_TIME)]
    for stream in streams:
        entered.append(stream.__enter__())
    assert len(set(map(id, entered))) == CLIPS_AT_A_TIME
    assert not gpu._places.acquire(blocking=False)
    for stream in streams:
        stream.__exit__(None, None, None)
    assert gpu._places.acquire(blocking=False)


def test_a_stream_is_used_again():
    gpu = GPU("GPU 0", EmulatedGPU().open)
    with gpu.borrowed_stream() as first:
        pass
    with gpu.borrowed_stream() as second, gpu.borrowed_stream() as third:
        assert second is first and third is not first


def test_a_clip_goes_to_the_gpu_with_the_fewest_clips():
    engine = engine_on(EmulatedGPU(), EmulatedGPU(), EmulatedGPU())
    first, second, third = engine._gpus
    second.clips = 1
    assert [engine._take_least_busy() for _ in range(4)] == [first, third, first, second]
    assert [gpu.clips for gpu in engine._gpus] == [2, 2, 1]
    third.fail("it fell off the bus")
    assert engine._take_least_busy() is first


def test_clips_in_turn_do_not_hold_each_other_up(cuda):
    """More generators than places, a step of each in turn: no generator keeps a place between its steps."""
    clips = [moving(3, 16, 20, seed=k) for k in range(CLIPS_AT_A_TIME + 2)]
    steps = list(zip(*(cuda.flows(clip, QUICK) for clip in clips)))
    assert len(steps) == 2


# Names and choices ---------------------------------------------------------------------------------


def test_a_recipe_is_the_same_on_gpu_and_cpu():
    on_gpu, on_cpu = Recipe(engine="tvl1-cuda"), Recipe(engine="tvl1")
    assert on_gpu.settings() == on_cpu.settings()
    assert TVL1CUDA.version() == flow.ENGINES["tvl1"].version().removesuffix(" without fma")


def printed(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


WITHOUT_CUPY = """
import sys
sys.modules["cupy"] = None
from kinetics_prep import flow
from kinetics_prep.flow import cupy_device
"""


def test_without_cupy_it_says_how_to_get_it():
    (usable,) = printed(WITHOUT_CUPY + "cupy_device._has_driver = lambda: True; print(cupy_device.missing())")
    assert "pip install 'kinetics-prep[cuda13]'" in usable


def test_without_a_driver_it_does_not_ask_for_cupy():
    usable, why = printed(
        WITHOUT_CUPY + "cupy_device._has_driver = lambda: False\n"
        "print(flow.ENGINES['tvl1-cuda'].usable()); print(flow.why('tvl1'))"
    )
    assert usable == "there is no NVIDIA driver" and why == f"no tvl1-cuda: {usable}"


def test_its_fingerprint_is_that_of_the_engine_whose_flow_it_gives(cuda):
    """So a machine with a GPU and one without may work on one data set, and a GPU that fails does not part them."""
    recipe = Recipe("tvl1", short_side=48, tvl1=QUICK)
    on_gpu = dataclasses.replace(recipe, engine="tvl1-cuda")
    expected = fingerprint_by(flow.engine("tvl1"), recipe)
    assert fingerprint_by(cuda, on_gpu) == expected
    assert fingerprint_by(engine_on(EmulatedGPU(fails_at=0)), on_gpu) == expected


# The emulator --------------------------------------------------------------------------------------

NO_BARRIER = """
extern "C" __global__ void reversed(int *from, int *to) {
    from[threadIdx.x] = threadIdx.x;
    to[threadIdx.x] = from[blockDim.x - 1 - threadIdx.x];
}
"""

PARTED = """
extern "C" __global__ void parted(int *from, int *to) {
    if (threadIdx.x < 32) __syncthreads();
    else to[threadIdx.x] = __shfl_sync(0xFFFFFFFFu, threadIdx.x < 40 ? 1 : 2, 0);
    if (threadIdx.x >= 64) __syncthreads();
}
"""

RUN = """
import ctypes, sys
sys.path.insert(0, sys.argv[1])
import cuda_on_cpu
import numpy as np
library = cuda_on_cpu.compiled(sys.argv[3], (sys.argv[2],))
results = set()
for seed in range(20):
    arrays = [np.full(96, -1, np.int32) for _ in range(2)]
    values = [np.array(array.ctypes.data) for array in arrays]
    getattr(library, "launch_" + sys.argv[2])(
        1, 96, ctypes.c_size_t(0), seed, (ctypes.c_void_p * 2)(*(value.ctypes.data for value in values))
    )
    results.add(arrays[1].tobytes())
print(len(results))
"""


def emulated(name: str, source: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", RUN, str(Path(__file__).parent), name, source]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_emulator_shows_that_a_barrier_is_missing():
    done = emulated("reversed", NO_BARRIER)
    assert int(done.stdout) > 1
    done = emulated("reversed", NO_BARRIER.replace(";\n    to", ";\n    __syncthreads();\n    to"))
    assert int(done.stdout) == 1


def test_the_emulator_stops_at_a_barrier_that_some_never_reach():
    done = emulated("parted", PARTED)
    assert done.returncode != 0 and "wait for others that do not come" in done.stderr


def test_the_emulator_notices_what_is_written_beyond_an_array():
    array = cuda_on_cpu.Array((4,), np.int32, 0)
    array.expect_whole()
    array._guards[1][0] = 1
    with pytest.raises(AssertionError, match="wrote beyond"):
        array.expect_whole()
