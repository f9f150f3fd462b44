"""Which annotation rows are meant: the files, and what is taken of them.

with RowStore() as rows:
    chosen = selection.choose(Selection(("k400_val.csv",)), rows)
    for split in chosen.splits:
        planned.arrange(chosen.rows(split), split, chosen.labels, clips_per_shard=64)
"""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

from kinetics_prep.annotations import formats, planned
from kinetics_prep.annotations.annotation import SPLITS, LabelMap
from kinetics_prep.annotations.formats import id_list
from kinetics_prep.annotations.planned import PlanRow
from kinetics_prep.annotations.row_store import RowStore, SortedRows
from kinetics_prep.errors import BadAnnotations, BadOption


@dataclasses.dataclass(frozen=True)
class Selection:
    """What the user asks for."""

    annotations: tuple[str, ...]
    splits: tuple[str, ...] = ()
    """Empty for every split that the annotations hold."""
    labels: Path | None = None
    """A label map, one label a line; None for the sorted labels of the annotations."""
    only: tuple[str, ...] = ()
    limit: int | None = None
    dataset: str | None = None
    """The annotations' format, a name of `formats.ANNOTATION_FORMATS`; None to tell it by their content."""
    ids: Path | None = None
    """A list of video ids, one a line: only their rows are taken."""

    def __post_init__(self):
        if self.limit is not None and self.limit < 1:
            raise BadOption(f"--limit is {self.limit}, expected at least 1")
        if self.dataset is not None and self.dataset not in formats.ANNOTATION_FORMATS:
            raise BadOption(f"--dataset {self.dataset}: expected one of {', '.join(formats.ANNOTATION_FORMATS)}")


@dataclasses.dataclass(frozen=True)
class AnnotationFile:
    """What an annotation file holds."""

    path: Path
    dataset: str
    """The name of its format."""
    rows: int

    def __str__(self):
        return f"{self.path.name}: {self.dataset}, {self.rows} rows"


def read_annotations(
    rows: RowStore,
    paths: tuple[str, ...],
    default_split: str | None,
    dataset: str | None,
    labels: LabelMap | None = None,
) -> list[AnnotationFile]:
    """Reads some annotation files, of which at least one holds a row that can be read.

    Args:
      rows: takes in what they hold.
      default_split: of rows that do not say theirs.
      dataset: their format; None to tell it by their content.
      labels: what numbers stand for where a file has those instead of labels.

    Raises:
      BadAnnotations: if a file is not there, or is no annotation file.
    """
    files = [_annotation_file(rows, Path(path), default_split, dataset, labels) for path in paths]
    if not rows.holds():
        first = rows.first()
        if first is None:
            raise BadAnnotations(f"--annotations {', '.join(paths)}: a header, and no row under it")
        count = sum(file.rows for file in files)
        raise BadAnnotations(f"none of the {count} rows can be read; the first: {first.error}")
    return files


def _annotation_file(
    rows: RowStore, path: Path, default_split: str | None, dataset: str | None, labels: LabelMap | None
) -> AnnotationFile:
    if not path.is_file():
        what = "is not a file" if path.exists() else "there is no such file"
        raise BadAnnotations(f"--annotations {path}: {what}")
    try:
        dataset = dataset or formats.detect(path)
        module = formats.ANNOTATION_FORMATS[dataset]
        found = module.read(path, default_split)
        if hasattr(module, "with_names"):
            found = module.with_names(path, found, labels)
        return AnnotationFile(path, dataset, rows.add(found))
    except OSError as error:
        raise BadAnnotations(f"--annotations {path} cannot be read: {error.strerror}") from None


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What was found."""

    selection: Selection
    files: tuple[AnnotationFile, ...]
    splits: tuple[str, ...]
    given_labels: LabelMap | None
    """The label map that the user gave."""
    found: RowStore

    @property
    def labels(self) -> LabelMap:
        """The label map given, or that of the labels found."""
        return LabelMap.from_labels(self.found.labels()) if self.given_labels is None else self.given_labels

    def rows(self, split: str) -> SortedRows:
        """The rows of a split, in the order of a plan. Those whose split cannot be read belong to the first split, so
        that they are told of once."""
        return planned.select(self.found, split, self.selection.only, strays=split == self.splits[0])

    def count(self, split: str) -> int:
        """How many rows the plan of a split has."""
        count, limit = len(self.rows(split)), self.selection.limit
        return count if limit is None else min(count, limit)

    def arranged(self, split: str, labels: LabelMap, clips_per_shard: int) -> Iterator[PlanRow]:
        """The plan of a split."""
        return planned.arrange(self.rows(split), split, labels, clips_per_shard, self.selection.limit)


def choose(selection: Selection, rows: RowStore) -> Chosen:
    """Reads the annotation files of a selection.

    Args:
      rows: takes in what they hold.

    Raises:
      BadAnnotations, BadOption: if there is nothing in them that was asked for.
    """
    given = read_labels(selection.labels) if selection.labels else None
    default_split = selection.splits[0] if len(selection.splits) == 1 else None
    files = read_annotations(rows, selection.annotations, default_split, selection.dataset, given)
    _keep_listed(selection, rows)
    named = rows.splits()
    wanted = selection.splits or tuple(split for split in SPLITS if split in named)
    return Chosen(selection, tuple(files), tuple(_splits(selection, rows, wanted)), given, rows)


def _keep_listed(selection: Selection, rows: RowStore) -> None:
    if selection.ids is None:
        return
    try:
        rows.keep(id_list.read(selection.ids))
    except OSError as error:
        raise BadAnnotations(f"--ids {selection.ids} cannot be read: {error.strerror}") from None
    if not rows.holds():
        raise BadAnnotations(f"--ids {selection.ids}: none of its ids is in the annotation files")


def _splits(selection: Selection, rows: RowStore, wanted: Iterable[str]) -> Iterator[str]:
    """Those of which there is something to take."""
    for split in wanted:
        planned.select(rows, split, selection.only)  # which says what is wrong, if there is nothing
        if rows.holds(split, selection.only):
            yield split
        elif split in selection.splits:
            raise BadOption(f"--only {', '.join(selection.only)}: no row of split {split!r} bears any of these labels")


def read_labels(path: Path) -> LabelMap:
    """A label map, one label a line.

    Raises:
      BadOption: if it cannot be read, or is none.
    """
    try:
        return LabelMap.parse(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadOption(f"--labels {path} cannot be read: {error}") from None
