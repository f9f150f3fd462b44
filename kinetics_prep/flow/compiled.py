"""How Numba compiles the kernels: to run without the GIL, and with a cache on disk."""

import contextlib
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba import types
from numba.core import caching
from numba.extending import intrinsic as numba_intrinsic

intrinsic: Any = numba_intrinsic
"""Any, because kernels call an intrinsic without its first parameter, `typing`."""

inlined = numba.njit(forceinline=True, nogil=True, error_model="numpy")
"""For functions that only other kernels call."""

not_inlined = numba.njit(forceinline=False, nogil=True, error_model="numpy")
"""The same for functions with hot loops: inlined into their caller, the addresses that a loop needs would not fit in
registers. False is explicit because functions inherit the option from their callers."""


@intrinsic
def align_stack(typing: Any) -> tuple[Any, Callable[..., Any]]:
    """Called in a function with a hot loop: the function is never inlined, and its stack begins on a cache line.

    Otherwise LLVM puts vectors wherever the stack happens to be; in some processes they cross cache lines, which is
    slow.
    """

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        attributes = builder.function.attributes
        attributes.alignstack = 64
        attributes.add("noinline")  # llvmlite drops alignstack if it is the only attribute
        return context.get_dummy_value()

    return types.void(), code


@functools.cache
def _sources_digest() -> str:
    """A digest of every file in this folder. Numba checks only one file to see whether its cache is still valid."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class _TolerantCache(caching.FunctionCache):
    """Numba's cache on disk, made so that it never stops a run.

    Code that cannot be read is compiled again; code that cannot be written is not kept.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # truncated by a full disk or a crash: a broken pickle can raise anything
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        for _ in range(2):
            try:
                super().save_overload(sig, data)
                return
            except OSError:
                return
            except Exception:  # the index cannot be read; without it the second attempt begins a new one
                Path(self._cache_file._index_path).unlink(missing_ok=True)


def compiled(function: Callable[..., Any]) -> Any:
    """For functions that Python calls. Compiles at the first call, which takes seconds, and keeps the code on disk.

    Where no folder for it can be written to, every process compiles again.
    """
    function.__qualname__ = f"{function.__name__}_{_sources_digest()}"
    dispatcher: Any = numba.njit(nogil=True, error_model="numpy")(function)
    # A RuntimeError says that files can be written neither beside the source nor in the user's home.
    with contextlib.suppress(RuntimeError):
        dispatcher._cache = _TolerantCache(function)
    return dispatcher
