"""How many rows the data sets had when they were published, for comparison with a folder's own numbers.

The numbers are rows of published annotation files: not the round numbers of a paper, and not the videos of some copy.
For Kinetics-400, and for Kinetics-600 val, they count the files of the first years. Since then DeepMind has issued new
lists without the videos that had disappeared (Kinetics-400 train fell from 246,534 rows to 219,782). The numbers that a
catalogue gives for the other data sets fit such lists; where we found no other source, the name says "as reissued". A
split for which we found no source is missing.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping

LEAST_SHARE = 0.5
"""A plan with a smaller share of the published rows is taken for a sample, not for an incomplete copy."""

_FILES = "rows of the annotation files"
_CATALOGUE = "the lists that DeepMind reissued, as counted by a public catalogue of data sets"


@dataclasses.dataclass(frozen=True)
class PublishedDataset:
    """A data set as it was published."""

    name: str
    classes: int
    label_digest: str
    """The `digest` of its labels."""
    splits: Mapping[str, int]
    """Rows of each split."""
    source: str
    """Where the numbers come from."""


def digest(labels: Iterable[str]) -> str:
    """Returns a short hash of a set of labels, the same for every order."""
    return hashlib.sha256("\n".join(sorted(labels)).encode()).hexdigest()[:16]


_K400, _K600, _K700 = "a8dafb93a1204d4e", "5d9a560f98fcfed0", "a34c9fed41f5f9ed"
_UCF, _HMDB = "d592e88d2224e0eb", "154ef596b6037121"

# Kinetics-700 and its edition of 2020 have the same classes; so do the three splits of UCF-101.
PUBLISHED = (
    PublishedDataset("Kinetics-400", 400, _K400, {"train": 246_534, "val": 19_906, "test": 39_805}, _FILES),
    PublishedDataset("Kinetics-600", 600, _K600, {"val": 30_000}, _FILES),
    PublishedDataset("Kinetics-600 as reissued", 600, _K600, {"train": 370_582, "test": 56_618}, _CATALOGUE),
    PublishedDataset(
        "Kinetics-700 as reissued", 700, _K700, {"train": 529_046, "val": 33_925, "test": 67_446}, _CATALOGUE
    ),
    PublishedDataset(
        "Kinetics-700-2020 as reissued", 700, _K700, {"train": 542_352, "val": 34_125, "test": 67_433}, _CATALOGUE
    ),
    PublishedDataset("UCF-101 split 1", 101, _UCF, {"train": 9_537, "test": 3_783}, "lines of the official lists"),
    PublishedDataset("UCF-101 split 2", 101, _UCF, {"train": 9_586, "test": 3_734}, "lines of the official lists"),
    PublishedDataset("UCF-101 split 3", 101, _UCF, {"train": 9_624, "test": 3_696}, "lines of the official lists"),
    PublishedDataset(
        "HMDB-51", 51, _HMDB, {"train": 51 * 70, "test": 51 * 30}, "70 and 30 a class, as the notes to its splits say"
    ),
)


def find_candidates(labels: Iterable[str], split: str, rows: int) -> list[PublishedDataset]:
    """Returns the data sets whose `split` a plan may be: usually one, several if they cannot be told apart, or none.

    Args:
      labels: all labels in the plan. If one class of a data set is missing, the data set is not a candidate.
      rows: the number of rows in the plan. Data sets with exactly this number exclude the others.
    """
    labels = set(labels)
    candidates = [
        data_set
        for data_set in PUBLISHED
        if data_set.classes == len(labels)
        and split in data_set.splits
        and LEAST_SHARE * data_set.splits[split] <= rows <= data_set.splits[split]
        and data_set.label_digest == digest(labels)
    ]
    return [data_set for data_set in candidates if data_set.splits[split] == rows] or candidates
