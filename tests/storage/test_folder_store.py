"""FolderStore: whole objects, one winner a name, and no write of a writer whose scratch folder was removed."""

import errno
import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from small_disk import disk_with_room_for

from kinetics_prep.errors import FolderInUse, NoRoom
from kinetics_prep.storage import folder_store
from kinetics_prep.storage.folder_store import FolderStore, remove_scratch
from kinetics_prep.storage.store import Entry


def open_store(root: Path, writer: str = "writer") -> FolderStore:
    """The store of a folder, for a writer of that name."""
    scratch = root / ".work" / "tmp" / writer
    scratch.mkdir(parents=True, exist_ok=True)
    return FolderStore(root, scratch)


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "out")


def no_links(monkeypatch, error: int = errno.EPERM) -> None:
    """Has the file system refuse hard links, as FAT and some FUSE mounts do."""

    def link(source, target, **_):
        raise OSError(error, os.strerror(error), str(source))

    monkeypatch.setattr(os, "link", link)


def files(root: Path) -> dict[str, bytes]:
    """Every file below a folder, but for scratch."""
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return {key: data for key, data in found.items() if not key.startswith(".work/tmp/")}


# What a store does ------------------------------------------------------------------------------


def test_what_is_put_is_read_back_and_listed(store):
    store.put("labels.txt", b"running\n")
    store.put("plan/deep/train.parquet", b"PAR1")
    assert (store.read("labels.txt"), store.read("plan/deep/train.parquet")) == (b"running\n", b"PAR1")
    assert list(store.list("plan/")) == [Entry("plan/deep/train.parquet", 4)]
    assert list(store.list()) == [Entry("labels.txt", 8), Entry("plan/deep/train.parquet", 4)]
    store.put("labels.txt", b"other")
    assert store.read("labels.txt") == b"other"
    assert store.place == str(store.root)


def test_a_listing_is_in_the_order_of_the_keys(store):
    """A folder comes where its files' keys are, not where its own name is: "-" and "." are before "/"."""
    keys = ["a/b", "a/c", "a-1/b", "a.txt", "a0", "A", "train/0", "train-refresh1/0"]
    for key in keys:
        store.put(key, key.encode())
    assert [entry.key for entry in store.list()] == sorted(keys)


def test_a_listing_of_what_is_not_there_is_empty(store):
    store.put("file", b"x")
    assert list(store.list("nothing/")) == list(store.list("file/")) == []
    assert list(FolderStore(store.root / "nowhere").list()) == []


