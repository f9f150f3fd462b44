"""Placeholder until the real one is merged."""

import hashlib
import json

from kinetics_prep.dataset import tools
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.flow import ANY_HARDWARE, Hardware


def fingerprint(recipe: Recipe, hardware: Hardware = ANY_HARDWARE) -> str:
    return hashlib.sha256(json.dumps(tools.versions(recipe)).encode()).hexdigest()
