"""The flags of the commands that train and use models. No Keras in here: `--help` should not wait for it."""

import argparse
from pathlib import Path

from kinetics_prep.dataset import manifest
from kinetics_prep.dataset.shards import Layout
from kinetics_prep.errors import BadOption
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.training.predictions import FUSIONS, STREAMS
from kinetics_prep.training.recipes import PRECISIONS, PROTOCOLS, RECIPES, Plateau, TrainRecipe, recipe

ACCEPTABLE = ("fps", "short-side", "quantizer", "bound")
"""What of the shards may differ from what weights expect, if one says so."""

TRAIN_DESCRIPTION = """\
Trains one of the paper's five models on one stream of a prepared folder. The same command goes on
where it was stopped, and the loss curve is that of a run that was not.
"""

TRAIN_EPILOG = """\
examples:
  kinetics-prep train --data k400 --stream rgb --model i3d --recipe i3d-kinetics --batch-at-once 48
      the paper's run: 384 clips a step, here in eight parts, on all GPUs that there are
  kinetics-prep train --data ucf101 --validation test --recipe ucf101-hmdb51 --init-from rgb-kinetics400.safetensors
      the paper's transfer: a new last layer, and all of it trained on (--protocol full-ft)
  kinetics-prep train --data small --recipe small --frames 16 --size 112
      something that two cores can do

in RUN:
  history.jsonl        the loss of each step, the accuracy at each evaluation; curves.png draws them
  weights.safetensors  for `kinetics-prep evaluate`, `predict`, and --init-from; best.safetensors, where there
                       is a validation split
"""

EVALUATE_DESCRIPTION = """\
Evaluates weights on a prepared split as the paper does: whole clips, centre crop. Of several weights
each is evaluated alone, then their logits are added. Writes what was said of each clip, and a picture
of which class was taken for which.
"""

PREDICT_DESCRIPTION = """\
Names the likeliest classes of a video file. It is trimmed, resampled, and its flow computed, by the
code that prepares shards, with the settings that the weights expect.
"""


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `train`."""
    what = parser.add_argument_group("what to train, on what")
    what.add_argument("--data", type=Path, required=True, metavar="DIR", help="the --output of kinetics-prep flow")
    what.add_argument("--output", type=Path, metavar="RUN", help="folder of the run; default: train-MODEL-STREAM, here")
    what.add_argument("--model", default="i3d", help="`kinetics-prep models` lists them; default: i3d")
    what.add_argument("--stream", choices=STREAMS, default="rgb", help="default: rgb")
    what.add_argument("--split", default="train", metavar="NAME", help="to train on; default: train")
    what.add_argument(
        "--validation", default="auto", metavar="NAME", help="split to evaluate on now and then, or none; default: "
        "val, where there is one"
    )  # fmt: skip
    what.add_argument(
        "--init-from", type=Path, metavar="FILE", help="weights to begin from, of kinetics-prep; those for RGB also "
        "do for flow"
    )  # fmt: skip
    _add_recipe(parser.add_argument_group("how; a recipe, and what is to be changed of it"))
    run = parser.add_argument_group("running")
    _add_reading(run)
    run.add_argument(
        "--checkpoint-minutes", type=float, default=10.0, metavar="N", help="between two checkpoints; default: 10"
    )
    run.add_argument("--tensorboard", action="store_true", help="also write RUN/tensorboard")


def _add_recipe(how) -> None:
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


def recipe_from(arguments: argparse.Namespace) -> TrainRecipe:
    """The recipe that the flags ask for.

    Raises:
      BadOption: if a value makes no sense.
    """
    names = ("steps", "batch", "frames", "stride", "size", "dropout", "weight_decay", "momentum", "precision", "seed")
    names += ("batch_norm_momentum", "evaluate_every", "early_stop", "protocol")
    changes = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    if arguments.learning_rate:
        changes["learning_rates"] = tuple(map(_rate, arguments.learning_rate))
    if arguments.plateau is not None:
        changes["plateau"] = Plateau(arguments.plateau) if arguments.plateau else None
    if arguments.no_flip:
        changes["flip"] = False
    name = arguments.recipe or ("i3d-kinetics" if arguments.model == "i3d" else "kinetics")
    if arguments.init_from and arguments.protocol is None:
        changes["protocol"] = "full-ft"
    elif not arguments.init_from and arguments.protocol is None and name == "ucf101-hmdb51":
        changes["protocol"] = "original"
    plain = recipe(name, arguments.model, arguments.stream, **changes)
    if arguments.batch_at_once is None:
        return plain
    if arguments.batch_at_once < 1 or plain.batch % arguments.batch_at_once:
        raise BadOption(f"--batch-at-once is {arguments.batch_at_once}, expected a divisor of the batch, {plain.batch}")
    return recipe(name, arguments.model, arguments.stream, **changes, accumulate=plain.batch // arguments.batch_at_once)


def _rate(text: str) -> tuple[int, float]:
    step, _, rate = text.rpartition(":")
    try:
        return int(step or 0), float(rate)
    except ValueError:
        raise BadOption(f"--learning-rate is {text!r}, expected RATE or STEP:RATE") from None


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `evaluate`."""
    _add_weights(parser)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the --output of kinetics-prep flow")
    parser.add_argument("--split", default="val", metavar="NAME", help="default: val")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="for predictions and pictures; default: evaluation-SPLIT, here"
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="clips at a time; default: 1")
    _add_test(parser)
    _add_reading(parser)


