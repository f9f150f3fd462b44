"""Videos in tar archives: which member of which, byte for byte, without going through an archive twice."""

import collections
import gzip
import hashlib
import io
import logging
import os
import random
import signal
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import numbered_frames, write_video
from small_disk import disk_with_room_for

from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.errors import BadOption, NoRoom, NotFound, TooLarge, UnreadableFile
from kinetics_prep.media import video
from kinetics_prep.sources import archive, archive_index, archive_indexing, archive_scan, seek_points
from kinetics_prep.sources.archive import Archives
from kinetics_prep.sources.fetching import Fetching
from kinetics_prep.sources.folder import Folder


def plan_row(media_id="abc", start=5.0, end=15.0) -> PlannedRow:
    return PlannedRow(
        0, 0, f"{media_id}_{start}_{end}", media_id, "using segway", 0, "train", start, end, "rows.csv", 2
    )


@pytest.fixture(autouse=True)
def hears_warnings(caplog):
    """Whatever level the root logger was left at by a command that ran before."""
    caplog.set_level(logging.WARNING, "kinetics_prep.sources")


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> bytes:
    """A video of a second."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", numbered_frames(25)).read_bytes()


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "", **pax) -> tuple:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname, info.pax_headers = len(content), kind, link, pax
    return info, content


def tar_of(*members: tuple, kind: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar archive, plain."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def files(**contents: bytes) -> bytes:
    return tar_of(*(member(f"{name}.mp4", content) for name, content in contents.items()))


@pytest.fixture
def opened(tmp_path):
    """Writes archives, by their names, and opens what `text` means in that folder."""

    def make(text: str = "", largest_bytes: int = 8 << 30, **contents: bytes) -> Archives:
        root = tmp_path / "videos"
        root.mkdir(exist_ok=True)
        for name, content in contents.items():
            (root / name).write_bytes(content)
        fetching = Fetching((str(root),), largest_bytes=largest_bytes)
        path = str(root / text) if text else str(root)
        assert Archives.accepts(path)
        return Archives.open(path, fetching, tmp_path / "scratch" / "run")

    return make


def content(archives: Archives, row: PlannedRow) -> bytes:
    with next(archives.candidates(row)) as fetched:
        return fetched.path.read_bytes()


def origin(archives: Archives, row: PlannedRow) -> tuple[str, float | None]:
    with next(archives.candidates(row)) as fetched:
        assert fetched.name == os.path.basename(fetched.origin.rsplit(": ", 1)[-1])
        return fetched.origin, fetched.begins_seconds


def noise(size_bytes: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


# What is an archive


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "A.TAR", "a.Tar.Gz", "with spaces (1).tar.gz"])
def test_an_archive_is_known_by_its_suffix(tmp_path, name):
    (tmp_path / name).write_bytes(files(abc=b"x"))
    assert Archives.accepts(str(tmp_path / name))
    assert Archives.accepts(str(tmp_path))


@pytest.mark.parametrize("text", ["https://host/a.tar", "gs://bucket/a.tar.gz", "no/such/a.tar", "no/such/*.tar", "."])
def test_what_is_no_archive_is_not_accepted(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    assert not Archives.accepts(text)


def test_a_folder_with_a_single_loose_video_is_a_folder(tmp_path):
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "deep/part_0.tar.gz").write_bytes(gzip.compress(files(abc=b"x")))
    (tmp_path / "README").touch()
    assert Archives.accepts(str(tmp_path))
    (tmp_path / "deep/er/loose.mp4").touch()
    assert not Archives.accepts(str(tmp_path)) and Folder.accepts(str(tmp_path))


def test_a_pattern_means_the_archives_that_match_it(opened):
    parts = {f"part_{k}.tar": files(**{f"id{k}": b"%d" % k}) for k in range(3)}
    archives = opened("part_[01].tar", **parts)
    assert origin(archives, plan_row("id1")) == ("part_1.tar: id1.mp4", None)
    with pytest.raises(NotFound, match="any of the 2 archives"):
        content(archives, plan_row("id2"))


def test_a_pattern_does_not_mean_folders(opened, tmp_path):
    (tmp_path / "videos/b.tar").mkdir(parents=True)
    assert not Archives.accepts(str(tmp_path / "videos/*.tar"))
    assert content(opened("*.tar", **{"a.tar": files(abc=b"x")}), plan_row()) == b"x"


def test_a_url_is_not_an_archive_even_if_a_file_has_its_name(tmp_path, monkeypatch):
    (tmp_path / "https:/host").mkdir(parents=True)
    (tmp_path / "https:/host/a.tar").write_bytes(files(abc=b"x"))
    monkeypatch.chdir(tmp_path)
    assert Archives.accepts("https:/host/a.tar") and not Archives.accepts("https://host/a.tar")


def test_a_name_that_looks_like_a_pattern_means_itself(opened):
    assert content(opened("a[1].tar", **{"a[1].tar": files(abc=b"x")}), plan_row()) == b"x"


@pytest.mark.parametrize(
    "name, data, message",
    [
        ("a.tar.xz", b"\xfd7zXZ\0\0", "is xz, .* repack it as .tar or .tar.gz"),
        ("a.tar.bz2", b"BZh91AY", "is bzip2"),
        ("a.tar.zst", b"\x28\xb5\x2f\xfd...", "is Zstandard"),
        ("a.zip", b"PK\x03\x04....", "is zip"),
        ("a.tar", b"\xfd7zXZ\0\0", "is xz"),
        ("a.tar.gz", b"<!DOCTYPE html>" * 99, "is no tar archive: it begins with b'<!DOCTYPE html><'"),
        (
            "a.tar.gz",
            gzip.compress(b"label,youtube_id\n" * 99, mtime=0),
            "is no tar archive: it begins with b'label,you",
        ),
        ("a.tar", b"", "is no tar archive: it is empty"),
        ("a.tar", b"short", "is no tar archive"),
        ("a.tar", tar_of(), "there is no video in the archive"),
        ("a.tar", tar_of(member("._abc.mp4"), member("d/.git/abc.mp4")), "there is no video in the archive"),
        ("a.tgz", gzip.compress(tar_of(member("notes.txt", b"x")), mtime=0), "there is no video in the archive"),
    ],
)
def test_what_cannot_be_used_is_a_mistake_that_is_named(opened, name, data, message):
    with pytest.raises(BadOption, match=message):
        opened(name, **{name: data})


def test_a_gzipped_archive_is_known_by_its_content(opened):
    archives = opened(**{"a.tar.gz": files(abc=b"plain"), "b.tar": gzip.compress(files(xyz=b"gzipped"))})
    assert [content(archives, plan_row(name)) for name in ("abc", "xyz")] == [b"plain", b"gzipped"]


# Which member


@pytest.mark.parametrize(
    "better, worse",
    [
        ("z/abc_000005_000015.mp4", "a/abc_4_16.mp4"),
        ("z/abc_0_20.mp4", "abc.mp4"),
        ("abc_5_15.mp4", "abc.mp4"),
        ("abc_5_15.mp4", "abc_5_15.dat"),
        ("z/abc.mp4", "abc.unknown"),
        ("a/abc.mp4", "b/abc.mp4"),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_the_best_member_is_chosen_as_in_a_folder(opened, better, worse, together):
    if together:
        archives = opened(**{"a.tar": tar_of(member(worse, b"-"), member(better, b"+"))})
    else:
        archives = opened(**{"a.tar": tar_of(member(better, b"+")), "b.tar": tar_of(member(worse, b"-"))})
    assert content(archives, plan_row()) == b"+"


@pytest.mark.parametrize(
    "name",
    ["._abc.mp4", "__MACOSX/._abc.mp4", ".hidden/abc.mp4", "abc.mp4.part", "abc.json", "abcd.mp4", "abc_6_15.mp4"],
)
def test_junk_and_other_videos_are_not_found(opened, name):
    archives = opened(**{"a.tar.gz": gzip.compress(tar_of(member("unrelated.mp4"), member(name, b"x")))})
    with pytest.raises(NotFound, match=r"no file abc\.\* or abc_<start>_<end>\.\* in the archive"):
        content(archives, plan_row())


def test_archives_in_the_layouts_of_mirrors(opened, clip):
    k600 = tar_of(member("using segway", kind=tarfile.DIRTYPE), member("using segway/abc_000005_000015.mp4", clip))
    parts = {
        "part_0.tar.gz": gzip.compress(tar_of(member("./xyz_000010_000020.mp4", b"x"), member("./._abc_5_15.mp4"))),
        "using segway.tar.gz": gzip.compress(k600),
    }
    archives = opened(**parts)
    assert origin(archives, plan_row()) == ("using segway.tar.gz: using segway/abc_000005_000015.mp4", 5.0)
    assert origin(archives, plan_row("xyz", 10.0, 20.0)) == ("part_0.tar.gz: ./xyz_000010_000020.mp4", 10.0)
    with next(archives.candidates(plan_row())) as fetched:
        assert video.probe(fetched.path).width == 64
    assert not fetched.path.exists()


def test_real_clips_come_out_as_they_went_in(shared_data, tmp_path):
    paths = sorted((shared_data / "kinetics").glob("*.m*"))
    with tarfile.open(tmp_path / "part_0.tar.gz", "w:gz", compresslevel=1) as archive:
        for path in paths:
            archive.add(path, f"./{path.name}")
    archives = Archives.open(str(tmp_path), Fetching((str(tmp_path),)), tmp_path / "s/run")
    for path in paths:
        assert content(archives, plan_row(path.stem)) == path.read_bytes()


@pytest.mark.parametrize("outer, inner", [("gz", "gz"), ("gz", "plain"), ("plain", "gz"), ("plain", "plain")])
def test_archives_in_archives(opened, tmp_path, outer, inner):
    pack = {"gz": lambda data: gzip.compress(data, 1), "plain": bytes}
    videos = {f"id{k}": noise(3_000_000 + k, k) for k in range(8)}  # so many that there are several points to begin at
    packed = pack[inner](files(**videos))
    data = tar_of(member("before.mp4", b"before"), member("d/in.tar.gz", packed), member("after.mp4", b"after"))
    archives = opened("out.tar", **{"out.tar": pack[outer](data)})
    assert origin(archives, plan_row("id3")) == ("out.tar: d/in.tar.gz: id3.mp4", None)
    for name, expected in {"before": b"before", "after": b"after", **videos}.items():
        assert content(archives, plan_row(name)) == expected
    index_file(tmp_path).unlink()
    assert content(archives, plan_row("id7")) == videos["id7"]


def test_each_stream_is_read_with_its_own_windows(opened, monkeypatch):
    """Text refers to the bytes before it, as random bytes never do: with another window it would be other text."""
    monkeypatch.setattr(seek_points, "SPACING_BYTES", 1 << 16)
    draw = random.Random(0)
    texts = {f"id{k}": bytes(draw.choices(b"abcdefgh", k=150_000)) for k in range(6)}
    inner = gzip.compress(files(**texts), 9)
    archives = opened(**{"a.tgz": gzip.compress(tar_of(member("x.mp4", texts["id0"]), member("in.tgz", inner)), 9)})
    assert len(set(archives._indexes[0].contents.points["layer"])) == 2
    for name, text in {"x": texts["id0"], **texts}.items():
        assert content(archives, plan_row(name)) == text


def test_archives_are_looked_into_three_deep(opened, caplog):
    deep = files(deepest=b"x")
    for k in range(3):
        deep = tar_of(member(f"level{k}.mp4", b"%d" % k), member("in.tar", deep))
    archives = opened(**{"a.tar": deep})
    assert origin(archives, plan_row("level0"))[0] == "a.tar: in.tar: in.tar: level0.mp4"
    with pytest.raises(NotFound):
        content(archives, plan_row("deepest"))
    assert "it is not read" in caplog.text


# Byte for byte, at random


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """An archive of 40 MB, half of it in streams of its own, and the sha256 of each video in it."""
    rng, videos = random.Random(0), {}
    for k in range(60):
        size_bytes = rng.choice([0, 1, 511, 512, 513, 300_000, 1_000_000, 2_000_003])
        videos[f"id{k:02d}"] = noise(size_bytes, k) if k % 3 else bytes(rng.choices(b"abcdefg", k=size_bytes // 10))
    path, data = tmp_path_factory.mktemp("large") / "part_0.tar.gz", files(**videos)
    half = len(data) // 2
    streams = [data[:half], *(data[k : k + 700_000] for k in range(half, len(data), 700_000))]
    path.write_bytes(b"".join(gzip.compress(stream, 1) for stream in streams) + bytes(1000))
    return path, {name: hashlib.sha256(content).hexdigest() for name, content in videos.items()}


def test_threads_that_fetch_at_random_get_the_right_bytes(large, tmp_path):
    path, videos = large
    archives = Archives.open(str(path), Fetching((str(path),)), tmp_path / "s/run")
    assert len(archives._indexes[0].contents.points) > 3
    names = random.Random(1).choices(sorted(videos), k=150)
    with ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(lambda name: hashlib.sha256(content(archives, plan_row(name))).hexdigest(), names))
    assert digests == [videos[name] for name in names]
    assert not list((tmp_path / "s/run").iterdir())


class Counting(io.FileIO):
    """A file that counts what is read of it."""

    read_bytes = 0

    def read(self, size=-1):
        data = super().read(size)
        self.read_bytes += len(data)
        return data


def test_a_video_is_not_read_from_the_beginning_of_its_archive(large, tmp_path):
    path, videos = large
    index = archive_indexing.index_of(path, tmp_path / "archives")
    packed = index.video(58)
    with Counting(path) as file:
        data = b"".join(index.blocks(file, packed))
    assert hashlib.sha256(data).hexdigest() == videos["id58"]
    assert packed.offset > 20e6
    assert file.read_bytes < packed.size_bytes + seek_points.SPACING_BYTES + (2 << 20)


def test_an_archive_is_gone_through_once(large, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "kinetics_prep.sources")
    path, _ = large
    first = archive_indexing.index_of(path, tmp_path / "archives")
    assert [record.message.startswith(f"archive {path}: 60 videos, ") for record in caplog.records] == [True]
    caplog.clear()
    monkeypatch.delattr(archive_indexing, "scan")
    again = archive_indexing.index_of(path, tmp_path / "archives")
    assert not caplog.records
    assert [again.video(k) for k in range(60)] == [first.video(k) for k in range(60)]


def test_the_index_stands_beside_the_downloads_or_beside_the_scratch(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(files(abc=b"x"))
    Archives.open(str(path), Fetching((str(path),), cache=str(tmp_path / "cache")), tmp_path / "out/scratch")
    Archives.open(str(path), Fetching((str(path),)), tmp_path / "out/scratch")
    assert len(list((tmp_path / "cache/archives").iterdir())) == len(list((tmp_path / "out/archives").iterdir())) == 1


# Indexes that are not what they should be


def index_file(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "scratch/archives").glob("*.index")
    return path


@pytest.mark.parametrize("how", ["cut", "empty", "a bit", "no zip", "another", "packed"])
def test_a_damaged_index_is_made_anew(opened, tmp_path, how):
    archive = {"a.tar.gz": gzip.compress(files(abc=noise(1000), xyz=noise(500)))}
    opened(**archive)
    path = index_file(tmp_path)
    good = bytearray(path.read_bytes())
    if how == "another":
        with zipfile.ZipFile(path, "w") as empty:
            empty.writestr("about.json", "{}")
    elif how == "packed":
        with zipfile.ZipFile(io.BytesIO(good)) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))
    else:
        at = good.index(b"abc.mp4")
        changed = {"cut": good[:-30], "empty": b"", "no zip": noise(2000), "a bit": good[:at] + b"A" + good[at + 1 :]}
        path.write_bytes(changed[how])
    assert content(opened(), plan_row()) == noise(1000)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(io.BytesIO(good)) as new:
        assert {name: old.read(name) for name in old.namelist()} == {name: new.read(name) for name in new.namelist()}


@pytest.mark.parametrize(
    "array, field, value",
    [
        ("members", "layer", 7),
        ("members", "offset", 1 << 63),
        ("members", "name_at", 10**9),
        ("members", "name_bytes", 10**9),
        ("members", "crc", 1 << 40),
        ("points", "layer", 5),
        ("points", "bits", 9),
        ("points", "unpacked", 1 << 63),
        ("numbers", None, 99),
        ("keys", None, None),
    ],
)
def test_a_hostile_index_is_made_anew(opened, tmp_path, array, field, value):
    opened(**{"a.tar.gz": gzip.compress(files(abc=b"true"))})
    path = index_file(tmp_path)
    with zipfile.ZipFile(path) as old:
        contents = {name: old.read(name) for name in old.namelist()}
    kinds = {"members": archive_index.MEMBER, "points": archive_index.POINT, "numbers": "<u4", "keys": "<u8"}
    changed = np.frombuffer(contents[array], kinds[array]).copy()
    if field:
        changed[field] = value
    elif value:
        changed[:] = value
    contents[array] = (changed if value else changed[:-1]).tobytes()
    with zipfile.ZipFile(path, "w") as new:
        for name, data in contents.items():
            new.writestr(name, data)
    assert content(opened(), plan_row()) == b"true"


def test_an_index_that_goes_while_it_is_in_use_is_made_anew(large, tmp_path):
    path, videos = large
    archives = Archives.open(str(path), Fetching((str(path),)), tmp_path / "scratch/run")
    index_file(tmp_path).unlink()
    with ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(lambda name: hashlib.sha256(content(archives, plan_row(name))).hexdigest(), videos))
    assert digests == list(videos.values())
    assert index_file(tmp_path).exists()


def test_a_run_killed_while_it_indexes_leaves_nothing_that_harms(large, tmp_path):
    path, videos = large
    code = f"""
        import os, signal, zipfile
        from pathlib import Path
        from kinetics_prep.sources import archive_indexing
        write = zipfile.ZipFile.writestr
        def killed_at_the_points(self, name, data):
            if name == "points":
                self.fp.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            write(self, name, data)
        zipfile.ZipFile.writestr = killed_at_the_points
        archive_indexing.index_of(Path({str(path)!r}), Path({str(tmp_path / "scratch/archives")!r}))
    """
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(code)])
    assert process.returncode == -signal.SIGKILL
    (left,) = (tmp_path / "scratch/archives").iterdir()
    archives = Archives.open(str(path), Fetching((str(path),)), tmp_path / "scratch/run")
    assert hashlib.sha256(content(archives, plan_row("id20"))).hexdigest() == videos["id20"]
    os.utime(left, (0, 0))
    archive_indexing.rebuild_index(path, tmp_path / "scratch/archives")
    assert not left.exists()


def test_processes_may_index_at_once(large, tmp_path):
    path, _ = large
    code = """
        import sys
        from pathlib import Path
        from kinetics_prep.sources import archive_indexing
        print(len(archive_indexing.index_of(Path(sys.argv[1]), Path(sys.argv[2]))))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path), str(tmp_path / "scratch/archives")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate()[0].strip() for process in processes] == [b"60"] * 3
    assert index_file(tmp_path) and len(list((tmp_path / "scratch/archives").iterdir())) == 1