def test_a_listing_does_not_leave_the_folder_through_a_link(store, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(b"x")
    (store.root / "link").symlink_to(tmp_path / "elsewhere")
    (store.root / "circle").symlink_to(store.root)
    (store.root / "nowhere").symlink_to(tmp_path / "missing")
    assert list(store.list()) == []


def test_what_is_missing_is_an_error_for_who_reads_and_none_for_who_deletes(store):
    with pytest.raises(FileNotFoundError):
        store.read("missing")
    with pytest.raises(FileNotFoundError), store.local("missing"):
        pass
    store.delete("missing")
    store.delete("missing/below")


def test_a_local_file_holds_the_object(store):
    store.put("a/b", b"content")
    with store.local("a/b") as path:
        assert path.read_bytes() == b"content"


def test_deleting_the_last_object_of_a_folder_removes_the_folder_and_never_the_root(store):
    store.put("a/b/c", b"x")
    store.put("a/d", b"x")
    store.delete("a/b/c")
    assert sorted(path.name for path in (store.root / "a").iterdir()) == ["d"]
    store.delete("a/d")
    assert not (store.root / "a").exists()
    assert store.root.is_dir() and store.scratch.is_dir()


def test_a_file_made_elsewhere_is_put_and_the_scratch_folder_is_left_empty(store, tmp_path):
    with store.temporary("shard") as path:
        path.write_bytes(b"one")
        store.put("one", path)
    (tmp_path / "two").write_bytes(b"two")
    store.put("two", tmp_path / "two")
    assert files(store.root) == {"one": b"one", "two": b"two"}
    assert list(store.scratch.iterdir()) == []


def test_a_temporary_file_goes_also_where_its_making_fails(store):
    with pytest.raises(ZeroDivisionError), store.temporary("shard") as path:
        path.write_bytes(b"half")
        raise ZeroDivisionError
    with store.temporary("shard") as path:
        pass  # nothing was written
    assert list(store.scratch.iterdir()) == []


def test_a_reader_cannot_write(store):
    reader = FolderStore(store.root)
    for write in (lambda: reader.create("a", b"x"), lambda: reader.put("a", b"x"), lambda: reader.delete("a")):
        with pytest.raises(ValueError, match="was opened for reading"):
            write()
    assert files(store.root) == {}


def test_a_store_crosses_process_borders(store):
    copy = pickle.loads(pickle.dumps(store))
    assert copy == store and hash(copy) == hash(store)
    copy.put("a", b"x")
    assert store.read("a") == b"x"


@pytest.mark.parametrize("write", [FolderStore.create, FolderStore.put])
def test_a_full_disk_is_named_and_leaves_nothing(write, store):
    store.put("before", b"x")
    with disk_with_room_for(1000), pytest.raises(NoRoom, match=r"no room to write .*out/a/large: .*Nothing is lost"):
        write(store, "a/large", bytes(2000))
    assert files(store.root) == {"before": b"x"}
    assert list(store.scratch.iterdir()) == []


def test_a_kill_before_the_name_is_given_leaves_the_object_as_it_was(store, monkeypatch):
    store.put("a", b"old")
    monkeypatch.setattr(os, "replace", lambda source, target: os.kill(os.getpid(), 9))
    process = multiprocessing.get_context("fork").Process(target=store.put, args=("a", b"new"))
    process.start()
    process.join()
    assert process.exitcode == -9
    assert store.read("a") == b"old"


# One winner -------------------------------------------------------------------------------------

REFUSALS = [None, errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL]


@pytest.fixture(params=REFUSALS, ids=lambda error: errno.errorcode[error] if error else "links")
def with_or_without_links(request, monkeypatch):
    if request.param is not None:
        no_links(monkeypatch, request.param)


def test_the_first_creates_and_the_second_learns_so(store, with_or_without_links):
    assert store.create("a/b", b"first") is True
    assert store.create("a/b", b"second") is False
    assert files(store.root) == {"a/b": b"first"}
    assert list(store.scratch.iterdir()) == []


def test_who_comes_second_after_the_look_at_the_name_loses_too(store, with_or_without_links, monkeypatch):
    monkeypatch.setattr(folder_store, "_has_content", lambda path: False)
    assert store.create("a", b"first") is True
    assert store.create("a", b"second") is False
    assert files(store.root) == {"a": b"first"}


def test_of_many_threads_one_creates(store, with_or_without_links):
    contents = [str(number).encode() for number in range(16)]
    barrier = threading.Barrier(len(contents))

    def create(content: bytes) -> bool:
        barrier.wait()
        return store.create("a/b/c", content)

    for _ in range(5):
        with ThreadPoolExecutor(len(contents)) as pool:
            won = list(pool.map(create, contents))
        assert won.count(True) == 1
        assert store.read("a/b/c") == contents[won.index(True)]
        store.delete("a/b/c")
    assert list(store.scratch.iterdir()) == []


def create_all(store: FolderStore, content: bytes, keys: list[str]) -> list[str]:
    """Creates objects; returns the keys of those that were not there."""
    return [key for key in keys if store.create(key, content)]


def test_of_many_processes_one_creates_each(store, with_or_without_links):
    keys = [f"objects/{number:03d}" for number in range(60)]
    contents = [bytes([65 + number]) * 10 for number in range(4)]
    context = multiprocessing.get_context("fork")  # so that the processes have no links either
    with ProcessPoolExecutor(len(contents), mp_context=context) as pool:
        won = list(pool.map(create_all, [store] * len(contents), contents, [keys] * len(contents)))
    assert sorted(key for each in won for key in each) == keys
    for each, content in zip(won, contents, strict=True):
        assert all(store.read(key) == content for key in each)


def test_a_link_that_nfs_made_twice_is_ours(store, monkeypatch):
    """The first answer was lost, and the second request found the name taken, by the first."""
    link = os.link

    def link_twice(source, target):
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", link_twice)
    assert store.create("a", b"ours") is True
    assert store.read("a") == b"ours"


def test_another_error_of_a_link_is_no_lack_of_links(store, monkeypatch):
    no_links(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        store.create("a", b"x")
    assert files(store.root) == {}


def test_an_empty_file_is_a_name_that_is_taken_and_no_object(store, with_or_without_links):
    (store.root / "a").touch()
    assert store.create("a", b"x") is False
    with pytest.raises(FileNotFoundError), store.local("a"):
        pass
    assert list(store.list()) == [Entry("a", 0)]
    store.delete("a")
    assert store.create("a", b"x") is True


def test_without_links_a_name_is_reserved_before_it_has_content(store, monkeypatch):
    no_links(monkeypatch)
    seen = []
    replace = os.replace

    def watch(source, target):
        seen.append(Path(target).read_bytes())
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    store.create("a", b"x")
    assert seen == [b""]


# Folders that others remove ---------------------------------------------------------------------


@pytest.mark.parametrize("call, write", [("link", FolderStore.create), ("replace", FolderStore.put)])
def test_a_folder_that_is_removed_before_the_name_is_given_is_made_again(call, write, store, monkeypatch):
    original, removals = getattr(os, call), iter(range(3))

    def remove_folder_first(source, target):
        if next(removals, None) is not None:
            Path(target).parent.rmdir()
        return original(source, target)

    monkeypatch.setattr(os, call, remove_folder_first)
    write(store, "a/b/c", b"x")
    assert store.read("a/b/c") == b"x"


@pytest.mark.parametrize("error", [FileNotFoundError, FileExistsError])
def test_a_folder_that_is_removed_while_it_is_made_is_made_again(error, store, monkeypatch):
    """What `Path.mkdir` raises where a folder or its parent goes between two of its steps."""
    mkdir, failures = Path.mkdir, iter(range(3))

    def fail_first(path, *args, **options):
        if next(failures, None) is not None:
            raise error(errno.ENOENT, "as if removed", str(path))
        return mkdir(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", fail_first)
    assert store.create("a/b/c", b"x") is True
    assert store.read("a/b/c") == b"x"


def test_writers_and_deleters_of_one_folder_do_not_disturb_each_other(store):
    def write_and_delete(name: int) -> None:
        for _ in range(100):
            assert store.create(f"a/b/{name}", b"x")
            store.delete(f"a/b/{name}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write_and_delete, range(8)))
    assert files(store.root) == {}


def test_a_file_where_a_folder_should_be_is_an_error_and_stays(store):
    store.put("a", b"x")
    for write in (store.put, store.create):
        with pytest.raises((FileExistsError, NotADirectoryError)):
            write("a/b", b"y")
    assert files(store.root) == {"a": b"x"}


def test_an_object_that_appears_while_it_is_deleted_is_no_error(store, monkeypatch):
    rename = os.rename

    def miss(source, target):
        try:
            rename(source, target)
        finally:
            store.put("a", b"new")

    monkeypatch.setattr(os, "rename", miss)
    store.delete("a")
    assert store.read("a") == b"new"


# The fence --------------------------------------------------------------------------------------

WRITES = {
    "create": lambda store: store.create("new", b"x"),
    "put": lambda store: store.put("new", b"x"),
    "put over": lambda store: store.put("there", b"x"),
    "put a file of its own": lambda store: put_temporary(store),
    "put a file of the folder": lambda store: store.put("new", store.root / "there"),
    "delete": lambda store: store.delete("there"),
}


def put_temporary(store: FolderStore) -> None:
    with store.temporary("shard") as path:
        path.write_bytes(b"x")
        store.put("new", path)


@pytest.mark.parametrize("write", WRITES)
def test_no_write_of_a_writer_without_its_scratch_folder_succeeds(write, store, with_or_without_links):
    store.put("there", b"old")
    other = open_store(store.root, "other")
    remove_scratch(store.scratch)
    with pytest.raises(FolderInUse, match=r"another run has taken .*out over.*this one stops, and nothing of it is lo"):
        WRITES[write](store)
    assert {key: data for key, data in files(store.root).items() if data} == {"there": b"old"}
    assert not store.scratch.exists()
    WRITES[write](other)


@pytest.mark.parametrize("write", WRITES)
def test_no_write_succeeds_that_began_before_the_scratch_folder_was_removed(write, store, monkeypatch):
    """The writer sleeps between its last but one call to the system and the last, and is taken over meanwhile."""
    store.put("there", b"old")

    def take_over_first(original):
        def call(*arguments, **options):
            if store.scratch.exists():
                remove = original if original is rename else rename
                remove(store.scratch, store.scratch.with_name("dead"))
            return original(*arguments, **options)

        return call

    rename = os.rename
    for name in ("link", "replace", "rename"):
        monkeypatch.setattr(os, name, take_over_first(getattr(os, name)))
    with pytest.raises(FolderInUse):
        WRITES[write](store)
    monkeypatch.undo()
    found = files(store.root)
    assert found == {"there": b"old"}
    assert not store.scratch.exists()


def test_without_links_a_writer_that_was_taken_over_leaves_at_most_a_name(store, monkeypatch):
    no_links(monkeypatch)
    replace = os.replace

    def take_over_first(source, target):
        remove_scratch(store.scratch)
        replace(source, target)

    monkeypatch.setattr(os, "replace", take_over_first)
    with pytest.raises(FolderInUse):
        store.create("new", b"x")
    assert files(store.root) == {"new": b""}


def test_an_error_of_a_library_that_writes_to_a_removed_scratch_folder_says_so_too(store):
    remove_scratch(store.scratch)
    with pytest.raises(FolderInUse), store.temporary("ledger.parquet") as path:
        path.write_bytes(b"x")


def test_a_missing_file_of_somebody_else_is_not_taken_for_a_lost_lease(store, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        store.put("new", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere"), store.temporary("a"):
        (tmp_path / "nowhere").read_bytes()


def test_the_scratch_folder_is_never_made_again_by_a_store(store):
    remove_scratch(store.scratch)
    remove_scratch(store.scratch)  # once more does no harm
    for key in ("missing", "missing/below"):
        with pytest.raises(FolderInUse):
            store.create(key, b"x")
        with pytest.raises(FolderInUse):
            store.put(key, b"x")
        with pytest.raises(FolderInUse):
            store.delete(key)
    assert not store.scratch.exists()
    assert list(store.scratch.parent.iterdir()) == []
