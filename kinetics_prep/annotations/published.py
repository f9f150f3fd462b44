"""How many rows the data sets were published with, to set a folder's own numbers against.

Shown are the rows of published annotation files: not the round number that a paper gives, nor the videos that some
copy holds. Of Kinetics-400, and of Kinetics-600 val, these are the files of the first years. DeepMind has issued lists
anew since, shorter by what was gone (Kinetics-400 train fell from 246,534 rows to 219,782), and what a catalogue gives
for the other data sets fits lists of that kind. Where none but such a number could be sourced, the name says "as
reissued"; what could not be sourced at all is not here.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping

LEAST_SHARE = 0.5
"""Of the published rows. A plan that holds fewer is a sample, and not a copy that lacks something."""

_FILES = "rows of the annotation files"
_CATALOGUE = "the lists that DeepMind issued anew, as counted by a public catalogue of data sets"


@dataclasses.dataclass(frozen=True)
class Published:
    """A data set as it was published."""

    name: str
    classes: int
    labels: str
    """What `digest` makes of its labels."""
    splits: Mapping[str, int]
    """Rows of each split."""
    source: str
    """Where the numbers come from."""


def digest(labels: Iterable[str]) -> str:
    """A short name for a set of labels, in whatever order."""
    return hashlib.sha256("\n".join(sorted(labels)).encode()).hexdigest()[:16]


_K400, _K600, _K700 = "a8dafb93a1204d4e", "5d9a560f98fcfed0", "a34c9fed41f5f9ed"
_UCF, _HMDB = "d592e88d2224e0eb", "154ef596b6037121"

# Kinetics-700 and its edition of 2020 have the same classes, as have the three splits of UCF-101.
PUBLISHED = (
    Published("Kinetics-400", 400, _K400, {"train": 246_534, "val": 19_906, "test": 39_805}, _FILES),
    Published("Kinetics-600", 600, _K600, {"val": 30_000}, _FILES),
    Published("Kinetics-600 as reissued", 600, _K600, {"train": 370_582, "test": 56_618}, _CATALOGUE),
    Published("Kinetics-700 as reissued", 700, _K700, {"train": 529_046, "val": 33_925, "test": 67_446}, _CATALOGUE),
    Published(
        "Kinetics-700-2020 as reissued", 700, _K700, {"train": 542_352, "val": 34_125, "test": 67_433}, _CATALOGUE
    ),
    Published("UCF-101 split 1", 101, _UCF, {"train": 9_537, "test": 3_783}, "lines of the official lists"),
    Published("UCF-101 split 2", 101, _UCF, {"train": 9_586, "test": 3_734}, "lines of the official lists"),
    Published("UCF-101 split 3", 101, _UCF, {"train": 9_624, "test": 3_696}, "lines of the official lists"),
    Published(
        "HMDB-51", 51, _HMDB, {"train": 51 * 70, "test": 51 * 30}, "70 and 30 a class, as the notes to its splits say"
    ),
)


def like(labels: Iterable[str], split: str, rows: int) -> list[Published]:
    """The data sets whose `split` a plan may be of: one, several where nothing tells them apart, or none.

    Args:
      labels: all labels that the plan holds. One class less than a data set has, and it is none of it.
      rows: how many the plan holds. If that is just what some of the data sets have, it is those.
    """
    labels = set(labels)
    found = [
        one
        for one in PUBLISHED
        if one.classes == len(labels)
        and split in one.splits
        and LEAST_SHARE * one.splits[split] <= rows <= one.splits[split]
        and one.labels == digest(labels)
    ]
    return [one for one in found if one.splits[split] == rows] or found