# Hostile archives


@pytest.mark.parametrize("name", ["../../abc.mp4", "/etc/abc.mp4", "./abc.mp4", "a//abc.mp4", "d/../abc.mp4"])
@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_name_leads_nowhere_but_to_the_scratch_folder(opened, tmp_path, name, kind):
    archives = opened(**{"a.tar": tar_of(member(name, b"x"), kind=kind)})
    with next(archives.candidates(plan_row())) as fetched:
        assert fetched.path.parent == tmp_path / "scratch/run" and fetched.path.read_bytes() == b"x"
        assert fetched.origin == f"a.tar: {name}" and fetched.name == "abc.mp4"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scratch", "videos"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_what_is_no_file_is_not_found(opened, caplog, kind):
    data = tar_of(member("other.mp4", b"x"), member("abc.mp4", kind=kind, link="other.mp4"), member("last.mp4", b"y"))
    archives = opened(**{"a.tar": data})
    with pytest.raises(NotFound):
        content(archives, plan_row())
    assert content(archives, plan_row("last")) == b"y"
    assert ("not read: 1 that bear" in caplog.text) == (kind != tarfile.DIRTYPE)


@pytest.mark.parametrize("kind", ["gnu", "pax"])
def test_sparse_files_are_refused(opened, caplog, tmp_path, kind):
    with open(tmp_path / "abc.mp4", "wb") as file:
        for k in range(40):  # so many pieces that their map does not fit into one header
            file.seek(k * 200_000)
            file.write(b"data" * 2000)
    (tmp_path / "last.mp4").write_bytes(b"y")
    command = ["tar", "-S", f"--format={kind}", "-cf", "a.tar", "abc.mp4", "last.mp4"]
    subprocess.run(command, cwd=tmp_path, check=True)
    archives = opened(**{"a.tar": (tmp_path / "a.tar").read_bytes()})
    with pytest.raises(NotFound):
        content(archives, plan_row())
    assert content(archives, plan_row("last")) == b"y"
    assert "sparse files" in caplog.text


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_of_members_of_the_same_name_the_last_one_counts(opened, pack):
    old, new, other = member("d/abc.mp4", b"old"), member("d/abc.mp4", b"new"), member("xyz.mp4", b"x")
    for members in ((old, other, new), (old, new, other), (other, old, new)):
        archives = opened(**{"a.tar": pack(tar_of(*members))})
        assert content(archives, plan_row()) == b"new"
        assert content(archives, plan_row("xyz")) == b"x"


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_names_may_be_long_or_no_utf8(opened, kind):
    long, odd = "d" * 90 + "/" + "e" * 90 + "/abc.mp4", os.fsdecode(b"caf\xe9/xyz_5_15.mp4")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind, encoding="utf-8", errors="surrogateescape") as archive:
        for info, data in (member(long, b"long"), member(odd, b"odd")):
            archive.addfile(info, io.BytesIO(data))
    archives = opened(**{"a.tar": stream.getvalue()})
    assert content(archives, plan_row()) == b"long" and origin(archives, plan_row())[0] == f"a.tar: {long}"
    assert content(archives, plan_row("xyz")) == b"odd"
    name, _ = origin(archives, plan_row("xyz"))
    assert name.encode() and name.startswith("a.tar: caf") and name.endswith("/xyz_5_15.mp4")


