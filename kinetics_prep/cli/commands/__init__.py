"""The commands. A command is one file here and one row in `COMMANDS`; it is imported when it is called."""

import argparse
import dataclasses
import importlib
from typing import Protocol, cast


class Command(Protocol):
    """What the module of a command has."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds description and flags to the command's parser."""

    def run(self, arguments: argparse.Namespace, beam_flags: list[str]) -> int:
        """Runs the command and returns the exit code.

        Args:
          beam_flags: flags that are not ours; empty unless the command takes flags of Apache Beam.
        """


@dataclasses.dataclass(frozen=True)
class Entry:
    """A row of `COMMANDS`."""

    help: str
    takes_beam_flags: bool = False
    allows_abbreviations: bool = False
    """Whether the beginning of a flag will do for it, as in the first version of the command."""


COMMANDS = {
    "flow": Entry("prepare clips: RGB and flow", takes_beam_flags=True),
    "check": Entry("look over annotation files before a run", allows_abbreviations=True),
    "download": Entry("get videos, and nothing else"),
    "inspect": Entry("show a record of a shard, in words and as a picture", allows_abbreviations=True),
    "refresh": Entry("look again for what a prepared folder lacks; its shards stay as they are", takes_beam_flags=True),
    "retry": Entry("try again what was refused for some reasons; go on with the rest", takes_beam_flags=True),
    "status": Entry("how far a folder is, and what it lost", allows_abbreviations=True),
    "validate": Entry("read a prepared folder back and name what is wrong", allows_abbreviations=True),
    "repair": Entry("make what is damaged anew, and prepare again only what is lost", takes_beam_flags=True),
    "convert": Entry("other formats, other shard sizes, from a finished folder; no flow is computed"),
    "purge": Entry("take videos or clips out of a folder for good"),
    "train": Entry("train a model on a prepared folder"),
    "evaluate": Entry("accuracy of weights on a split; of two streams also together"),
    "compare": Entry("set evaluated models side by side, as in the paper's table", allows_abbreviations=True),
    "predict": Entry("name the likeliest classes of a video"),
    "models": Entry("list the models: input sizes, frames, parameters", allows_abbreviations=True),
    "weights": Entry("fetch weights, convert those of others, say what a file holds", allows_abbreviations=True),
}
"""In the order of `--help`."""


def load(name: str) -> Command:
    """Imports the module of a command."""
    return cast(Command, importlib.import_module(f"{__name__}.{name}"))
