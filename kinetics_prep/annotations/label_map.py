"""LabelMap: the classes of a data set in the order of their class ids."""

import collections
import dataclasses
import difflib
import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from kinetics_prep.annotations.annotation import breaks_lines
from kinetics_prep.errors import BadOption, UnknownLabel


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """Labels in the order of their class ids.

    Built from annotations, the order is that of the plain label strings, like DeepMind's and
    mmaction2's. Sorting sanitised names (spaces to underscores) would swap ids.

    Raises:
      BadOption: if a label occurs twice.
    """

    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        counts = collections.Counter(self.labels)
        duplicates = sorted(label for label, count in counts.items() if count > 1)
        if duplicates:
            raise BadOption(f"label map holds the same label twice: {', '.join(duplicates[:5])}")

    @classmethod
    def from_labels(cls, labels: Iterable[str | None]) -> "LabelMap":
        """Returns the map of the given labels, which may come in any order and repeatedly; None is ignored."""
        return cls(tuple(sorted({label for label in labels if label is not None})))

    @classmethod
    def parse(cls, text: str) -> "LabelMap":
        """Reads one label per line, in the order of their class ids; blank lines at the end are ignored.

        Raises:
          BadOption: if there is a blank line between labels, a control character, or a label twice.
        """
        labels = [line.strip() for line in text.removeprefix("\ufeff").rstrip().split("\n")]
        if not all(labels) or any(map(breaks_lines, labels)):
            raise BadOption("label map must hold one label per line, no control character and no blank line between")
        return cls(tuple(labels))

    def text(self) -> str:
        """The inverse of `parse`."""
        return "".join(f"{label}\n" for label in self.labels)

    @functools.cached_property
    def _class_ids(self) -> Mapping[str, int]:
        return {label: class_id for class_id, label in enumerate(self.labels)}

    def index(self, label: str) -> int:
        """Returns the class id of a label: its place in the map, from 0.

        Raises:
          UnknownLabel: if the map does not hold the label.
        """
        try:
            return self._class_ids[label]
        except KeyError:
            similar = difflib.get_close_matches(label, self.labels, 1)
            hint = f"; did you mean {similar[0]!r}?" if similar else ""
            raise UnknownLabel(
                f"label {label!r} is not among the {len(self.labels)} labels of the label map{hint}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __contains__(self, label: object) -> bool:
        return label in self._class_ids


def read_labels(path: Path) -> LabelMap:
    """Reads the label map that `--labels` names: a text file of one label per line.

    Raises:
      BadOption: if the file cannot be read, or is not a label map.
    """
    try:
        return LabelMap.parse(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadOption(f"--labels {path} cannot be read: {error}") from None