def test_a_member_larger_than_the_limit_is_refused(opened):
    bomb = gzip.compress(tar_of(member("abc.mp4", bytes(50_000_000)), member("xyz.mp4", b"x")))
    assert len(bomb) < 100_000
    archives = opened(largest_bytes=1 << 20, **{"a.tar.gz": bomb})
    with pytest.raises(TooLarge, match=r"50000000 bytes, --largest allows 1048576"):
        content(archives, plan_row())
    assert content(archives, plan_row("xyz")) == b"x"


def test_a_member_just_at_the_limit_is_read(opened):
    data = files(abc=noise(2000), xyz=noise(2001))
    archives = opened(largest_bytes=2000, **{"a.tar": data, "b.tar.gz": gzip.compress(files(gz=noise(2000)))})
    assert content(archives, plan_row()) == content(archives, plan_row("gz")) == noise(2000)
    with pytest.raises(TooLarge):
        content(archives, plan_row("xyz"))


def test_a_bomb_is_not_unpacked_to_its_end(opened, caplog, monkeypatch):
    monkeypatch.setattr(archive_scan, "_SMALL_BYTES", 1 << 20)
    inner = gzip.compress(tar_of(member("xyz.mp4", b"x"), member("abc.mp4", bytes(1 << 26))), 9)
    archives = opened(**{"a.tar": tar_of(member("in.tgz", inner), member("last.mp4", b"y"))})
    with pytest.raises(NotFound):
        content(archives, plan_row())
    assert [content(archives, plan_row(name)) for name in ("xyz", "last")] == [b"x", b"y"]
    assert "over a hundred times its size" in caplog.text


