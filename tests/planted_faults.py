"""Plants one-line faults, one at a time, and runs the tests that should notice.

    python tests/planted_faults.py            all of them
    python tests/planted_faults.py grey lock  those whose name holds one of these words

Works on a copy of the checkout. Exit code 1 if a fault survives, or if its place in the source is gone.
"""

import argparse
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Fault:
    """A line of source, what to make of it, and the tests that should fail then."""

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


FAULTS = (
    Fault(
        "grey by BGR for RGB",
        "kinetics_prep/flow/clip_flow.py",
        "cv2.COLOR_RGB2GRAY",
        "cv2.COLOR_BGR2GRAY",
        ("tests/runs/test_clip.py",),
    ),
    Fault(
        "the last flow left uninitialised",
        "kinetics_prep/flow/clip_flow.py",
        "levels[-1] = levels[-2]",
        "pass",
        ("tests/runs/test_clip.py",),
    ),
    Fault(
        "saturated_share always 0",
        "kinetics_prep/flow/clip_flow.py",
        "saturated += field.saturated",
        "saturated += 0",
        ("tests/runs/test_clip.py",),
    ),
    Fault(
        "the manifest's count check off",
        "kinetics_prep/dataset/manifest.py",
        'if not part.refresh and not part.rows == entry["rows"] == done:',
        "if False:",
        ("tests/dataset/test_markers_and_manifest.py",),
    ),
    Fault(
        "a folder forgotten although objects stand in it",
        "kinetics_prep/runs/prepare.py",
        "if committed_shards(store) or any(True for _ in objects.list_objects(store, state.epoch)) or state.search:",
        "if committed_shards(store) or state.search:",
        ("tests/runs/test_prepare.py",),
    ),
    Fault(
        "a search for one reason goes on for another",
        "kinetics_prep/runs/prepare.py",
        "(set(current.reasons) != set(reasons) or",
        "(False or",
        ("tests/runs/test_again.py",),
    ),
    Fault(
        "a search that was closed is not packed at the door",
        "kinetics_prep/dataset/door.py",
        "if folder.state.search is not None and folder.state.search.is_packing:",
        "if False:",
        ("tests/runs/test_again.py", "tests/runs/test_kills.py"),
    ),
    Fault(
        "what was found stays in the ledgers in which it was missing",
        "kinetics_prep/dataset/search.py",
        "if part.split == search.split and part.refresh < state.search.number:",
        "if False:",
        ("tests/runs/test_again.py",),
    ),
    Fault(
        "what was found counted in the ledgers that it leaves",
        "kinetics_prep/dataset/status.py",
        'if row["reason"] not in RETRYABLE or row["clip_id"] not in later:',
        "if True:",
        ("tests/runs/test_again.py",),
    ),
    Fault(
        "a retry loses what else was done of a shard",
        "kinetics_prep/runs/prepare.py",
        "        store.create(new + key.removeprefix(old), store.read(key))",
        "        pass",
        ("tests/runs/test_again.py",),
    ),
    Fault(
        "a clip prepared whatever the tools of its process",
        "kinetics_prep/runs/clip.py",
        "    context.expect_tools()\n",
        "",
        ("tests/runs/test_clip.py",),
    ),
    Fault(
        "threads of its own for each bundle",
        "kinetics_prep/beam/stages.py",
        "self._pool = _pool(self._run_id, self._workers)",
        "self._pool = concurrent.futures.ThreadPoolExecutor(self._workers)",
        ("tests/beam/test_stages.py",),
    ),
    Fault(
        "a disk that fills while a library writes is no full disk",
        "kinetics_prep/storage/folder_store.py",
        "as path, reporting_full_disk(self.root / name):",
        "as path, contextlib.nullcontext():",
        ("tests/beam/test_pipeline.py::test_a_full_disk_stops_the_run_loses_nothing_and_goes_on_later",),
    ),
    Fault(
        "an object of another row taken into a shard",
        "kinetics_prep/dataset/shards.py",
        '    check_same_rows(name, rows, ledger_rows, "object")\n    written',
        "    written",
        ("tests/dataset/test_shards.py",),
    ),
    Fault(
        "no bound on clips in flight",
        "kinetics_prep/beam/stages.py",
        "while len(self._running) >= 2 * self._workers:",
        "while False:",
        ("tests/beam/test_stages.py",),
    ),
    Fault(
        "a clip carried out though its shard is committed",
        "kinetics_prep/runs/clip.py",
        "        if part.is_committed(row.shard):  # asked",
        "        if False:  # asked",
        ("tests/runs/test_clip.py",),
    ),
    Fault(
        "times beyond a clip's end not validated",
        "kinetics_prep/dataset/record_problems.py",
        'if times[-1] >= record.integer("clip/end/timestamp"):',
        "if False:",
        ("tests/dataset/test_validate.py",),
    ),
    Fault(
        "the second look at a pause left out",
        "kinetics_prep/sources/pace.py",
        "            self._sleep(seconds)\n            self._wait_for_end_of_pause()\n",
        "            self._sleep(seconds)\n",
        ("tests/sources/test_pace.py",),
    ),
    Fault(
        "a refusal in the cache not forgotten when the file came",
        "kinetics_prep/sources/cache.py",
        "        self.refusals.forget(new.key, new.place)\n",
        "",
        ("tests/sources/test_cache.py",),
    ),
    Fault(
        "no limit on a record's length",
        "kinetics_prep/records/tfrecord.py",
        "if length > _LARGEST_BYTES:",
        "if False:",
        ("tests/records/test_tfrecord.py",),
    ),
    Fault(
        "the order of duplicates in the row store",
        "kinetics_prep/annotations/row_store.py",
        "ORDER BY clip, position",
        "ORDER BY clip",
        ("tests/annotations/test_row_store.py",),
    ),
    Fault(
        "colours of a video exchanged on the way to its record",
        "kinetics_prep/media/ffmpeg.py",
        'pix_fmt="rgb24"',
        'pix_fmt="bgr24"',
        ("tests/runs/test_clip.py",),
    ),
    Fault(
        "store: a file from elsewhere moved past the fence",
        "kinetics_prep/storage/folder_store.py",
        "isinstance(content, Path) and content.parent == self._scratch()",
        "isinstance(content, Path)",
        ("tests/storage/test_folder_store.py",),
    ),
    Fault(
        "store: a file that is being made is not fenced",
        "kinetics_prep/storage/folder_store.py",
        "        with self._fenced():\n            try:\n                yield path",
        "        with contextlib.nullcontext():\n            try:\n                yield path",
        ("tests/storage/test_folder_store.py",),
    ),
    Fault(
        "store: a deletion of nothing is not fenced",
        "kinetics_prep/storage/folder_store.py",
        "if not self._scratch().is_dir():\n                    raise",
        "if path.exists():\n                    raise",
        ("tests/storage/test_folder_store.py",),
    ),
    Fault(
        "store: a folder that goes while it is made is an error",
        "kinetics_prep/storage/folder_store.py",
        "if attempt == _ATTEMPTS - 1:\n                raise",
        "raise",
        ("tests/storage/test_folder_store.py",),
    ),
    Fault(
        "store: folders listed by their own names",
        "kinetics_prep/storage/folder_store.py",
        "key=_place_in_keys",
        "key=lambda entry: entry.name",
        ("tests/storage/test_folder_store.py",),
    ),
    Fault(
        "store: a link that NFS made twice is another's",
        "kinetics_prep/storage/folder_store.py",
        "return os.stat(temporary).st_nlink == 2",
        "return False",
        ("tests/storage/test_folder_store.py",),
    ),
    Fault(
        "store: a name taken without links is taken again",
        "kinetics_prep/storage/folder_store.py",
        "os.O_CREAT | os.O_EXCL | os.O_WRONLY",
        "os.O_CREAT | os.O_WRONLY",
        ("tests/storage/test_folder_store.py",),
    ),
    Fault(
        "lease: alive for ever if it names no process",
        "kinetics_prep/storage/lease.py",
        "if not self.machine or not self.started or",
        "if not self.machine or",
        ("tests/storage/test_lease.py",),
    ),
    Fault(
        "lease: a zombie lives",
        "kinetics_prep/storage/lease.py",
        'return "" if fields[0] in "ZX" else fields[19]',
        "return fields[19]",
        ("tests/storage/test_lease.py",),
    ),
    Fault(
        "lease: former holders not stopped",
        "kinetics_prep/storage/lease.py",
        "if folder.name != self.holder.token:",
        "if False:",
        ("tests/storage/test_lease.py",),
    ),
    Fault(
        "lease: two runs that begin together both go on",
        "kinetics_prep/storage/lease.py",
        "if self._leases().keys() <= {*dead, number}:",
        "if True:",
        ("tests/storage/test_lease.py",),
    ),
    Fault(
        "documents: a version flipped to 1 accepted",
        "kinetics_prep/dataset/documents.py",
        "if (version > 1 or _DIGEST in content) and",
        "if version > 1 and",
        ("tests/dataset/test_json_documents.py",),
    ),
    Fault(
        "documents: an empty one taken for none",
        "kinetics_prep/dataset/documents.py",
        'raise CorruptShard(f"{where} is empty")',
        "raise FileNotFoundError(where)",
        ("tests/dataset/test_settings_files.py",),
    ),
    Fault(
        "replace: the new manifest deleted by a second finish",
        "kinetics_prep/dataset/replace.py",
        "if layout.MANIFEST not in moves or staged(layout.MANIFEST) in waiting:",
        "if True:",
        ("tests/dataset/test_replace.py",),
    ),
    Fault(
        "shards: objects removed though the marker is only reserved",
        "kinetics_prep/dataset/shards.py",
        "    if part.is_committed(shard):  # its marker may",
        "    if True:  # its marker may",
        ("tests/dataset/test_shards.py",),
    ),
    Fault(
        "shards: an amendment half written is not done again",
        "kinetics_prep/dataset/shards.py",
        'if rows != before or _sha256(store, key) != marker["ledger_sha256"]:',
        "if rows != before:",
        ("tests/dataset/test_shards.py",),
    ),
    Fault(
        "door: reserved markers stay",
        "kinetics_prep/dataset/door.py",
        "    markers.remove_reserved(store)\n",
        "",
        ("tests/dataset/test_door.py",),
    ),
    Fault(
        "door: a folder of others taken for ours",
        "kinetics_prep/dataset/door.py",
        'if not others and work <= {"lease", "tmp"}:',
        "if True:",
        ("tests/dataset/test_door.py",),
    ),
    Fault(
        "search: a lost find stops every run",
        "kinetics_prep/dataset/search.py",
        "except (KeyError, FileNotFoundError, CorruptShard):",
        "except FileNotFoundError:",
        ("tests/dataset/test_search.py",),
    ),
    Fault(
        "search: an object cut at a record's border is a find",
        "kinetics_prep/dataset/objects.py",
        "if has_record != (ledger_row.status == ledger.WRITTEN):",
        "if False:",
        ("tests/dataset/test_search.py",),
    ),
    Fault(
        "adoption: a stranger's recipe of a newer format stops us",
        "kinetics_prep/dataset/adopt.py",
        "except (CorruptShard, NewerFormat):",
        "except CorruptShard:",
        ("tests/dataset/test_door.py",),
    ),
    Fault(
        "times rounded by check --corrected",
        "kinetics_prep/annotations/check/corrected.py",
        "decimal.Decimal(repr(float(seconds))):f}",
        "round(seconds, 5)}",
        ("tests/annotations/test_check_corrected.py",),
    ),
    Fault(
        "rows of unreadable split left to the first split of the run",
        "kinetics_prep/annotations/selection.py",
        "is_theirs = split == self.split_of_unknown",
        "is_theirs = split == self.splits[0]",
        ("tests/annotations/test_selection.py",),
    ),
    Fault(
        "a URL taken for a folder",
        "kinetics_prep/storage/local_paths.py",
        "return match and (",
        "return None and (",
        ("tests/cli/test_flags_and_options.py",),
    ),
    Fault(
        "a bug of a worker taken for the error it was handling",
        "kinetics_prep/cli/endings.py",
        "text.rpartition(_TRACEBACK)",
        "text.partition(_TRACEBACK)",
        ("tests/cli/test_cli.py",),
    ),
    Fault(
        "a signature shown because its name tells nothing",
        "kinetics_prep/sources/address.py",
        "len(value) >= _LONG and",
        "False and",
        ("tests/sources/test_address.py",),
    ),
    Fault(
        "secrets of a redirection in a message",
        "kinetics_prep/sources/http.py",
        "with_secrets.append(current)",
        "pass",
        ("tests/sources/test_http.py",),
    ),
    Fault(
        "places with a secret recorded",
        "kinetics_prep/dataset/sources_file.py",
        'return "://" in text and',
        "return False and",
        ("tests/dataset/test_settings_files.py",),
    ),
    Fault(
        "rows of a download on disk at its end only",
        "kinetics_prep/runs/download_ledger.py",
        "while not self._end.wait(FLUSH_SECONDS):",
        "while not self._end.wait():",
        ("tests/runs/test_download.py",),
    ),
    Fault(
        "one ledger for files of one name",
        "kinetics_prep/runs/download_ledger.py",
        "contents = [path and sha256_of(path) for path in files]",
        "contents = [path and path.name for path in files]",
        ("tests/runs/test_download.py",),
    ),
)


