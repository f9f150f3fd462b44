"""Lease: who may write to a folder now. It holds where `flock` does not: on NFS, Lustre and FUSE mounts.

A run that wants to write creates `lease/N+1`, where N is the highest number there, and looks around once more: if a
lease of a live run is there too, it withdraws. The holder beats: it writes a counter every 30 s. A lease may be taken
over when its holder is known to be dead (same machine, no such process), or when its counter has stood still for five
minutes on the clock of the run that waits; no clock is compared with another machine's.

The run that takes over removes the scratch folders of all others first, which stops their writes: see `FolderStore`.

    with hold_lease(root, work) as store:
        store.put(...)
"""

import contextlib
import dataclasses
import json
import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from kinetics_prep.errors import FolderInUse
from kinetics_prep.storage.folder_store import FolderStore, make_folder, remove_scratch

BEAT_SECONDS = 30.0
"""Between two beats of a holder."""

DEAD_AFTER_SECONDS = 300.0
"""A holder whose beat has not changed for so long counts as dead."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Holder:
    """A process that holds a lease, or wants to."""

    token: str
    """Drawn for each attempt; names its scratch folder."""
    host: str
    machine: str
    """Tells boots of machines, and containers on them, apart; "" if unknown."""
    pid: int
    started: str
    """When the process was started, as its machine counts."""

    @classmethod
    def here(cls) -> "Holder":
        """This process."""
        pid = os.getpid()
        return cls(uuid.uuid4().hex, socket.gethostname(), _machine(), pid, _started(pid))

    def is_alive(self, machine: str) -> bool | None:
        """Whether the process exists, seen from a process on `machine`; None if that cannot be told from there."""
        if not self.machine or self.machine != machine:
            return None
        return _started(self.pid) == self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _machine() -> str:
    """This boot of this machine, and the container; "" where Linux's /proc is missing."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process of this machine was started; "" if there is none, or only what its parent has not collected."""
    try:
        # The name of the program, in parentheses, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return ""


