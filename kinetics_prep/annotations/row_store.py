"""Annotation rows on disk, so that a million of them take no more memory than a hundred thousand.

    with RowStore() as rows:
        rows.add(kinetics_csv.read(path))
        for row in rows.by_clip("train"):
            ...

They stand in a temporary database of SQLite, which sorts and groups them by its own external sort. Its files bear no
name, so they vanish with the process however that ends. They lie where SQLite puts such files: in the folder that
SQLITE_TMPDIR names, else TMPDIR, else /var/tmp. Not in the output folder: rows are read before that is locked or even
made, it may be a mounted bucket, and where SQLite sorts the environment alone can say.
"""

import contextlib
import dataclasses
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.rows import ReadableRow, Row, UnreadableRow
from kinetics_prep.errors import MalformedRow, NoRoom

_CACHE_KIB = 16 * 1024
"""Of each database; as much again is sorted at a time."""

_COLUMNS = "file, line, media_id, start_seconds, end_seconds, split, label, error"

# Columns have no type: SQLite would keep -0.0 in one of numbers as 0.
_TABLES = f"""
PRAGMA main.cache_size = -{_CACHE_KIB};
PRAGMA temp_store = FILE;
PRAGMA temp.cache_size = -{_CACHE_KIB};
PRAGMA temp.journal_mode = OFF;
CREATE TEMP TABLE rows (position INTEGER PRIMARY KEY, clip, {_COLUMNS});
CREATE TEMP TABLE listed (position INTEGER PRIMARY KEY, clip, {_COLUMNS});
CREATE TEMP TABLE firsts (position INTEGER PRIMARY KEY);
BEGIN;
"""


@dataclasses.dataclass(frozen=True)
class VideoRows:
    """What the readable rows say of a video, taken together."""

    media_id: str
    first: int
    """Place of its first row, in the order of reading."""
    clips: int
    splits: tuple[str, ...]
    files: tuple[str, ...]
    """Their base names; sorted, as splits are."""


