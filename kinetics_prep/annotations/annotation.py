"""Annotation: a label, and the ten seconds of a video that it speaks of."""

import collections
import dataclasses
import difflib
import math
import re
import sys

from kinetics_prep.errors import BadOption, MalformedRow, UnknownLabel

SPLITS = ("train", "val", "test")

_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

# What a video id may hold: it becomes part of file names and URLs. YouTube ids are 11 of
# [A-Za-z0-9_-]; other data sets also use dots, spaces and parentheses, HMDB-51 a few marks more.
_MEDIA_ID = re.compile(r"[\w.()\[\]+,&'#!@=; -]{1,200}\Z")

# Control characters, half surrogates, line and paragraph separators: Cc, Cs, Zl and Zp of Unicode, which will never be
# others. What holds one would upset a file of one label a line, and with it every class id after it.
_LINE_BREAKING = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")

TIMED_NAME = re.compile(r"(?P<id>.+)_(?P<start>\d+(?:\.\d+)?)_(?P<end>\d+(?:\.\d+)?)\Z")
"""How mirrors name the piece of a video that a clip is; see `Annotation.clip_id`."""

_LONGEST_SECONDS = 10 * 24 * 3600


def split_named(word: str) -> str:
    """The split that a file calls `word`; CVDF's files say "validate", others "val".

    Raises:
      MalformedRow: if it is none of train, val, test under any usual name.
    """
    try:
        return _SPLIT_WORDS[word.strip().lower()]
    except KeyError:
        raise MalformedRow(f"split is {word!r}, expected one of {', '.join(_SPLIT_WORDS)}") from None


@dataclasses.dataclass(frozen=True, slots=True)  # there may be a million of them
class Annotation:
    """One row of an annotation file. `label` is None in unlabelled test sets."""

    media_id: str
    start_seconds: float
    end_seconds: float | None
    """None for the video's end, whenever that is."""
    split: str
    label: str | None = None

    def __post_init__(self):
        if not _MEDIA_ID.match(self.media_id) or not self.media_id.strip("."):
            raise MalformedRow(
                f"video id {self.media_id!r} is not usable as a file name: expected 1 to 200 "
                "letters, digits and _-.()[]+,&'#!@=; or spaces"
            )
        for name in ("start_seconds", "end_seconds"):
            value = getattr(self, name)
            if value is None and name == "end_seconds":
                continue
            if not (math.isfinite(value) and 0 <= value <= _LONGEST_SECONDS):
                raise MalformedRow(f"{name} is {value}, expected 0 to {_LONGEST_SECONDS} s")
        start_us, end_us = self.start_us, self.end_us
        if end_us is not None and end_us <= start_us:
            raise MalformedRow(f"clip ends at {self.end_seconds} s, not after its start at {self.start_seconds} s")
        if self.split not in SPLITS:
            raise MalformedRow(f"split is {self.split!r}, expected one of {', '.join(SPLITS)}")
        if self.label is not None:
            if not self.label.strip():
                raise MalformedRow("label is empty")
            if _LINE_BREAKING.search(self.label):
                raise MalformedRow(f"label {self.label!r} holds line breaks or control characters")
            object.__setattr__(self, "label", sys.intern(self.label))  # a thousand rows share one

    @property
    def start_us(self) -> int:
        """Start in microseconds, the unit of every timestamp on disk."""
        return round(self.start_seconds * 1e6)

    @property
    def end_us(self) -> int | None:
        """End in microseconds."""
        return None if self.end_seconds is None else round(self.end_seconds * 1e6)

    @property
    def clip_id(self) -> str:
        """The clip's name, `<id>_<start>_<end>` padded as in Kinetics' own archives.

        The same video is annotated at several times, so only the three together are a key. A whole video bears its id.
        """
        start_us, end_us = self.start_us, self.end_us
        if end_us is None:
            return self.media_id if start_us == 0 else f"{self.media_id}_{_padded(start_us)}"
        return f"{self.media_id}_{_padded(start_us)}_{_padded(end_us)}"


def _padded(microseconds: int) -> str:
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{seconds:06d}" + (f".{rest:06d}".rstrip("0") if rest else "")


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """Labels in the order of their class ids.

    Built from annotations, the order is that of the plain label strings, like DeepMind's and
    mmaction2's. Sorting sanitised names (spaces to underscores) would swap ids.
    """

    labels: tuple[str, ...]

    def __post_init__(self):
        counts = collections.Counter(self.labels)
        duplicates = sorted(label for label, count in counts.items() if count > 1)
        if duplicates:
            raise BadOption(f"label map holds the same label twice: {', '.join(duplicates[:5])}")
        object.__setattr__(self, "_index", {label: i for i, label in enumerate(self.labels)})

    @classmethod
    def from_labels(cls, labels) -> "LabelMap":
        """The map of the given label strings, in any order and number; None is ignored."""
        return cls(tuple(sorted({label for label in labels if label is not None})))

    @classmethod
    def parse(cls, text: str) -> "LabelMap":
        """Reads one label a line, in the order of their ids; blank lines at the end are ignored."""
        labels = [line.strip() for line in text.removeprefix("\ufeff").rstrip().split("\n")]
        if not all(labels) or any(map(_LINE_BREAKING.search, labels)):
            raise BadOption("label map must hold one label a line, no control character and no blank line between")
        return cls(tuple(labels))

    def text(self) -> str:
        """The inverse of `parse`."""
        return "".join(f"{label}\n" for label in self.labels)

    def index(self, label: str) -> int:
        """The class id of `label`.

        Raises:
          UnknownLabel: if the map does not hold it.
        """
        try:
            return self._index[label]
        except KeyError:
            close = difflib.get_close_matches(label, self.labels, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UnknownLabel(
                f"label {label!r} is not among the {len(self.labels)} labels of the label map{hint}"
            ) from None

    def __len__(self):
        return len(self.labels)

    def __contains__(self, label):
        return label in self._index