@pytest.mark.parametrize("pack", [bytes, lambda data: gzip.compress(data, 1)], ids=["plain", "gz"])
def test_of_a_truncated_archive_there_is_what_stands_before_the_break(opened, caplog, pack):
    data = pack(files(abc=noise(100_000), xyz=noise(200_000, 1), lost=noise(100_000, 2)))
    for _ in range(2):  # the second time the index says so
        caplog.clear()
        archives = opened(**{"a.tar.gz": data[:350_000]})
        assert content(archives, plan_row()) == noise(100_000)
        assert content(archives, plan_row("xyz")) == noise(200_000, 1)
        with pytest.raises(NotFound):
            content(archives, plan_row("lost"))
        (record,) = caplog.records
        assert record.levelno == logging.WARNING and "breaks off" in record.message


@pytest.mark.parametrize("behind", [b"", b"half a header", b"x" * 600])
def test_an_archive_without_its_end_mark_is_told_of(opened, caplog, behind):
    data = tar_of(member("abc.mp4", b"x"))[:1024]
    assert content(opened(**{"a.tar": data + behind}), plan_row()) == b"x"
    assert "at byte 1024" in caplog.text


def test_a_truncated_archive_in_an_archive_costs_only_itself(opened, caplog):
    inner = gzip.compress(files(abc=noise(1000), lost=noise(90_000)))[:50_000]
    data = tar_of(member("in.tgz", inner), member("no.tar", b"no tar" * 100), member("last.mp4", b"y"))
    archives = opened(**{"a.tar": data})
    assert [content(archives, plan_row(name)) for name in ("abc", "last")] == [noise(1000), b"y"]
    assert "in.tgz in it: its gzip stream breaks off" in caplog.text and "no.tar in it is no tar" in caplog.text


