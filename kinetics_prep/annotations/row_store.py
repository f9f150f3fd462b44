"""RowStore: annotation rows on disk, so that a million of them need no more memory than a hundred thousand.

    with RowStore() as rows:
        rows.add(kinetics_csv.read(path))
        for row in rows.by_clip("train"):
            ...

The rows are in a temporary SQLite database, which sorts and groups them with an external sort. Its files have no name,
so they disappear with the process, however it ends. SQLite puts them into the folder that SQLITE_TMPDIR names, else
TMPDIR, else /var/tmp. They are not in the output folder for three reasons: rows are read before that folder is locked
or created, it may be a mounted bucket, and only the environment can tell SQLite where to sort.
"""

import contextlib
import dataclasses
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.rows import ReadableRow, Row, UnreadableRow
from kinetics_prep.errors import MalformedRow, NoRoom

_CACHE_KIB = 16 * 1024
"""Page cache of each database; SQLite sorts in portions of the same size."""

_COLUMNS = "file, line, media_id, start_seconds, end_seconds, split, label, error"

# Columns have no type: in a column of numbers SQLite would store -0.0 as 0.
_TABLES = f"""
PRAGMA main.cache_size = -{_CACHE_KIB};
PRAGMA temp_store = FILE;
PRAGMA temp.cache_size = -{_CACHE_KIB};
PRAGMA temp.journal_mode = OFF;
CREATE TEMP TABLE rows (position INTEGER PRIMARY KEY, clip, {_COLUMNS});
CREATE TEMP TABLE listed (position INTEGER PRIMARY KEY, clip, {_COLUMNS});
CREATE TEMP TABLE first_of_clip (position INTEGER PRIMARY KEY);
BEGIN;
"""


@dataclasses.dataclass(frozen=True)
class VideoRows:
    """The readable rows of a video, taken together."""

    media_id: str
    first_position: int
    """Position of the video's first row, in the order of reading."""
    clips: int
    """Number of different clips."""
    splits: tuple[str, ...]
    """In alphabetical order."""
    files: tuple[str, ...]
    """Base names, in alphabetical order."""


