"""FolderStore: objects are files below a folder, on one machine or on a mount that several machines share.

- An object is written to a temporary file, flushed to the disk, and given its name by `link` (create) or `rename`
  (put). `link` has one winner on every file system that has it, NFS and FUSE mounts included. Where there is no
  `link`, an empty file is created exclusively under the name and the temporary file is renamed over it. So an empty
  file is a name that is taken, and no object yet; `local` raises for it.
- All temporary files of a writer are in one scratch folder, which is made when it opens the store and never again. Each
  write takes a file out of it, each deletion moves a file into it. So removing that folder stops the writer for good,
  wherever it is, even if it sleeps between two system calls. `storage/lease.py` does so when it takes a lease over.
"""

import contextlib
import dataclasses
import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from kinetics_prep.errors import FolderInUse
from kinetics_prep.storage.files import reporting_full_disk, sync
from kinetics_prep.storage.store import Entry

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
"""What file systems without hard links answer."""

_ATTEMPTS = 100
"""To name a file in a folder that others remove, as soon as it is empty, between two calls."""


@dataclasses.dataclass(frozen=True)
class FolderStore:
    """A `Store` below a folder."""

    root: Path
    scratch: Path | None = None
    """The folder of this writer's temporary files, on the file system of `root`; None for a reader."""

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.root)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """The objects whose keys begin with `prefix`, in the order of their keys.

        Files that appear or vanish meanwhile may be missing.
        """
        return _entries(self.root / prefix, prefix)

    def read(self, key: str) -> bytes:
        """The content of an object."""
        return self._path(key).read_bytes()

    @contextlib.contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """The file itself."""
        path = self._path(key)
        if path.stat().st_size == 0:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        yield path

    @contextlib.contextmanager
    def temporary(self, name: str) -> Iterator[Path]:
        """A path in the scratch folder."""
        # Libraries write to it, and name no file in their errors.
        with self._temporary(name) as path, reporting_full_disk(self.root / name):
            yield path

    @contextlib.contextmanager
    def _temporary(self, name: str) -> Iterator[Path]:
        path = self._scratch() / f"{uuid.uuid4().hex}-{name}"
        with self._fenced():
            try:
                yield path
            finally:
                path.unlink(missing_ok=True)

    def create(self, key: str, content: bytes) -> bool:
        """Writes an object unless there is one. Returns whether this call wrote it."""
        path = self._path(key)
        if _has_content(path):
            return False
        with reporting_full_disk(path), self._temporary(path.name) as temporary:
            _write(temporary, content)
            return _place(temporary, path, _link)

    def put(self, key: str, content: bytes | Path) -> None:
        """Writes an object, or replaces it."""
        path = self._path(key)
        with reporting_full_disk(path), self._fenced(), contextlib.ExitStack() as stack:
            if isinstance(content, Path) and content.parent == self._scratch():
                temporary = content
                sync(temporary)
            else:
                temporary = stack.enter_context(self._temporary(path.name))
                _write(temporary, content) if isinstance(content, bytes) else _link_or_copy(content, temporary)
            _place(temporary, path, _replace)

    def delete(self, key: str) -> None:
        """Deletes an object; does nothing if there is none."""
        path = self._path(key)
        with self._temporary(path.name) as temporary:
            try:
                os.rename(path, temporary)
            except FileNotFoundError:
                if not self._scratch().is_dir():
                    raise
                return
        _remove_empty_parents(path.parent, self.root)

    def _path(self, key: str) -> Path:
        return self.root / key

    def _scratch(self) -> Path:
        if self.scratch is None:
            raise ValueError(f"{self.root} was opened for reading")
        return self.scratch

    @contextlib.contextmanager
    def _fenced(self) -> Iterator[None]:
        """Turns the error of a missing scratch folder into a `FolderInUse`."""
        try:
            yield
        except FileNotFoundError:
            if self._scratch().is_dir():
                raise
            raise FolderInUse(
                f"another run has taken {self.root} over, because this one did not answer for a while; this one "
                "stops, and nothing of it is lost"
            ) from None


def _entries(folder: Path, prefix: str) -> Iterator[Entry]:
    try:
        found = sorted(os.scandir(folder), key=_place_in_keys)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(Path(entry.path), f"{prefix}{entry.name}/")
        elif entry.is_file():
            with contextlib.suppress(FileNotFoundError):
                yield Entry(f"{prefix}{entry.name}", entry.stat().st_size)


def _place_in_keys(entry: os.DirEntry[str]) -> str:
    """Sorts a folder with its files' keys: "train-refresh1/0" comes before "train/0"."""
    return f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _link_or_copy(source: Path, temporary: Path) -> None:
    """Has a temporary file hold what a file elsewhere holds."""
    sync(source)
    try:
        os.link(source, temporary)
    except OSError as error:
        if error.errno not in (*_NO_LINKS, errno.EXDEV):
            raise
        shutil.copyfile(source, temporary)
        sync(temporary)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, also while others remove the empty ones among them."""
    for attempt in range(_ATTEMPTS):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileNotFoundError, FileExistsError):
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return


def _place(temporary: Path, path: Path, give_name: Callable[[Path, Path], bool]) -> bool:
    """Gives a temporary file its name, and flushes the folder that holds it. Returns what `give_name` returns."""
    for attempt in range(_ATTEMPTS):
        make_folder(path.parent)
        try:
            is_mine = give_name(temporary, path)
        except FileNotFoundError:
            if attempt == _ATTEMPTS - 1 or not temporary.exists():
                raise
        else:
            if is_mine:
                _sync_folder(path.parent)
            return is_mine
    raise AssertionError("unreachable")


def _replace(temporary: Path, path: Path) -> bool:
    os.replace(temporary, path)
    return True


def _link(temporary: Path, path: Path) -> bool:
    """Gives a temporary file a name that is free; returns False if it is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        # NFS may send a request twice, and answer the second time that the name is taken, by ourselves.
        return os.stat(temporary).st_nlink == 2
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _reserve(temporary, path)
    return True


def _reserve(temporary: Path, path: Path) -> bool:
    """The same without hard links: an empty file reserves the name."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        return False
    os.replace(temporary, path)
    return True


def _sync_folder(folder: Path) -> None:
    """Flushes a folder's list of names to the disk. Systems that cannot do so are left alone."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_empty_parents(folder: Path, root: Path) -> None:
    with contextlib.suppress(OSError):
        while folder != root:
            folder.rmdir()
            folder = folder.parent


def remove_scratch(scratch: Path) -> None:
    """Removes the scratch folder of a writer, which stops it: first the name, at once, then the content."""
    dead = scratch.with_name(f"dead-{uuid.uuid4().hex}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(scratch, dead)
        shutil.rmtree(dead, ignore_errors=True)
