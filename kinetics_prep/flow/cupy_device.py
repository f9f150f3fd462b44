"""A GPU through CuPy, which compiles and launches the kernels and allocates memory.

`pip install kinetics-prep[cuda13]` or `[cuda12]` brings everything but the driver; a CUDA toolkit is not needed.
"""

import contextlib
import ctypes
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from kinetics_prep.errors import NoRoom
from kinetics_prep.flow import cuda_kernels
from kinetics_prep.flow.cuda_kernels import DeviceFailed, DeviceOutOfMemory
from kinetics_prep.storage.files import atomic_write

try:
    import cupy

    _MISSING = None
except (ImportError, OSError) as error:  # not installed, or it does not fit this NumPy or this system
    _MISSING = f"{error}; pip install 'kinetics-prep[cuda13]', or [cuda12] where the driver is older than 580"

SHARE_OF_FREE_MEMORY = 0.75


def missing() -> str | None:
    """Returns what CuPy lacks to use a GPU here, in words; None if nothing."""
    if not _has_driver():
        return "there is no NVIDIA driver"
    if _MISSING:
        return _MISSING
    try:
        return None if count() > 0 else "CUDA sees no GPU"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CUDA sees no GPU: {error}"


def _has_driver() -> bool:
    """Checked first: a machine without an NVIDIA GPU does not need CuPy either."""
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return True


def count() -> int:
    """How many GPUs CUDA sees here."""
    return int(cupy.cuda.runtime.getDeviceCount())


class CuPyGPU:
    """See `cuda.OpenGPU`."""

    def __init__(self, index: int, memory_bytes: int | None) -> None:
        self._index = index
        with translated(), cupy.cuda.Device(index) as device:
            self._module = cupy.cuda.function.Module()
            self._module.load(compiled(cuda_kernels.SOURCE.read_text("utf-8"), device.compute_capability))
            self._kernels = {name: self._module.get_function(name) for name in cuda_kernels.KERNELS}
            flow_between = self._kernels["flow_between"].ptr
            driver = cupy.cuda.driver
            attribute = driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            driver.funcSetAttribute(flow_between, attribute, cuda_kernels.SHARED_BYTES)
            resident = driver.occupancyMaxActiveBlocksPerMultiprocessor(
                flow_between, cuda_kernels.THREADS, cuda_kernels.SHARED_BYTES
            )
            if resident < 1:
                raise DeviceFailed(f"a multiprocessor of it has no room for {cuda_kernels.THREADS} threads")
            self._blocks = resident * device.attributes["MultiProcessorCount"]
            free_bytes, _ = device.mem_info
            self.memory_bytes = min(memory_bytes or int(free_bytes * SHARE_OF_FREE_MEMORY), free_bytes)
            self._pool = cupy.cuda.MemoryPool()
            self._pool.set_limit(size=self.memory_bytes)

    def stream(self) -> "CuPyStream":
        return CuPyStream(self._index, self._kernels, self._pool, self._blocks)


def compiled(source: str, compute_capability: str) -> bytes:
    """CUDA C++ as machine code for a GPU, from disk if it was compiled before.

    CuPy's RawModule will not do: it always adds -ftz=true, after any options it is given.
    """
    words = (source, *cuda_kernels.OPTIONS, compute_capability, str(cupy.cuda.nvrtc.getVersion()))
    name = hashlib.sha256("\0".join(words).encode()).hexdigest()
    folder = Path(os.environ.get("CUPY_CACHE_DIR", "~/.cupy/kernel_cache")).expanduser()  # where CuPy keeps its own
    kept = folder / f"kinetics_prep-{name}.cubin"
    with contextlib.suppress(OSError):
        data = kept.read_bytes()
        if hashlib.sha256(data[_DIGEST_BYTES:]).digest() == data[:_DIGEST_BYTES]:
            return data[_DIGEST_BYTES:]
    code = _compile(source, compute_capability)
    # If the disk is full or read-only, the next process compiles again, which takes two seconds.
    with contextlib.suppress(OSError, NoRoom), atomic_write(kept, folder, durable=False) as temporary:
        temporary.write_bytes(hashlib.sha256(code).digest() + code)
    return code


_DIGEST_BYTES = hashlib.sha256().digest_size


def _compile(source: str, compute_capability: str) -> bytes:
    nvrtc = cupy.cuda.nvrtc
    program = nvrtc.createProgram(source, "tvl1.cu", [], [])
    try:
        nvrtc.compileProgram(program, [*cuda_kernels.OPTIONS, f"--gpu-architecture=sm_{compute_capability}"])
        return bytes(nvrtc.getCUBIN(program))
    except nvrtc.NVRTCError as error:
        version, log = ".".join(map(str, nvrtc.getVersion())), nvrtc.getProgramLog(program).strip()
        raise DeviceFailed(f"NVRTC {version} does not compile for sm_{compute_capability}: {log or error}") from None
    finally:
        nvrtc.destroyProgram(program)


class CuPyStream:
    """See `cuda_kernels.Device`."""

    def __init__(self, index: int, kernels: dict[str, Any], pool: Any, blocks: int) -> None:
        self._index, self._kernels, self._pool, self._blocks = index, kernels, pool, blocks
        with translated(), cupy.cuda.Device(index):
            self._stream = cupy.cuda.Stream(non_blocking=True)

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        with translated(), cupy.cuda.Device(self._index), self._stream, cupy.cuda.using_allocator(self._pool.malloc):
            yield

    def resident_blocks(self) -> int:
        return self._blocks

    def upload(self, array: np.ndarray) -> Any:
        # Through pinned memory, which the GPU reads by itself: a copy from other memory would block the other streams.
        pinned = _pinned(array.shape, array.dtype)
        pinned[...] = array
        made = self.empty(array.shape, array.dtype)
        made.set(pinned, stream=self._stream)
        self._stream.synchronize()  # until then the pinned memory must not be reused
        return made

    def empty(self, shape: Sequence[int], dtype: DTypeLike) -> Any:
        try:
            return cupy.empty(shape, dtype)
        except cupy.cuda.memory.OutOfMemoryError:
            # The pool keeps what clips of other sizes had used, and counts it as taken.
            self._stream.synchronize()
            self._pool.free_all_blocks()
            return cupy.empty(shape, dtype)

    def zeros(self, shape: Sequence[int], dtype: DTypeLike) -> Any:
        made = self.empty(shape, dtype)
        made.data.memset_async(0, made.nbytes, self._stream)
        return made

    def launch(self, kernel: str, blocks: int, shared_bytes: int, arguments: Sequence[object]) -> None:
        self._kernels[kernel]((blocks,), (cuda_kernels.THREADS,), arguments, shared_mem=shared_bytes)

    def download(self, array: Any) -> np.ndarray:
        result = _pinned(array.shape, array.dtype)
        array.get(stream=self._stream, out=result, blocking=False)
        self._stream.synchronize()
        return result


def _pinned(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """An array in the host's memory that a GPU can read and write by itself."""
    numbers = int(np.prod(shape))
    memory = cupy.cuda.alloc_pinned_memory(max(1, numbers * np.dtype(dtype).itemsize))
    return np.frombuffer(memory, dtype, numbers).reshape(shape)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turns CuPy's errors into those that `cuda_kernels.Device` may raise."""
    try:
        yield
    except cupy.cuda.memory.OutOfMemoryError as error:
        raise DeviceOutOfMemory(str(error)) from None
    except (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError) as error:
        if "MemoryAllocation" in str(error) or "OUT_OF_MEMORY" in str(error):
            raise DeviceOutOfMemory(str(error)) from None
        raise DeviceFailed(str(error)) from None
