"""Memory for batches, used again when no batch in it is referenced any more.

A batch of 64-frame samples takes hundreds of megabytes. If it came from the system each time, every page of it would
cost a page fault and be zeroed first.
"""

import collections
import contextlib
import ctypes
import math
import threading
import weakref
from collections.abc import Sequence

import numpy as np

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Numbers of parameters in glibc's malloc.h."""

_KEPT_BYTES = 256 << 20

_ALIGNED_BYTES = 64
"""TensorFlow uses an array with this alignment in place and copies others."""


def keep_freed_memory() -> None:
    """Tells glibc to keep up to 256 MB of freed memory for later allocations, instead of returning it to the system.

    Each decoded image is freed at once, and the next image needs as much memory. TensorFlow's generators set the limit
    to 128 KB, half an image, once in a process; a reader that is used through such a generator calls this after that.
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES // 8)


class ArrayPool:
    """Returns uninitialised arrays. Can be used from any thread."""

    def __init__(self) -> None:
        # glibc learns from the largest freed block, up to 32 MB, how much memory to keep. Until it has seen such a
        # block, each decoded image goes back to the system, and the pages of the next image are zeroed again.
        np.empty(24 << 20, np.uint8)
        self._free: dict[int, list[memoryview]] = collections.defaultdict(list)
        self._lock = threading.Lock()

    def empty(self, shape: Sequence[int]) -> np.ndarray:
        """A uint8 array. Its memory is used again when the array and all views of it are gone."""
        count = math.prod(shape)
        with self._lock:
            memory = self._free[count].pop() if self._free[count] else _allocate(count)
        # NumPy follows the bases of a view only as far as they are arrays. So every view of this array has this array
        # as its base, and not the memory under it.
        array = np.frombuffer(memory, np.uint8)
        weakref.finalize(array, self._free[count].append, memory).atexit = False
        return array.reshape(shape)


def _allocate(count: int) -> memoryview:
    memory = np.empty(count + _ALIGNED_BYTES, np.uint8)
    first = -memory.ctypes.data % _ALIGNED_BYTES
    return memory[first : first + count].data
