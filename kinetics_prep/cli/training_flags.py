"""The flags of the commands that train and use models. No Keras in here: `--help` should not wait for it."""

import argparse

from kinetics_prep.cli.flag_types import named_path, path
from kinetics_prep.cli.flags import Flags
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.training.predictions import FUSIONS, STREAMS
from kinetics_prep.training.recipes import PRECISIONS, PROTOCOLS, RECIPES

ACCEPTABLE = ("fps", "short-side", "quantizer", "bound")
"""What of the shards may differ from what weights expect, if the user says so."""


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `train`."""
    what = parser.add_argument_group("what to train, on what")
    what.add_argument("--data", type=path, required=True, metavar="DIR", help="the --output of kinetics-prep flow")
    what.add_argument("--output", type=path, metavar="RUN", help="folder of the run; default: train-MODEL-STREAM, here")
    what.add_argument("--model", default="i3d", help="`kinetics-prep models` lists them; default: i3d")
    what.add_argument("--stream", choices=STREAMS, default="rgb", help="default: rgb")
    what.add_argument("--split", default="train", metavar="NAME", help="to train on; default: train")
    what.add_argument(
        "--validation", default="auto", metavar="NAME", help="split to evaluate on now and then, or none; default: "
        "val, where there is one"
    )  # fmt: skip
    what.add_argument(
        "--init-from", type=path, metavar="FILE", help="weights to begin from, of kinetics-prep; those for RGB also "
        "do for flow"
    )  # fmt: skip
    _add_recipe(parser.add_argument_group("how; a recipe, and what is to be changed of it"))
    run = parser.add_argument_group("running")
    _add_reading(run)
    run.add_argument(
        "--checkpoint-minutes", type=float, default=10.0, metavar="N", help="between two checkpoints; default: 10"
    )
    run.add_argument("--tensorboard", action="store_true", help="also write RUN/tensorboard")


def _add_recipe(how: Flags) -> None:
    how.add_argument(
        "--recipe", choices=tuple(RECIPES), metavar="NAME", help=f"of {', '.join(RECIPES)}; default: kinetics, of I3D "
        "i3d-kinetics"
    )  # fmt: skip
    how.add_argument("--protocol", choices=PROTOCOLS, help="of transfer: original (nothing of videos to begin from), "
                     "fixed (only the last layer is trained), full-ft; default: the recipe's, with --init-from "
                     "full-ft")  # fmt: skip
    how.add_argument("--steps", type=int, metavar="N")
    how.add_argument("--batch", type=int, metavar="N", help="clips a step, over all devices")
    how.add_argument(
        "--batch-at-once", type=int, metavar="N", help="clips that fit in memory: a step is then computed in parts"
    )
    how.add_argument("--learning-rate", nargs="+", metavar="[STEP:]RATE", help="such as 0.1 97000:0.01 108000:0.001")
    how.add_argument(
        "--plateau", type=int, metavar="N", help="divide the rate by ten after N evaluations without a lower loss, "
        "twice at most; 0: never"
    )  # fmt: skip
    how.add_argument("--frames", type=int, metavar="N", help="that a sample spans; default: the model's own")
    how.add_argument("--stride", type=int, metavar="N", help="take every N-th frame of a clip")
    how.add_argument("--size", type=int, metavar="PX", help="side of the crop; default: the model's own")
    how.add_argument("--no-flip", action="store_true", help="never mirror: left and right are different classes")
    how.add_argument("--dropout", type=float, metavar="SHARE")
    how.add_argument("--weight-decay", type=float, metavar="X")
    how.add_argument("--momentum", type=float, metavar="X")
    how.add_argument("--batch-norm-momentum", type=float, metavar="X", help="a short run needs less than 0.999: 0.9")
    how.add_argument("--precision", choices=PRECISIONS)
    how.add_argument("--evaluate-every", type=int, metavar="STEPS")
    how.add_argument("--early-stop", type=int, metavar="N", help="end after N evaluations without a better top-1")
    how.add_argument("--seed", type=int, metavar="N")


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `evaluate`."""
    _add_weights(parser)
    parser.add_argument("--data", type=path, required=True, metavar="DIR", help="the --output of kinetics-prep flow")
    parser.add_argument("--split", default="val", metavar="NAME", help="default: val")
    parser.add_argument(
        "--output", type=path, metavar="DIR", help="for predictions and pictures; default: evaluation-SPLIT, here"
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="clips at a time; default: 1")
    _add_test(parser)
    _add_reading(parser)


def add_predict_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `predict`."""
    parser.add_argument("video", type=path, help="any file that ffmpeg can read")
    _add_weights(parser)
    parser.add_argument("--start", type=float, default=0.0, metavar="SECONDS", help="where the clip begins; default: 0")
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        metavar="N",
        help="how long it is; a shorter video is looped; default: 10",
    )
    parser.add_argument("--top", type=int, default=5, metavar="N", help="classes to name; default: 5")
    _add_test(parser)


def add_compare_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `compare`."""
    parser.add_argument(
        "predictions",
        type=named_path,
        nargs="+",
        metavar="[NAME=]FILE",
        help="that `kinetics-prep evaluate` wrote; NAME is the row's",
    )
    parser.add_argument("--markdown", action="store_true", help="as a table for a README")
    _add_fusion(parser)


def _add_weights(parser: Flags) -> None:
    parser.add_argument(
        "--weights", type=path, nargs="+", required=True, metavar="FILE", help="of kinetics-prep; of RGB, flow, or both"
    )


def _add_test(parser: Flags) -> None:
    parser.add_argument(
        "--frames", type=int, metavar="N", help="of the clip, after the weights' stride; default: the model's own at "
        "test, 250 of I3D, divided by the stride"
    )  # fmt: skip
    _add_fusion(parser)


def _add_fusion(parser: Flags) -> None:
    parser.add_argument(
        "--fuse", choices=FUSIONS, default="logits", help="add logits, as the paper does, or average probabilities; "
        "default: logits"
    )  # fmt: skip


def _add_reading(parser: Flags) -> None:
    parser.add_argument("--format", choices=tuple(SHARD_FORMATS), help="to read; default: tfrecord, if it is there")
    parser.add_argument(
        "--accept", type=_accepted, default=frozenset(), metavar="LIST", help="of what the shards may have otherwise "
        f"than the weights expect: {','.join(ACCEPTABLE)}"
    )  # fmt: skip
    parser.add_argument(
        "--skip-corrupt", action="store_true", help="count records that do not read back, and go on; default: stop"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="that decode; default: one per core")


def _accepted(text: str) -> frozenset[str]:
    found = frozenset(filter(None, text.split(",")))
    if unknown := found - set(ACCEPTABLE):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: expected some of {','.join(ACCEPTABLE)}")
    return found
