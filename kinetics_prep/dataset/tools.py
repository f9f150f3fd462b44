"""Versions of programs and libraries: those that decide the bytes of a record, and those worth knowing."""

from collections.abc import Iterable, Mapping
from importlib.metadata import version

import cv2
import numpy as np
import PIL
import PIL.features
import pyarrow

import kinetics_prep
from kinetics_prep import flow
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.media import ffmpeg

RECORD_VERSION = 2
"""Goes up whenever the same inputs and settings would give other bytes."""


def versions(recipe: Recipe) -> dict[str, str]:
    """Every program and library that can change the bytes."""
    tool = ffmpeg.locate()
    tools = {
        "record": str(RECORD_VERSION),
        "engine": flow.ENGINES[recipe.engine].version(),
        "ffmpeg": tool.version + (" with zscale" if tool.has_zscale else ""),
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "libjpeg_turbo": str(PIL.features.version("libjpeg_turbo")),
        "protobuf": version("protobuf"),
    }
    if recipe.flow_encoding == "png":
        tools["zlib"] = str(PIL.features.version("zlib"))
    return with_formats(tools, recipe.formats)


def with_formats(versions: Mapping[str, str], formats: Iterable[str]) -> dict[str, str]:
    """The same versions, with those of libraries that write some shard formats."""
    others = {name: number for name, number in versions.items() if name != "pyarrow"}
    return others | ({"pyarrow": versions.get("pyarrow", pyarrow.__version__)} if "parquet" in formats else {})


def provenance() -> dict[str, str]:
    """Versions that do not change the bytes; for readers of the manifest."""
    return {
        "kinetics-prep": kinetics_prep.__version__,
        "numpy": np.__version__,
        "pyarrow": pyarrow.__version__,
        "apache-beam": version("apache-beam"),
    }
