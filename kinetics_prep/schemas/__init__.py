"""The words on disk: one JSON file for each kind of file that kinetics-prep writes.

They are the contract between the pipeline, the trainer and readers that nobody here wrote. The code
builds its Arrow schemas and record features from them, so they cannot drift apart. The files belong
to no language: in a checkout they are in `schemas/` at the top, in a wheel beside this file.
"""

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema
import jsonschema.validators

_CHECKOUT = Path(__file__).resolve().parents[2] / "schemas"
_INSTALLED = Path(__file__).with_name("files")

FOLDER = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
"""Where the JSON files are."""


@functools.cache
def load(name: str) -> dict:
    """The schema called `name`: "record", "plan", "ledger", "marker", "dataset", "download" or "predictions"."""
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


def validate(content: Any, name: str) -> None:
    """Checks a JSON value against the schema called `name`.

    Raises:
      jsonschema.ValidationError: if it does not match; of several mismatches the most telling one.
    """
    error = jsonschema.exceptions.best_match(_validator(name).iter_errors(content))
    if error is not None:
        raise error


@functools.cache
def _validator(name: str) -> jsonschema.protocols.Validator:
    # Kept: `jsonschema.validate` checks the schema itself each time, which takes ten times as long as the marker.
    schema = load(name)
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)