@dataclasses.dataclass(frozen=True)
class LeaseFolder:
    """The leases of one folder. `root` is where its store is, `work` the key of the folder for unfinished work."""

    root: Path
    work: str
    holder: Holder
    beat_seconds: float = BEAT_SECONDS
    dead_after_seconds: float = DEAD_AFTER_SECONDS

    @property
    def store(self) -> FolderStore:
        """The store, for this holder's writes."""
        return FolderStore(self.root, self.scratches / self.holder.token)

    @property
    def scratches(self) -> Path:
        """The folder of all scratch folders."""
        return self.root / self.work / "tmp"

    def key(self, number: int) -> str:
        """The key of a lease."""
        return f"{self.work}/lease/{number:06d}.json"

    def beat_key(self, number: int) -> str:
        """The key of a lease's counter."""
        return f"{self.work}/lease/{number:06d}.beat"

    def acquire(self) -> int:
        """Takes the lease; returns its number.

        Raises:
          FolderInUse: if a live run holds it.
        """
        while True:
            make_folder(self.scratches / self.holder.token)
            dead = self._dead_leases()
            number = 1 + max(dead, default=0)
            try:
                if self.store.create(self.key(number), self._content()):
                    if self._leases().keys() <= {*dead, number}:
                        self._stop_others(dead)
                        return number
                    (self.root / self.key(number)).unlink(missing_ok=True)  # two runs began at the same time
            except FolderInUse:
                pass  # another run has just got the lease, and removed our scratch folder
            time.sleep(random.uniform(0.05, 0.5))

    def release(self, number: int) -> None:
        """Gives the lease back, and removes the scratch folder."""
        with contextlib.suppress(FolderInUse):
            self.store.delete(self.beat_key(number))
            self.store.delete(self.key(number))
        remove_scratch(self.scratches / self.holder.token)
        for folder in (self.scratches, self.root / self.work / "lease", self.root / self.work):
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if empty: unfinished work stays

    def beat(self, number: int, count: int) -> None:
        """Writes the counter."""
        self.store.put(self.beat_key(number), str(count).encode())

    def _content(self) -> bytes:
        return json.dumps(dataclasses.asdict(self.holder)).encode()

    def _leases(self) -> dict[int, Holder | None]:
        """The holder of each lease, by its number; None if the file is damaged."""
        leases: dict[int, Holder | None] = {}
        for entry in self.store.list(f"{self.work}/lease/"):
            name = entry.key.rpartition("/")[2]
            stem, _, suffix = name.partition(".")
            if suffix == "json" and stem.isdecimal():
                leases[int(stem)] = self._read(entry.key)
        return leases

    def _read(self, key: str) -> Holder | None:
        try:
            content = json.loads(self.store.read(key))
            holder = Holder(**{field.name: content[field.name] for field in dataclasses.fields(Holder)})
            return holder if isinstance(holder.pid, int) else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def _dead_leases(self) -> list[int]:
        """The numbers of all leases, once each of their holders is known to be dead; waits if it must.

        Raises:
          FolderInUse: if one is alive.
        """
        leases = self._leases()
        for number, holder in leases.items():
            is_alive = None if holder is None else holder.is_alive(self.holder.machine)
            if is_alive:
                raise self._in_use(holder)
            if is_alive is None:
                self._expect_silence(number, holder)
        return list(leases)

    def _expect_silence(self, number: int, holder: Holder | None) -> None:
        """Waits until the holder of a lease counts as dead.

        Raises:
          FolderInUse: if it beats or withdraws meanwhile.
        """
        _log.warning(
            "%s: another run (%s) has not ended; waiting up to %.0f s to see whether it still lives",
            self.root,
            holder or "unknown",
            self.dead_after_seconds,
        )
        first, began = self._last_beat(number), time.monotonic()
        while time.monotonic() - began < self.dead_after_seconds:
            time.sleep(min(1.0, self.dead_after_seconds / 20))
            if number not in self._leases():
                return
            if self._last_beat(number) != first:
                raise self._in_use(holder)

    def _last_beat(self, number: int) -> bytes | None:
        try:
            return self.store.read(self.beat_key(number))
        except OSError:
            return None

    def _in_use(self, holder: Holder | None) -> FolderInUse:
        remove_scratch(self.scratches / self.holder.token)
        who = f" ({holder})" if holder else ""
        return FolderInUse(f"another run{who} is writing to {self.root}; wait for its end, or choose another --output")

    def _stop_others(self, dead: list[int]) -> None:
        """Stops all former holders, which may only sleep, and removes what is left of them."""
        if self.scratches.is_dir():
            for folder in self.scratches.iterdir():
                if folder.name != self.holder.token:
                    remove_scratch(folder)
        for number in dead:
            self.store.delete(self.beat_key(number))
            self.store.delete(self.key(number))


@contextlib.contextmanager
def hold_lease(
    root: Path,
    work: str,
    beat_seconds: float = BEAT_SECONDS,
    dead_after_seconds: float = DEAD_AFTER_SECONDS,
    here: Callable[[], Holder] = Holder.here,
) -> Iterator[FolderStore]:
    """Holds the lease of a folder, and yields its store for writing.

    Args:
      root: the folder; exists.
      work: the key of the folder for unfinished work.
      here: describes this process.

    Raises:
      FolderInUse: if another run holds the lease.
    """
    leases = LeaseFolder(root, work, here(), beat_seconds, dead_after_seconds)
    number, ended = leases.acquire(), threading.Event()
    thread = threading.Thread(target=_keep_beating, args=(leases, number, ended), name="lease", daemon=True)
    thread.start()
    try:
        yield leases.store
    finally:
        ended.set()
        thread.join()
        leases.release(number)


def _keep_beating(leases: LeaseFolder, number: int, ended: threading.Event) -> None:
    count = 0
    while not ended.wait(leases.beat_seconds if count else 0.0):
        count += 1
        try:
            leases.beat(number, count)
        except FolderInUse:
            return  # every write of this run fails from now on, and says so
        except Exception as error:  # a full disk, a mount that is away for a while: the next beat may succeed
            _log.warning("%s: the sign of life of this run could not be written: %s", leases.root, error)