def tests_pass(tests: tuple[str, ...], copy: Path) -> bool:
    """Whether some tests pass in a copy of the checkout."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=900).returncode == 0


def survives(fault: Fault, copy: Path) -> bool | None:
    """Whether the tests pass with a fault; None if its place is gone."""
    path = copy / fault.file
    source = path.read_text("utf-8")
    if source.count(fault.before) != 1:
        return None
    path.write_text(source.replace(fault.before, fault.after), "utf-8")
    try:
        return tests_pass(fault.tests, copy)
    finally:
        path.write_text(source, "utf-8")


def main() -> int:
    """Plants the faults and prints what became of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="only faults whose name holds one of these")
    words = parser.parse_args().words
    chosen = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        # As deep as the checkout, so that tests find ../shared from there too.
        copy = Path(folder) / "checkout"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv*", "__pycache__", "*.egg-info"))
        if (ROOT.parent / "shared").is_dir():
            (copy.parent / "shared").symlink_to(ROOT.parent / "shared")
        sound = tuple(sorted({test for fault in chosen for test in fault.tests}))
        if not tests_pass(sound, copy):
            print("the tests fail without any fault")
            return 1
        for fault in chosen:
            start = time.monotonic()
            outcome = survives(fault, copy)
            words_of = {True: "SURVIVES", False: "killed", None: "GONE"}
            bad += outcome is not False
            print(f"{words_of[outcome]:8s}  {time.monotonic() - start:5.1f} s  {fault.name}", flush=True)
    print(f"{len(chosen) - bad} of {len(chosen)} killed")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