def add_predict_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `predict`."""
    parser.add_argument("video", type=Path, help="any file that ffmpeg can read")
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
        "predictions", nargs="+", metavar="[NAME=]FILE", help="that `kinetics-prep evaluate` wrote; NAME is the row's"
    )
    parser.add_argument("--markdown", action="store_true", help="as a table for a README")
    _add_fusion(parser)


def _add_weights(parser) -> None:
    parser.add_argument(
        "--weights", type=Path, nargs="+", required=True, metavar="FILE", help="of kinetics-prep; of RGB, flow, or both"
    )


def _add_test(parser) -> None:
    parser.add_argument(
        "--frames", type=int, metavar="N", help="of the clip, after the weights' stride; default: the model's own at "
        "test, 250 of I3D, divided by the stride"
    )  # fmt: skip
    _add_fusion(parser)


def _add_fusion(parser) -> None:
    parser.add_argument(
        "--fuse", choices=FUSIONS, default="logits", help="add logits, as the paper does, or average probabilities; "
        "default: logits"
    )  # fmt: skip


def _add_reading(parser) -> None:
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


def named_files(texts: list[str]) -> list[tuple[str | None, Path]]:
    """`NAME=FILE` or `FILE`, as (name or None, path)."""
    parts = (text.rpartition("=") for text in texts)
    return [(name or None, Path(path)) for name, _, path in parts]


def train_job_from(arguments: argparse.Namespace, recipe: TrainRecipe):
    """The `train.TrainJob` that the flags ask for."""
    from kinetics_prep.reading.batches import Reading
    from kinetics_prep.training.train import TrainJob

    return TrainJob(
        recipe,
        data=arguments.data,
        output=arguments.output or Path(f"train-{recipe.model}-{recipe.stream}"),
        split=arguments.split,
        validation=_validation(arguments),
        init_from=arguments.init_from,
        reading=Reading(arguments.format, arguments.threads, arguments.skip_corrupt),
        accept=arguments.accept,
        checkpoint_minutes=arguments.checkpoint_minutes,
        tensorboard=arguments.tensorboard,
    )


def _validation(arguments: argparse.Namespace) -> str | None:
    if arguments.validation != "auto":
        return None if arguments.validation == "none" else arguments.validation
    there = manifest.read(Layout(arguments.data))["splits"]
    return "val" if "val" in there and arguments.split != "val" else None


def evaluate_job_from(arguments: argparse.Namespace):
    """The `evaluation.EvaluateJob` that the flags ask for."""
    from kinetics_prep.reading.batches import Reading
    from kinetics_prep.training.evaluation import EvaluateJob

    if arguments.batch < 1:
        raise BadOption(f"--batch is {arguments.batch}, expected 1 or more")
    return EvaluateJob(
        tuple(arguments.weights),
        arguments.data,
        arguments.split,
        frames=arguments.frames,
        batch=arguments.batch,
        how=arguments.fuse,
        reading=Reading(arguments.format, arguments.threads, arguments.skip_corrupt),
        accept=arguments.accept,
    )
