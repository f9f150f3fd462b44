"""How kernels are compiled: by Numba, without the GIL, kept on disk."""

import contextlib
import functools
import hashlib
from pathlib import Path

import numba
from numba import types
from numba.core import caching
from numba.extending import intrinsic

_OPTIONS = {"nogil": True, "error_model": "numpy"}

inlined = numba.njit(forceinline=True, **_OPTIONS)
"""For functions that only other kernels call."""

apart = numba.njit(forceinline=False, **_OPTIONS)
"""The same for those with the hot loops: inlined into the whole, the addresses that a loop needs would not fit in
registers. Said to be False because functions inherit it from their callers."""


@intrinsic
def stand_apart(typing):
    """Said by a function with a hot loop: it is never inlined, and what it keeps on the stack begins on a cache line.

    LLVM would put vectors where the stack happens to be, across cache lines in some processes, which then are slow.
    """

    def code(context, builder, signature, values):
        attributes = builder.function.attributes
        attributes.alignstack = 64
        attributes.add("noinline")  # llvmlite forgets an alignment that stands alone
        return context.get_dummy_value()

    return types.void(), code


@functools.cache
def _sources_digest() -> str:
    """Of every file here: Numba looks at one file to see whether what it kept is still right."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class _Kept(caching.FunctionCache):
    """Numba's cache on disk, which must never stop a run.

    What cannot be read is compiled anew, what cannot be written is not kept.
    """

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # cut short by a full disk or a crash: a pickle can fail in any way
            return None

    def save_overload(self, sig, data):
        for _ in range(2):
            try:
                return super().save_overload(sig, data)
            except OSError:
                return None
            except Exception:  # the index cannot be read; without it the next attempt begins a new one
                Path(self._cache_file._index_path).unlink(missing_ok=True)


def compiled(function):
    """For functions that Python calls. Compiled at the first call, which takes seconds, and kept on disk.

    Where there is no place to keep it, every process compiles anew.
    """
    function.__qualname__ = f"{function.__name__}_{_sources_digest()}"
    dispatcher = numba.njit(**_OPTIONS)(function)
    # A RuntimeError: neither beside the source nor in the user's home can files be written.
    with contextlib.suppress(RuntimeError):
        dispatcher._cache = _Kept(function)
    return dispatcher
