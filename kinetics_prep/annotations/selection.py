"""Selection: the annotation rows that a run is about, as files, splits, labels and ids.

with RowStore() as store:
    rows = selection.select_rows(Selection(("k400_val.csv",)), store)
    for split in rows.splits:
        plan = rows.plan_rows(split, rows.labels, clips_per_shard=64)
"""

import dataclasses
import difflib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from kinetics_prep.annotations import planned
from kinetics_prep.annotations.annotation import SPLITS
from kinetics_prep.annotations.formats import ANNOTATION_FORMATS, NumberedLabels, detect, id_list
from kinetics_prep.annotations.label_map import LabelMap, read_labels
from kinetics_prep.annotations.planned import PlanRow
from kinetics_prep.annotations.row_store import RowStore, SortedRows
from kinetics_prep.annotations.rows import UnreadableRow
from kinetics_prep.errors import BadAnnotations, BadOption
from kinetics_prep.storage.local_paths import expect_local

_LOG = logging.getLogger("kinetics_prep.annotations")


@dataclasses.dataclass(frozen=True)
class Selection:
    """What the user asks for.

    Raises:
      BadOption: if a value is not usable.
    """

    annotations: tuple[str, ...]
    """Paths of annotation files."""
    splits: tuple[str, ...] = ()
    """Empty for every split that the annotations hold."""
    labels: Path | None = None
    """A label map, one label per line; None for the sorted labels of the annotations."""
    only: tuple[str, ...] = ()
    """Labels whose rows are taken; empty for all."""
    limit: int | None = None
    """Rows of each split, at most."""
    format_name: str | None = None
    """The annotations' format, a name in `formats.ANNOTATION_FORMATS`; None to detect it from their content."""
    ids: Path | None = None
    """A list of video ids, one per line, whose rows are taken; None for all."""

    def __post_init__(self) -> None:
        expect_local("--annotations", *self.annotations)
        expect_local("--labels", self.labels)
        expect_local("--ids", self.ids)
        if self.limit is not None and self.limit < 1:
            raise BadOption(f"--limit is {self.limit}, expected at least 1")
        if self.format_name is not None and self.format_name not in ANNOTATION_FORMATS:
            raise BadOption(f"--dataset {self.format_name}: expected one of {', '.join(ANNOTATION_FORMATS)}")


@dataclasses.dataclass(frozen=True)
class AnnotationFile:
    """An annotation file that was read."""

    path: Path
    format_name: str
    rows: int

    def __str__(self) -> str:
        return f"{self.path.name}: {self.format_name}, {self.rows} rows"


@dataclasses.dataclass(frozen=True)
class SelectedRows:
    """The rows of a selection, split by split."""

    selection: Selection
    files: tuple[AnnotationFile, ...]
    splits: tuple[str, ...]
    """The splits that have rows, in the order in which they are prepared."""
    given_labels: LabelMap | None
    """The label map that the user gave."""
    store: RowStore

    @property
    def labels(self) -> LabelMap:
        """The label map that the user gave, else the sorted labels of the rows."""
        return LabelMap.from_labels(self.store.labels()) if self.given_labels is None else self.given_labels

    def rows(self, split: str) -> SortedRows:
        """The rows of a split, in the order of a plan.

        Rows whose split cannot be read belong to `split_of_unknown`, so that each of them is reported once.
        """
        is_theirs = split == self.split_of_unknown
        return rows_of_split(self.store, split, self.selection.only, with_unknown_split=is_theirs)

    @property
    def split_of_unknown(self) -> str | None:
        """The split in whose plan the rows are whose own split cannot be read.

        It is the first that the annotations name, also if the selection leaves it out: so the plans of splits that are
        prepared one by one are those of all together.
        """
        return next((split for split in SPLITS if self.store.has_readable(split, self.selection.only)), None)

    def count(self, split: str) -> int:
        """Returns how many rows the plan of a split has."""
        count, limit = len(self.rows(split)), self.selection.limit
        return count if limit is None else min(count, limit)

    def plan_rows(self, split: str, labels: LabelMap, clips_per_shard: int) -> Iterator[PlanRow]:
        """Yields the plan of a split; see `planned.arrange`."""
        return planned.arrange(self.rows(split), split, labels, clips_per_shard, self.selection.limit)