def test_an_archive_full_of_mistakes_does_not_fill_the_log(opened, caplog):
    members = [member(f"{'n' * 2000}{k}.tar", b"no tar" * 100) for k in range(30)]
    opened(**{"a.tar": tar_of(member("abc.mp4", b"x"), *members)})
    assert len(caplog.records) == 20
    assert {len(record.args[1]) for record in caplog.records} == {1000}


@pytest.mark.parametrize("behind", [bytes(10_000), b"garbage" * 1000, b"\0" * 700 + b"\x1fx"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_what_stands_behind_an_archive_does_not_matter(opened, caplog, pack, behind):
    assert content(opened(**{"a.tar": pack(files(abc=b"x")) + behind}), plan_row()) == b"x"
    assert not caplog.records


def test_archives_may_be_joined(opened, caplog):
    joined = gzip.compress(files(abc=b"1")) + gzip.compress(files(xyz=b"2")) + gzip.compress(b"")
    archives = opened(**{"a.tar.gz": joined})
    assert [content(archives, plan_row(name)) for name in ("abc", "xyz")] == [b"1", b"2"]
    assert not caplog.records


@pytest.mark.parametrize("header", ["L", "x", "size"])
def test_a_header_that_lies_is_not_believed(opened, caplog, header):
    info = tarfile.TarInfo("abc.mp4")
    info.size, info.type = (1 << 40, header.encode()) if header != "size" else (1 << 62, tarfile.REGTYPE)
    data = tar_of(member("xyz.mp4", b"x"))[:1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)
    archives = opened(**{"a.tar": data, "b.tar": gzip.compress(data)})
    assert content(archives, plan_row("xyz")) == b"x"
    assert len(caplog.records) == 2


def test_random_damage_is_never_a_crash(opened, tmp_path):
    rng, good = random.Random(0), files(abc=noise(3000), xyz=noise(2000, 1), long=b"l" * 200)
    outcomes = collections.Counter()
    for k in range(150):
        data = bytearray(good if k % 2 else gzip.compress(good, mtime=0))
        for _ in range(rng.randrange(1, 20)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            archives = opened(**{"a.tar": bytes(data)})
        except BadOption:
            outcomes["no archive"] += 1
            continue
        for name in ("abc", "xyz", "long"):
            try:
                content(archives, plan_row(name))
                outcomes["read"] += 1
            except (NotFound, UnreadableFile):
                outcomes["refused"] += 1
    assert min(outcomes[outcome] for outcome in ("no archive", "read", "refused")) > 0, outcomes


# Archives that change, disks that are full


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("how", ["deleted", "replaced", "no archive", "cut", "touched"])
def test_an_archive_that_changed_since_is_refused(opened, tmp_path, pack, how):
    path = tmp_path / "videos/a.tar"
    archives = opened(**{"a.tar": pack(files(abc=noise(5000)))})
    if how == "deleted":
        path.unlink()
    elif how == "replaced":
        path.write_bytes(pack(files(new=noise(10), abc=noise(5000))))
    elif how == "no archive":
        path.write_bytes(noise(9000, 1))
    elif how == "cut":
        os.truncate(path, 2000)
    else:
        os.utime(path, ns=(0, 10**18))
    message = "cannot open the archive: No such file" if how == "deleted" else "the archive has changed since it was"
    with pytest.raises(UnreadableFile, match=rf"^a\.tar: abc\.mp4: {message}"):
        content(archives, plan_row())
    assert not list((tmp_path / "scratch/run").iterdir())


def test_an_archive_that_changes_while_a_video_is_copied_is_refused(opened, tmp_path, monkeypatch):
    archives = opened(**{"a.tar": files(abc=noise(5000))})
    next_block = archive._next_block

    def touched_after(blocks, origin):
        block = next_block(blocks, origin)
        os.utime(tmp_path / "videos/a.tar", ns=(0, 10**18))
        return block

    monkeypatch.setattr(archive, "_next_block", touched_after)
    with pytest.raises(UnreadableFile, match=r"^a\.tar: abc\.mp4: the archive has changed since it was"):
        content(archives, plan_row())


def test_an_archive_that_rotted_before_its_index_is_built_anew_is_refused(opened, tmp_path, monkeypatch):
    """Its size and time are the same, but names in it are not: numbers of the old index may mean other videos."""
    monkeypatch.setattr(seek_points, "SPACING_BYTES", 1 << 16)
    path = tmp_path / "videos/a.tar.gz"
    data = bytearray(gzip.compress(files(abc=noise(300_000), last=b"x"), 0))
    archives = opened(**{"a.tar.gz": bytes(data)})
    before = path.stat()
    data[data.rindex(b"last.mp4")] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    index_file(tmp_path).unlink()
    with pytest.raises(UnreadableFile, match=r"a\.tar\.gz has changed since it was"):
        content(archives, plan_row())


def test_an_index_of_an_archive_around_another_is_built_anew_too(opened, tmp_path, monkeypatch):
    """The window that is missing is that of the outer stream, and is needed while the inner one is read."""
    monkeypatch.setattr(seek_points, "SPACING_BYTES", 1 << 16)
    inner = gzip.compress(files(abc=b"inner"))
    archives = opened(**{"a.tgz": gzip.compress(tar_of(member("x.mp4", noise(300_000)), member("in.tgz", inner)), 1)})
    index_file(tmp_path).unlink()
    assert content(archives, plan_row()) == b"inner"
    assert index_file(tmp_path).exists()


def test_a_member_that_an_index_places_beyond_the_end_is_refused(opened, tmp_path):
    """A stranger may have written the index. A plain archive has no CRC that would tell."""
    opened(**{"a.tar": files(abc=noise(5000))})
    path = index_file(tmp_path)
    with zipfile.ZipFile(path) as old:
        contents = {name: old.read(name) for name in old.namelist()}
    changed = np.frombuffer(contents["members"], archive_index.MEMBER).copy()
    changed["size"] = 1 << 30
    with zipfile.ZipFile(path, "w") as new:
        for name, data in (contents | {"members": changed.tobytes()}).items():
            new.writestr(name, data)
    size_bytes = (tmp_path / "videos/a.tar").stat().st_size - 512
    with pytest.raises(UnreadableFile, match=f"the archive ends after {size_bytes} of its {1 << 30} bytes"):
        content(opened(), plan_row())


def test_an_archive_that_changes_while_it_is_indexed_is_a_mistake(opened, tmp_path, monkeypatch):
    scan = archive_indexing.scan

    def touched_after(file, size_bytes):
        contents = scan(file, size_bytes)
        os.utime(tmp_path / "videos/a.tar", ns=(0, 10**18))
        return contents

    monkeypatch.setattr(archive_indexing, "scan", touched_after)
    with pytest.raises(BadOption, match=r"a\.tar changed while it was read: is it still being written\?"):
        opened(**{"a.tar": files(abc=b"x")})
    assert not (tmp_path / "scratch/archives").exists()


def test_an_archive_that_changed_is_indexed_anew_by_the_next_run(opened):
    opened(**{"a.tar": files(abc=b"old")})
    assert content(opened(**{"a.tar": files(new=b"x", abc=b"new")}), plan_row()) == b"new"


@pytest.mark.parametrize("where", ["stored", "packed"])
def test_an_archive_that_rotted_gives_no_wrong_bytes(opened, tmp_path, where):
    """Its size and time are the same: the CRC tells."""
    path, text = tmp_path / "videos/a.tar.gz", b"some words " * 20_000
    data = bytearray(gzip.compress(files(abc=noise(100_000) if where == "stored" else text, xyz=b"x")))
    archives = opened(**{"a.tar.gz": bytes(data)})
    stat = path.stat()
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(UnreadableFile, match="damaged there|have changed since|ends after"):
        content(archives, plan_row())


def test_a_full_disk_is_said_to_be_full(opened, tmp_path):
    archives = opened(**{"a.tar.gz": gzip.compress(files(abc=noise(500_000)))})
    with disk_with_room_for(100_000), pytest.raises(NoRoom, match="no room to write .*scratch"):
        content(archives, plan_row())
    assert not list((tmp_path / "scratch/run").iterdir())
    with disk_with_room_for(500), pytest.raises(NoRoom, match="no room to write .*archives"):
        archive_indexing.rebuild_index(tmp_path / "videos/a.tar.gz", tmp_path / "scratch/archives")
    assert content(archives, plan_row()) == noise(500_000)


def test_a_file_that_cannot_be_read_is_named(opened, tmp_path):
    (tmp_path / "videos/a.tar").mkdir(parents=True)
    (tmp_path / "videos/b.tar").symlink_to("nowhere.tar")
    with pytest.raises(BadOption, match=r"cannot read .*b\.tar: No such file"):
        opened()
