"""A store that fails at its n-th write, as a killed process, a full disk or a broken one would.

    with faulty_folder(Fault("dies before", nth=7)) as fault:
        ...                                # a run; `Died` comes out of it
    assert fault.has_struck                # else the run made fewer writes

Counted are `create`, `put` and `delete` of the store that `door.open_for_writing` hands out. The writes of the lease
are not: `tests/storage/` has their tests.
"""

import contextlib
import dataclasses
import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from kinetics_prep.dataset import door
from kinetics_prep.storage.files import reporting_full_disk
from kinetics_prep.storage.folder_store import FolderStore
from kinetics_prep.storage.lease import Holder, LeaseFolder
from kinetics_prep.storage.store import Entry

KILLS = ("dies before", "dies after", "dies with half a file", "dies with the name taken")
"""The process ends: before the write, after it, in the middle of its temporary file, or, where there are no hard links,
between the empty file that reserves the name and the content."""

FAILURES = ("disk full once", "disk full", "I/O error once", "I/O error")
"""The system refuses the write; without "once", all that follow too."""

KINDS = KILLS + FAILURES

_COUNTED = {
    "dies with half a file": ("create", "put"),
    "dies with the name taken": ("create",),
    "disk full once": ("create", "put"),
    "disk full": ("create", "put"),
}
"""The verbs that a kind may strike, where not all: a deletion needs no room."""

_Result = TypeVar("_Result")

_numbers = itertools.count()
_faults: dict[int, "Fault"] = {}


class Died(BaseException):
    """The process was killed. No code of ours catches it, and nothing that it touches works from then on."""


@dataclasses.dataclass(eq=False)
class Fault:
    """What goes wrong, and at which write. One object for all stores of a process, pickled or not."""

    kind: str
    nth: int
    """From 1; 0 for never, to count the writes of a run."""
    writes: int = 0
    has_struck: bool = False
    where: str = ""
    """The verb and the key of the write that it struck."""

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind
        self._lock, self._number = threading.Lock(), next(_numbers)
        _faults[self._number] = self

    def __reduce__(self) -> tuple[Callable[[int], "Fault"], tuple[int]]:
        return _fault_of, (self._number,)  # a pipeline pickles its stages, in one process too

    @property
    def is_dead(self) -> bool:
        """Whether the process that it is about has been killed."""
        return self.has_struck and self.kind in KILLS

    def expect_alive(self) -> None:
        """Raises `Died` after the kill, so that nothing is cleaned up."""
        if self.is_dead:
            raise Died(self.where)

    def strikes(self, verb: str, key: str) -> bool:
        """Counts a write; returns whether it fails."""
        with self._lock:
            self.expect_alive()
            if verb not in _COUNTED.get(self.kind, (verb,)):
                return False
            self.writes += 1
            is_first = self.writes == self.nth
            if is_first:
                self.has_struck, self.where = True, f"write {self.nth}: {verb} {key}"
            return is_first or (self.has_struck and not self.kind.endswith("once"))


def _fault_of(number: int) -> Fault:
    return _faults[number]


@dataclasses.dataclass(frozen=True)
class FaultyStore(FolderStore):
    """A `FolderStore` whose writes a fault counts, and of which it strikes one."""

    fault: Fault | None = None

    def list(self, prefix: str = "") -> Iterator[Entry]:
        self._fault.expect_alive()
        return super().list(prefix)

    def read(self, key: str) -> bytes:
        self._fault.expect_alive()
        return super().read(key)

    @contextlib.contextmanager
    def local(self, key: str) -> Iterator[Path]:
        self._fault.expect_alive()
        with super().local(key) as path:
            yield path

    @contextlib.contextmanager
    def temporary(self, name: str) -> Iterator[Path]:
        self._fault.expect_alive()
        with super().temporary(name) as path:
            try:
                yield path
            finally:
                if self._fault.is_dead and path.exists():  # nobody deletes it
                    os.rename(path, path.with_name(f"left-{path.name}"))

    def create(self, key: str, content: bytes) -> bool:
        return self._write("create", key, content, lambda: FolderStore.create(self, key, content))

    def put(self, key: str, content: bytes | Path) -> None:
        self._write("put", key, content, lambda: FolderStore.put(self, key, content))

    def delete(self, key: str) -> None:
        self._write("delete", key, b"", lambda: FolderStore.delete(self, key))

    @property
    def _fault(self) -> Fault:
        assert self.fault is not None
        return self.fault

    def _write(self, verb: str, key: str, content: bytes | Path, write: Callable[[], _Result]) -> _Result:
        fault = self._fault
        if not fault.strikes(verb, key):
            return write()
        if fault.kind in FAILURES:
            number = errno.ENOSPC if fault.kind.startswith("disk full") else errno.EIO
            with reporting_full_disk(self.root / key):
                raise OSError(number, os.strerror(number), str(self.root / key))
        if fault.kind == "dies after":
            _write_plainly(FolderStore(self.root, self.scratch), verb, key, content)
        elif fault.kind == "dies with half a file":
            data = content.read_bytes() if isinstance(content, Path) else content
            (self._scratch() / f"torn-{key.rpartition('/')[2]}").write_bytes(data[: len(data) // 2])
        elif fault.kind == "dies with the name taken":
            path = self.root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        raise Died(fault.where)


def _write_plainly(store: FolderStore, verb: str, key: str, content: bytes | Path) -> None:
    """Writes as the store of a process that lives."""
    if verb == "create":
        assert isinstance(content, bytes)
        store.create(key, content)
    elif verb == "put":
        store.put(key, content)
    else:
        store.delete(key)


@contextlib.contextmanager
def faulty_folder(fault: Fault) -> Iterator[Fault]:
    """Has every folder that is opened for writing within the block fail as `fault` says.

    A killed run keeps its lease, whose holder is a process that does not exist.
    """

    @contextlib.contextmanager
    def hold_lease(root: Path, work: str) -> Iterator[FaultyStore]:
        holder = dataclasses.replace(Holder.here(), started="never")
        leases = LeaseFolder(root, work, holder)
        number = leases.acquire()
        try:
            yield FaultyStore(root, leases.store.scratch, fault)
        finally:
            if not fault.is_dead:
                leases.release(number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(door, "hold_lease", hold_lease)
        yield fault