class RowStore(contextlib.AbstractContextManager["RowStore"]):
    """Rows, in the order of reading and in other orders; rows of the same clip are always in the order of reading.

    Raises:
      NoRoom: by any method, if there is no room or no folder for the temporary files.
    """

    def __init__(self) -> None:
        # The main database has no table and stays empty. We do not open a file without a name as the main database:
        # where SQLite was built to keep temporary data in memory, such a file would stay in memory.
        self._db = sqlite3.connect(":memory:", isolation_level=None)
        self._files: list[str] = []
        self._file_numbers: dict[str, int] = {}
        self._knows_first_of_clip = False
        with _room_needed():
            self._db.executescript(_TABLES)

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the disk space; a second call does nothing."""
        self._db.close()

    def add(self, rows: Iterable[Row]) -> int:
        """Appends rows, and returns how many they were."""
        return self._insert("rows", ((row, None) for row in rows))

    def keep(self, listed: Iterable[tuple[str | None, UnreadableRow]]) -> None:
        """Removes the rows of videos that are not listed, and all unreadable rows.

        Args:
          listed: pairs of a video id and an unreadable row, which is appended if the store has no row of the video. Of
            an id that is listed twice only the first such row is appended. A row beside None is always appended.
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
        self._knows_first_of_clip = False
        statement = f"INSERT INTO {table} (clip, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        with _room_needed():
            return self._db.executemany(statement, (self._cells(row, media_id) for row, media_id in rows)).rowcount

    def _cells(self, row: Row, listed_id: str | None) -> tuple[object, ...]:
        # A file name may hold bytes that are not Unicode: a number stands for it, and errors, which name it, are bytes.
        file = self._file_number(row.file)
        clip = hashlib.sha256(row.clip_id.encode("utf-8", "surrogatepass")).digest()
        if isinstance(row, UnreadableRow):
            error = str(row.error).encode("utf-8", "surrogatepass")
            return clip, file, row.line, listed_id, None, None, row.split, None, error
        annotation = row.annotation
        times = annotation.start_seconds, annotation.end_seconds
        return clip, file, row.line, annotation.media_id, *times, annotation.split, annotation.label, None

    def _file_number(self, file: str) -> int:
        if file not in self._file_numbers:
            self._file_numbers[file] = len(self._files)
            self._files.append(file)
        return self._file_numbers[file]

    def splits(self) -> set[str]:
        """The splits that rows name, readable or not."""
        return {split for (split,) in self._select("SELECT DISTINCT split FROM rows WHERE split IS NOT NULL")}

    def labels(self) -> set[str]:
        """The labels of all readable rows."""
        return {label for (label,) in self._select("SELECT DISTINCT label FROM rows WHERE label IS NOT NULL")}

    def first_row(self) -> Row | None:
        """The row that was read first; None if there is no row."""
        return next(map(self._row, self._select(f"SELECT {_COLUMNS} FROM rows ORDER BY position LIMIT 1")), None)

    def has_readable(self, split: str | None = None, labels: tuple[str, ...] = ()) -> bool:
        """Whether there is a readable row, optionally one of a given split or with one of the given labels."""
        condition, values = _is_readable(split, labels)
        return next(self._select(f"SELECT 1 FROM rows WHERE {condition} LIMIT 1", values), None) is not None

    def by_clip(self, split: str, labels: tuple[str, ...] = (), with_unknown_split: bool = True) -> "SortedRows":
        """The rows of a split in the order of a plan: by the sha256 of their clip id, then in the order of reading.

        Args:
          labels: if not empty, readable rows are taken only with one of these labels.
          with_unknown_split: whether rows whose split cannot be read are taken too.
        """
        condition, values = _is_readable(split, labels)
        is_unreadable = "error IS NOT NULL AND (split = ? OR ? AND split IS NULL)"
        return SortedRows(self, f"{condition} OR {is_unreadable}", (*values, split, with_unknown_split))

    def as_read(self) -> Iterator[tuple[Row, bool]]:
        """Every row in the order of reading, and whether it is a duplicate of an earlier row.

        A duplicate is a readable row whose clip has an earlier row in the same split.
        """
        self._find_first_of_clip()
        query = (
            f"SELECT {_COLUMNS}, error IS NULL AND first_of_clip.position IS NULL"
            " FROM rows LEFT JOIN first_of_clip USING (position) ORDER BY rows.position"
        )
        return ((self._row(cells), bool(is_duplicate)) for *cells, is_duplicate in self._select(query))

    def _find_first_of_clip(self) -> None:
        """Fills the table `first_of_clip`: for each clip of each split the position of the first row."""
        if self._knows_first_of_clip:
            return
        with _room_needed():
            self._db.execute("DELETE FROM first_of_clip")
            self._db.execute(
                "INSERT INTO first_of_clip"
                " SELECT min(position) FROM rows WHERE error IS NULL GROUP BY split, clip ORDER BY 1"
            )
        self._knows_first_of_clip = True

    def videos(self) -> Iterator[VideoRows]:
        """Every video that readable rows name, in no particular order."""
        query = (
            "SELECT media_id, min(position), count(DISTINCT clip), group_concat(DISTINCT split),"
            " group_concat(DISTINCT file) FROM rows WHERE error IS NULL GROUP BY media_id"
        )
        for media_id, first_position, clips, splits, file_numbers in self._select(query):
            files = sorted(self._files[int(number)] for number in file_numbers.split(","))
            yield VideoRows(media_id, first_position, clips, tuple(sorted(splits.split(","))), tuple(files))

    def _select(self, query: str, values: tuple[object, ...] = ()) -> Iterator[tuple[Any, ...]]:
        with _room_needed():
            # Not `yield from`: if the caller stops early, it would close the cursor after the database was closed.
            for cells in self._db.execute(query, values):  # noqa: UP028
                yield cells

    def _row(self, cells: Sequence[Any]) -> Row:
        file, line, media_id, start_seconds, end_seconds, split, label, error = cells
        if error is not None:
            return UnreadableRow(self._files[file], line, MalformedRow(error.decode("utf-8", "surrogatepass")), split)
        annotation = Annotation(media_id, start_seconds, end_seconds, split, label)
        return ReadableRow(self._files[file], line, annotation)


@dataclasses.dataclass(frozen=True)
class SortedRows:
    """Rows of a store in the order of a plan, read anew in each iteration; see `RowStore.by_clip`."""

    _store: RowStore
    _condition: str
    _values: tuple[object, ...]

    def __len__(self) -> int:
        return next(self._store._select(f"SELECT count(*) FROM rows WHERE {self._condition}", self._values))[0]

    def __iter__(self) -> Iterator[Row]:
        query = f"SELECT {_COLUMNS} FROM rows WHERE {self._condition} ORDER BY clip, position"
        return map(self._store._row, self._store._select(query, self._values))


def _is_readable(split: str | None, labels: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """A condition in SQL, and the values of its placeholders."""
    conditions: list[str] = ["error IS NULL"]
    values: tuple[str, ...] = ()
    if split is not None:
        conditions.append("split = ?")
        values += (split,)
    if labels:
        conditions.append(f"label IN ({', '.join('?' * len(labels))})")
        values += labels
    return " AND ".join(conditions), values


@contextlib.contextmanager
def _room_needed() -> Iterator[None]:
    # The statements are ours and the database is new, so an operational error comes from the disk.
    try:
        yield
    except sqlite3.OperationalError as error:
        raise NoRoom(
            f"no room for annotation rows in the folder for temporary files: {error}. Make room there, or name another "
            "folder in SQLITE_TMPDIR"
        ) from None
