"""Memory for batches, used again once nobody holds a batch of it.

A batch of 64-frame samples is hundreds of megabytes. Taken afresh from the system each time, every page of it
would cost a fault, and be zeroed first.
"""

import collections
import math
import threading
import weakref
from collections.abc import Sequence

import numpy as np

_ALIGNED_BYTES = 64
"""Where TensorFlow takes an array as it is; others it copies."""


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
