"""Memory for batches."""

import ctypes
import gc
import threading
import types

import numpy as np

from kinetics_prep.reading import array_pool
from kinetics_prep.reading.array_pool import ArrayPool


def address(array: np.ndarray) -> int:
    return array.ctypes.data


def test_arrays_have_the_shape_and_the_alignment_that_tensorflow_takes():
    pool = ArrayPool()
    arrays = [pool.empty(shape) for shape in ((3, 5), (1,), (2, 3, 4, 5), (7,))]
    assert [array.shape for array in arrays] == [(3, 5), (1,), (2, 3, 4, 5), (7,)]
    for array in arrays:
        assert array.dtype == np.uint8
        assert array.flags.writeable
        assert address(array) % 64 == 0


def test_memory_is_used_again_for_an_array_of_as_many_bytes(monkeypatch):
    allocations, allocate = [], array_pool._allocate
    monkeypatch.setattr(array_pool, "_allocate", lambda count: allocations.append(count) or allocate(count))
    pool = ArrayPool()
    first = pool.empty((6, 4))
    place = address(first)
    del first
    assert address(pool.empty((3, 9))) != place
    assert address(pool.empty((8, 3))) == place
    assert allocations == [24, 27]


def test_memory_is_not_used_again_while_a_view_of_it_is_left():
    pool = ArrayPool()
    array = pool.empty((6, 4))
    place, view = address(array), array[2:4].T[::-1]
    view[...] = 7
    del array
    gc.collect()
    others = [pool.empty((6, 4)) for _ in range(3)]
    for other in others:
        other[...] = 1
    assert place not in map(address, others)
    assert (view == 7).all()
    del view
    assert address(pool.empty((24,))) == place


def test_arrays_that_are_used_at_once_never_overlap():
    pool, errors = ArrayPool(), []

    def work(number: int) -> None:
        for _ in range(300):
            array = pool.empty((50,))
            array[...] = number
            if not (array == number).all():
                errors.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_glibc_is_told_how_much_to_keep(monkeypatch):
    settings = []
    libc = types.SimpleNamespace(mallopt=lambda parameter, value: settings.append((parameter, value)))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: libc)
    array_pool.keep_freed_memory()
    assert settings == [(-1, 256 << 20), (-3, 32 << 20)]  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h


def test_another_c_library_is_left_alone(monkeypatch):
    opened = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: opened.append(name) or object())
    array_pool.keep_freed_memory()
    assert opened == [None]


def test_an_array_of_no_bytes_is_an_array():
    assert ArrayPool().empty((0, 7)).shape == (0, 7)
