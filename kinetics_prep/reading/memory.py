"""Memory for batches, used again once nobody holds a batch of it.

A batch of 64-frame samples is hundreds of megabytes. Taken afresh from the system each time, every page of it
would cost a fault, and be zeroed first.
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
"""Where TensorFlow takes an array as it is; others it copies."""


def keep_freed() -> None:
    """Has glibc keep what is freed, up to 256 MB, for the next allocation, and not give it back to the system.

    Each decoded image is freed at once, and the next one asks for as much. TensorFlow's generators set the limit to
    128 KB, half an image, once in a process; whoever reads through one sets it after that.
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES // 8)


class Memory:
    """Gives uninitialised arrays. Of any thread."""

    def __init__(self):
        # glibc learns from the largest block that was given back, of up to 32 MB, what to keep for the next one. Until
        # then each decoded image goes back to the system, and the next one has its pages zeroed anew.
        np.empty(24 << 20, np.uint8)
        self._free = collections.defaultdict(list)
        self._lock = threading.Lock()

    def empty(self, shape: Sequence[int]) -> np.ndarray:
        """A uint8 array. Its memory is given again when it is gone, and with it every view of it."""
        count = math.prod(shape)
        with self._lock:
            memory = self._free[count].pop() if self._free[count] else _fresh(count)
        # The base of every view of this array is this array, and not what lies under it: NumPy looks no further
        # than arrays.
        array = np.frombuffer(memory, np.uint8)
        weakref.finalize(array, self._free[count].append, memory).atexit = False
        return array.reshape(shape)


def _fresh(count: int) -> memoryview:
    memory = np.empty(count + _ALIGNED_BYTES, np.uint8)
    first = -memory.ctypes.data % _ALIGNED_BYTES
    return memoryview(memory[first : first + count])
