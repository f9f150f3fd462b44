"""Annotation: a label, and the part of a video that it describes."""

import dataclasses
import math
import re
import sys

from kinetics_prep.errors import MalformedRow

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

# The characters allowed in a video id, which becomes part of file names and URLs. YouTube ids are 11 of
# [A-Za-z0-9_-]; other data sets also use dots, spaces and parentheses, HMDB-51 a few more marks.
_MEDIA_ID = re.compile(r"[\w.()\[\]+,&'#!@=; -]{1,200}\Z")

# Control characters, lone surrogates, line and paragraph separators: the categories Cc, Cs, Zl and Zp of Unicode, which
# are fixed for good. A label that holds one would take two lines of a label map, and so move every class id after it.
_LINE_BREAKING = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")

TIMED_NAME = re.compile(r"(?P<id>.+)_(?P<start>\d+(?:\.\d+)?)_(?P<end>\d+(?:\.\d+)?)\Z")
"""How mirrors name a clip that was cut out of its video; compare `Annotation.clip_id`."""

_LONGEST_SECONDS = 10 * 24 * 3600


def parse_split(word: str) -> str:
    """Returns the split that an annotation file calls `word`: CVDF's files say "validate", others "val".

    Raises:
      MalformedRow: if the word is not a usual name of train, val or test.
    """
    try:
        return _SPLIT_WORDS[word.strip().lower()]
    except KeyError:
        raise MalformedRow(f"split is {word!r}, expected one of {', '.join(_SPLIT_WORDS)}") from None


def breaks_lines(text: str) -> bool:
    """Whether a text holds line breaks or other control characters."""
    return _LINE_BREAKING.search(text) is not None


@dataclasses.dataclass(frozen=True, slots=True)  # there may be a million of them
class Annotation:
    """A label, and the part of a video that it describes. `label` is None in unlabelled test sets.

    Raises:
      MalformedRow: if a value is not usable; the message names the value and what was expected.
    """

    media_id: str
    start_seconds: float
    end_seconds: float | None
    """None for the end of the video."""
    split: str
    label: str | None = None

    def __post_init__(self) -> None:
        if not _MEDIA_ID.match(self.media_id) or not self.media_id.strip("."):
            raise MalformedRow(
                f"video id {self.media_id!r} is not usable as a file name: expected 1 to 200 "
                "letters, digits and _-.()[]+,&'#!@=; or spaces"
            )
        self._expect_times()
        if self.split not in SPLITS:
            raise MalformedRow(f"split is {self.split!r}, expected one of {', '.join(SPLITS)}")
        if self.label is not None:
            if not self.label.strip():
                raise MalformedRow("label is empty")
            if breaks_lines(self.label):
                raise MalformedRow(f"label {self.label!r} holds line breaks or control characters")
            object.__setattr__(self, "label", sys.intern(self.label))  # a thousand rows share one

    def _expect_times(self) -> None:
        for name, seconds in (("start_seconds", self.start_seconds), ("end_seconds", self.end_seconds)):
            if seconds is not None and not (math.isfinite(seconds) and 0 <= seconds <= _LONGEST_SECONDS):
                raise MalformedRow(f"{name} is {seconds}, expected 0 to {_LONGEST_SECONDS} s")
        start_us, end_us = self.start_us, self.end_us
        if end_us is not None and end_us <= start_us:
            raise MalformedRow(f"clip ends at {self.end_seconds} s, not after its start at {self.start_seconds} s")

    @property
    def start_us(self) -> int:
        """Start in microseconds, the unit of every timestamp on disk."""
        return round(self.start_seconds * 1e6)

    @property
    def end_us(self) -> int | None:
        """End in microseconds; None for the end of the video."""
        return None if self.end_seconds is None else round(self.end_seconds * 1e6)

    @property
    def clip_id(self) -> str:
        """The clip's name: `<id>_<start>_<end>`, padded as in Kinetics' own archives.

        A video may be annotated at several times, so only the three together are a key. The name of a whole video is
        its id.
        """
        start_us, end_us = self.start_us, self.end_us
        if end_us is None:
            return self.media_id if start_us == 0 else f"{self.media_id}_{_padded(start_us)}"
        return f"{self.media_id}_{_padded(start_us)}_{_padded(end_us)}"


def _padded(microseconds: int) -> str:
    """Seconds with six digits before the point, and no zeros at the end behind it."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{seconds:06d}" + (f".{rest:06d}".rstrip("0") if rest else "")
