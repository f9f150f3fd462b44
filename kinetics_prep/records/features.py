"""The features of a record, from `schemas/record.json`.

Their names are MediaSequence's (google/mediapipe, mediapipe/util/sequence/README.md).
"""

import dataclasses
from typing import Literal

from kinetics_prep import schemas

Kind = Literal["bytes", "float", "int64"]
"""The three kinds of value in a SequenceExample."""


@dataclasses.dataclass(frozen=True)
class Feature:
    """One feature of a record, as `schemas/record.json` describes it."""

    name: str
    where: Literal["context", "feature_list"]
    """"context" (one value) or "feature_list" (one value a frame)."""
    type: Literal["bytes", "text", "int64", "float"]
    """"text" is UTF-8."""
    column: str
    """Its name in Parquet."""
    required: bool
    meaning: str

    @property
    def is_list(self) -> bool:
        """Whether it has one value a frame."""
        return self.where == "feature_list"

    @property
    def kind(self) -> Kind:
        """Its kind in a SequenceExample."""
        return "bytes" if self.type == "text" else self.type


VERSION: int = schemas.load("record")["version"]
"""Of the format of records."""

FEATURES = {item["name"]: Feature(**item) for item in schemas.load("record")["features"]}
"""Every feature by its name."""