def select_rows(selection: Selection, store: RowStore) -> SelectedRows:
    """Reads the annotation files of a selection.

    Args:
      store: takes in the rows.

    Raises:
      BadAnnotations: if a file cannot be read, or a split or list of ids has no row.
      BadOption: if the label map cannot be read, or no row has one of the labels in `only`.
    """
    given_labels = read_labels(selection.labels) if selection.labels else None
    default_split = selection.splits[0] if len(selection.splits) == 1 else None
    files = read_annotations(store, selection.annotations, default_split, selection.format_name, given_labels)
    if selection.ids is not None:
        _keep_listed(store, selection.ids)
    named = store.splits()
    splits = selection.splits or tuple(split for split in SPLITS if split in named)
    rows = SelectedRows(selection, tuple(files), tuple(_with_rows(selection, store, splits)), given_labels, store)
    _report_rows_left_out(rows)
    return rows


def _report_rows_left_out(rows: SelectedRows) -> None:
    """Logs how many rows are in no plan of this selection because their split cannot be read."""
    split = rows.split_of_unknown
    if split is None or split in rows.splits:
        return
    with_unknown, without = (len(rows.store.by_clip(split, rows.selection.only, unknown)) for unknown in (True, False))
    if count := with_unknown - without:
        _LOG.warning(
            "%d %s whose split cannot be read: accounted for in split %s, which --split leaves out",
            count,
            "row" if count == 1 else "rows",
            split,
        )


def read_annotations(
    store: RowStore,
    paths: tuple[str, ...],
    default_split: str | None,
    format_name: str | None,
    labels: LabelMap | None = None,
) -> list[AnnotationFile]:
    """Reads annotation files, at least one of which must hold a readable row.

    Args:
      store: takes in the rows.
      default_split: the split of rows that do not name one.
      format_name: the format of all files; None to detect it from the content of each.
      labels: gives labels to files that hold class ids instead.

    Raises:
      BadAnnotations: if a file is missing or is not an annotation file, or if no row can be read.
    """
    files = [_read_file(store, Path(path), default_split, format_name, labels) for path in paths]
    if store.has_readable():
        return files
    first = store.first_row()
    if not isinstance(first, UnreadableRow):
        raise BadAnnotations(f"--annotations {', '.join(paths)}: a header and no rows")
    count = sum(file.rows for file in files)
    raise BadAnnotations(f"none of the {count} rows can be read; the first: {first.error}")


def _read_file(
    store: RowStore, path: Path, default_split: str | None, format_name: str | None, labels: LabelMap | None
) -> AnnotationFile:
    if not path.is_file():
        problem = "is not a file" if path.exists() else "there is no such file"
        raise BadAnnotations(f"--annotations {path}: {problem}")
    try:
        format_name = format_name or detect(path)
        module = ANNOTATION_FORMATS[format_name]
        rows = module.read(path, default_split)
        if isinstance(module, NumberedLabels):
            rows = module.with_names(path, rows, labels)
        return AnnotationFile(path, format_name, store.add(rows))
    except OSError as error:
        raise BadAnnotations(f"--annotations {path} cannot be read: {error.strerror}") from None


def _keep_listed(store: RowStore, ids: Path) -> None:
    try:
        store.keep(id_list.read(ids))
    except OSError as error:
        raise BadAnnotations(f"--ids {ids} cannot be read: {error.strerror}") from None
    if not store.has_readable():
        raise BadAnnotations(f"--ids {ids}: none of its ids is in the annotation files")


def _with_rows(selection: Selection, store: RowStore, splits: Iterable[str]) -> Iterator[str]:
    """Yields the splits that have a readable row with one of the labels in `only`."""
    for split in splits:
        _expect_rows(store, split, selection.only)
        if store.has_readable(split, selection.only):
            yield split
        elif split in selection.splits:
            raise BadOption(f"--only {', '.join(selection.only)}: no row of split {split!r} has one of these labels")


def rows_of_split(
    store: RowStore, split: str, only: tuple[str, ...] = (), with_unknown_split: bool = True
) -> SortedRows:
    """Returns the rows of one split, in the order of a plan.

    Args:
      only: if not empty, readable rows are taken only with one of these labels; unreadable rows are taken always.
      with_unknown_split: whether rows whose split cannot be read are taken too.

    Raises:
      BadAnnotations: if the split has no readable row.
      BadOption: if no row has one of the labels in `only`.
    """
    _expect_rows(store, split, only)
    return store.by_clip(split, only, with_unknown_split)


def _expect_rows(store: RowStore, split: str, only: tuple[str, ...]) -> None:
    if not store.has_readable(split):
        splits = ", ".join(sorted(store.splits())) or "none"
        raise BadAnnotations(f"no readable row of split {split!r}; the annotations hold {splits}")
    labels = store.labels() if only else set()
    for label in only:
        if label not in labels:
            similar = difflib.get_close_matches(label, labels, 3) or sorted(labels)[:3]
            raise BadOption(f"--only {label!r}: no row has this label; there are {', '.join(map(repr, similar))}")
