"""The words on disk: one JSON file for each kind of file that kinetics-prep writes.

They are the contract between the pipeline, the trainer and readers nobody here wrote. The code
builds its Arrow schemas and record features from them, so they cannot drift apart. Installed as
`kinetics_prep.schemas`.
"""

import functools
import json
from importlib import resources


@functools.cache
def load(name: str) -> dict:
    """The schema called `name`: "record", "plan", "ledger", "marker", "dataset", "download" or "predictions"."""
    return json.loads(resources.files(__name__).joinpath(f"{name}.json").read_text("utf-8"))