class RowStore(contextlib.AbstractContextManager):
    """Rows, in the order of reading and in others. Of a clip's rows the first that was read comes first in each.

    Raises:
      NoRoom: whatever is called, if there is no room for its file, or no place.
    """

    def __init__(self):
        # The main database has no table and stays empty. One that is opened as a file without a name would never
        # leave the memory where SQLite was built to keep temporary things there.
        self._db = sqlite3.connect(":memory:", isolation_level=None)
        self._files: list[str] = []
        self._numbers: dict[str, int] = {}
        self._has_firsts = False
        with _room_needed():
            self._db.executescript(_TABLES)

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Gives the room back; closing twice does no harm."""
        self._db.close()

    def add(self, rows: Iterable[Row]) -> int:
        """Takes rows in, behind those that are there, and says how many they were."""
        return self._insert("rows", ((row, None) for row in rows))

    def keep(self, listed: Iterable[tuple[str | None, Row]]) -> None:
        """Drops the rows of videos that are not listed, and those that cannot be read.

        Args:
          listed: ids of videos, each with an unreadable row that is taken in if the video has no row; where an id
            stands there several times, the first such row. Beside None stands one that is taken in at any rate.
        """
        self._insert("listed", ((row, media_id) for media_id, row in listed))
        with _room_needed():
            self._db.execute(
                "DELETE FROM rows WHERE media_id IS NULL"
                " OR media_id NOT IN (SELECT media_id FROM listed WHERE media_id IS NOT NULL)"
            )
            self._db.execute(
                "INSERT INTO rows (clip, file, line, split, error) SELECT clip, file, line, split, error FROM listed"
                " WHERE media_id IS NULL OR media_id NOT IN (SELECT media_id FROM rows WHERE media_id IS NOT NULL)"
                " AND position IN (SELECT min(position) FROM listed GROUP BY media_id) ORDER BY position"
            )
            self._db.execute("DELETE FROM listed")

    def _insert(self, table: str, rows: Iterable[tuple[Row, str | None]]) -> int:
        self._has_firsts = False
        statement = f"INSERT INTO {table} (clip, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        with _room_needed():
            return self._db.executemany(statement, (self._cells(*one) for one in rows)).rowcount

    def _cells(self, row: Row, media_id: str | None) -> tuple:
        # A file's name may hold what is no Unicode: its number stands for it, and errors, which name it, are bytes.
        file = self._number_of(row.file)
        clip = hashlib.sha256(row.clip_id.encode("utf-8", "surrogatepass")).digest()
        if isinstance(row, UnreadableRow):
            error = str(row.error).encode("utf-8", "surrogatepass")
            return clip, file, row.line, media_id, None, None, row.split, None, error
        one = row.annotation
        return clip, file, row.line, one.media_id, one.start_seconds, one.end_seconds, one.split, one.label, None

    def _number_of(self, file: str) -> int:
        if file not in self._numbers:
            self._numbers[file] = len(self._files)
            self._files.append(file)
        return self._numbers[file]

    def splits(self) -> set[str]:
        """Those that rows name, readable or not."""
        return {split for (split,) in self._asked("SELECT DISTINCT split FROM rows WHERE split IS NOT NULL")}

    def labels(self) -> set[str]:
        return {label for (label,) in self._asked("SELECT DISTINCT label FROM rows WHERE label IS NOT NULL")}

    def first(self) -> Row | None:
        return next(map(self._row, self._asked(f"SELECT {_COLUMNS} FROM rows ORDER BY position LIMIT 1")), None)

    def holds(self, split: str | None = None, labels: tuple[str, ...] = ()) -> bool:
        """Whether there is a row that can be read: of a split, if one is given, and of some labels, if any are."""
        where, values = _readable(split, labels)
        return next(self._asked(f"SELECT 1 FROM rows WHERE {where} LIMIT 1", values), None) is not None

    def by_clip(self, split: str, labels: tuple[str, ...] = (), strays: bool = True) -> "SortedRows":
        """The rows of a split in the order of a plan: by the sha256 of their clip id, and then as they were read.

        Args:
          labels: of readable rows those that bear one of these, if there are any.
          strays: whether a row whose split cannot be read is one of this.
        """
        where, values = _readable(split, labels)
        refused = "error IS NOT NULL AND (split = ? OR ? AND split IS NULL)"
        return SortedRows(self, f"{where} OR {refused}", (*values, split, strays))

    def as_read(self) -> Iterator[tuple[Row, bool]]:
        """Every row in the order of reading, and whether it is a duplicate: its split has the same clip before it."""
        self._find_firsts()
        query = (
            f"SELECT {_COLUMNS}, error IS NULL AND firsts.position IS NULL"
            " FROM rows LEFT JOIN firsts USING (position) ORDER BY rows.position"
        )
        return ((self._row(cells), bool(is_duplicate)) for *cells, is_duplicate in self._asked(query))

    def _find_firsts(self) -> None:
        if self._has_firsts:
            return
        with _room_needed():
            self._db.execute("DELETE FROM firsts")
            self._db.execute(
                "INSERT INTO firsts SELECT min(position) FROM rows WHERE error IS NULL GROUP BY split, clip ORDER BY 1"
            )
        self._has_firsts = True

    def videos(self) -> Iterator[VideoRows]:
        """Every video that readable rows name, in no order."""
        query = (
            "SELECT media_id, min(position), count(DISTINCT clip), group_concat(DISTINCT split),"
            " group_concat(DISTINCT file) FROM rows WHERE error IS NULL GROUP BY media_id"
        )
        for media_id, first, clips, splits, files in self._asked(query):
            files = sorted(self._files[int(number)] for number in files.split(","))
            yield VideoRows(media_id, first, clips, tuple(sorted(splits.split(","))), tuple(files))

    def _asked(self, query: str, values: tuple = ()) -> Iterator[tuple]:
        with _room_needed():
            # Not `yield from`: it would close the cursor of a reader who has enough, in a database that may be closed.
            for cells in self._db.execute(query, values):  # noqa: UP028
                yield cells

    def _row(self, cells: Sequence) -> Row:
        file, line, media_id, start_seconds, end_seconds, split, label, error = cells
        if error is not None:
            return UnreadableRow(self._files[file], line, MalformedRow(error.decode("utf-8", "surrogatepass")), split)
        annotation = Annotation(media_id, start_seconds, end_seconds, split, label)
        return ReadableRow(self._files[file], line, annotation)


@dataclasses.dataclass(frozen=True)
class SortedRows:
    """Rows of a spool in the order of a plan; see `RowStore.by_clip`."""

    spool: RowStore
    where: str
    values: tuple

    def __len__(self):
        return next(self.spool._asked(f"SELECT count(*) FROM rows WHERE {self.where}", self.values))[0]

    def __iter__(self) -> Iterator[Row]:
        query = f"SELECT {_COLUMNS} FROM rows WHERE {self.where} ORDER BY clip, position"
        return map(self.spool._row, self.spool._asked(query, self.values))


def _readable(split: str | None, labels: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """A condition and its values."""
    where, values = "error IS NULL", ()
    if split is not None:
        where, values = f"{where} AND split = ?", (split,)
    if labels:
        where, values = f"{where} AND label IN ({', '.join('?' * len(labels))})", (*values, *labels)
    return where, values


@contextlib.contextmanager
def _room_needed():
    # Where the statements are ours and the database is new, what is left to go wrong is the disk.
    try:
        yield
    except sqlite3.OperationalError as error:
        raise NoRoom(
            f"annotation rows find no room in the folder for temporary files: {error}. Make room there, or let "
            "SQLITE_TMPDIR name another"
        ) from None
