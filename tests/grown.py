"""kinetics-prep as a newer version of it may be: its schemas have more columns and features, its documents more keys.

    python tests/grown.py SCHEMAS COMMAND ...

SCHEMAS is a copy of the folder `schemas`, in which more is described; COMMAND is "prepare OUTPUT" or one of the command
line. Each new thing is called "mood".
"""

import sys
from pathlib import Path

from kinetics_prep import schemas

schemas.FOLDER = Path(sys.argv[1])  # before anything else is imported, which reads them

from kinetics_prep import sample  # noqa: E402
from kinetics_prep.cli import main  # noqa: E402
from kinetics_prep.dataset import documents  # noqa: E402
from kinetics_prep.dataset.ledger import LedgerRow  # noqa: E402
from kinetics_prep.records import encode  # noqa: E402
from kinetics_prep.records.record import Record  # noqa: E402

encode_document, encode_clip = documents.encode, encode.encode_clip


def encode_grown_document(content):
    return encode_document({**content, "mood": "glad"})


def encode_grown_clip(*arguments, **settings) -> Record:
    record = encode_clip(*arguments, **settings)
    return Record({**record.features, "kinetics_prep/mood": "glad", "image/mood": [7] * len(record)})


if __name__ == "__main__":
    LedgerRow.mood = "glad"  # type: ignore[attr-defined]
    documents.encode = encode_grown_document
    encode.encode_clip = encode_grown_clip
    if sys.argv[2] == "prepare":
        import prepared

        prepared.make(Path(sys.argv[3]), (str(sample.ANNOTATIONS),), prepared.RECIPE)
    else:
        sys.exit(main(sys.argv[2:]))
