"""GPUs without a GPU: the kernels of tvl1.cu, compiled by g++ and run by `cuda_on_cpu.h`."""

import contextlib
import ctypes
import dataclasses
import functools
import shutil
import subprocess
import tempfile
import threading
import weakref
from pathlib import Path

import numpy as np

from kinetics_prep.flow import cuda_kernels
from kinetics_prep.flow.cuda_kernels import DeviceFailed, DeviceOutOfMemory

HEADER = Path(__file__).with_name("cuda_on_cpu.h")
GUARD = 256
"""Bytes on each side of an array that nothing may write to."""
POISON = 0xFF
"""Fills memory that has not been written to: NaN as float32, -1 as an integer."""


def missing() -> str | None:
    """Returns what the emulator lacks here; None if nothing."""
    return None if shutil.which("g++") else "g++, to compile the kernels for the CPU, is not here"


def compiled(source: str, kernels: tuple[str, ...], more: str = "") -> ctypes.CDLL:
    """Compiles CUDA C++ to a library with a function `launch_...` for each kernel; `more` is C++ to append."""
    # C++ has no arrays of unknown size with storage of their own.
    source = source.replace(
        "extern __shared__ float4 shared_memory[];", "float4 *shared_memory = emulator::dynamic_shared.data();"
    )
    text = f'#include "{HEADER}"\n{source}\n' + "".join(f"LAUNCHABLE({name})\n" for name in kernels) + more
    defines = [option for option in cuda_kernels.OPTIONS if option.startswith("-D")]
    command = ["g++", "-std=c++17", "-O2", "-march=native", "-ffp-contract=off", "-shared", "-fPIC", "-pthread"]
    command += ["-U_FORTIFY_SOURCE", "-Wno-unknown-pragmas", *defines]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "kernels.cpp").write_text(text)
        subprocess.run([*command, "-o", f"{folder}/kernels.so", f"{folder}/kernels.cpp"], check=True)
        return ctypes.CDLL(f"{folder}/kernels.so")


MORE = """
extern "C" void roots(const float *from, float *to, size_t numbers) {
    for (size_t k = 0; k < numbers; ++k) to[k] = sqrt_of(from[k]);
}

// Sixteen columns of u1, then sixteen of u2, and so on: a row.
extern "C" __global__ void handed_over(float *variables, Byte *result, int *counts) {
    State state = {};
    state.variables = variables;
    state.height = 1;
    state.width = state.pitch = 16;
    hand_over(state, result, SYMMETRIC, 20.0f, 127.0f / 20.0f, 40.0f, counts);
}
LAUNCHABLE(handed_over)
"""


@functools.cache
def library() -> ctypes.CDLL:
    """The kernels of tvl1.cu, and those of their functions that tests call directly."""
    return compiled(cuda_kernels.SOURCE.read_text("utf-8"), cuda_kernels.KERNELS, MORE)


class Array:
    """An array in the device's memory, with guards around it."""

    def __init__(self, shape, dtype, fill: int):
        dtype = np.dtype(dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        self._room = np.full(size + 2 * GUARD + 64, POISON, np.uint8)
        begin = GUARD + -(self._room.ctypes.data + GUARD) % 64
        self._guards = self._room[:begin], self._room[begin + size :]
        self.values = self._room[begin : begin + size].view(dtype).reshape(shape)
        self.values.reshape(-1).view(np.uint8)[...] = fill

    def expect_whole(self) -> None:
        for guard in self._guards:
            assert (guard == POISON).all(), "a kernel wrote beyond an array"


@dataclasses.dataclass
class EmulatedGPU:
    """See `cuda.OpenGPU`; a `cuda.GPU` opens it by calling `open`."""

    memory_bytes: int = 1 << 40
    """How much it says we may use."""
    blocks: int = 2
    """How many it runs at a time."""
    seed: int = 0
    """Decides the order in which threads run."""
    capacity_bytes: int = 1 << 40
    """How much fits in its memory."""
    fails_at: int = 1 << 40
    """The launch, counted from 0, from which on it fails."""
    wrong: bool = False
    """Whether it computes a wrong flow."""
    flushes: bool = False
    """Whether it flushes the smallest numbers to zero."""
    not_finite: bool = False
    """Whether it reports a value in each flow that is not finite."""
    launches: int = 0
    opened: int = 0

    def __post_init__(self):
        self._lock = threading.Lock()

    def open(self):
        self.opened += 1
        return self

    def stream(self):
        return EmulatedStream(self)

    def launched(self) -> int:
        """Counts a launch and returns a number that decides the order of its threads."""
        with self._lock:
            self.launches += 1
            if self.launches > self.fails_at:
                raise DeviceFailed("it fell off the bus")
            return self.seed * 1000 + self.launches * 100


class EmulatedStream:
    """See `cuda_kernels.Device`."""

    def __init__(self, gpu: EmulatedGPU):
        self._gpu, self._arrays = gpu, weakref.WeakSet()

    def current(self):
        return contextlib.nullcontext()

    def resident_blocks(self):
        return self._gpu.blocks

    def _made(self, shape, dtype, fill):
        taken = sum(array.values.nbytes for array in self._arrays)
        if taken + int(np.prod(shape)) * np.dtype(dtype).itemsize > self._gpu.capacity_bytes:
            raise DeviceOutOfMemory(f"{taken} bytes are taken of {self._gpu.capacity_bytes}")
        array = Array(shape, dtype, fill)
        self._arrays.add(array)
        return array

    def upload(self, array):
        made = self._made(array.shape, array.dtype, POISON)
        made.values[...] = array
        return made

    def empty(self, shape, dtype):
        return self._made(shape, dtype, POISON)

    def zeros(self, shape, dtype):
        return self._made(shape, dtype, 0)

    def launch(self, kernel, blocks, shared_bytes, arguments):
        number = self._gpu.launched()
        values = [
            np.array(argument.values.ctypes.data if isinstance(argument, Array) else argument) for argument in arguments
        ]
        addresses = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        function = getattr(library(), f"launch_{kernel}")
        library().flush_to_zero(self._gpu.flushes)
        function(blocks, cuda_kernels.THREADS, ctypes.c_size_t(shared_bytes), number, addresses)
        for argument in arguments:
            if isinstance(argument, Array):
                argument.expect_whole()

    def download(self, array):
        if self._gpu.wrong and array.values.dtype == np.float32:
            array.values.reshape(-1)[0] += 1
        if self._gpu.not_finite and array.values.dtype == np.int32:
            array.values[:, 1] = 1
        return array.values.copy()
