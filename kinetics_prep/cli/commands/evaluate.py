"""`kinetics-prep evaluate`: accuracy of weights on a split."""

import argparse
import contextlib
import re
import sys
from pathlib import Path

from kinetics_prep.cli import training_flags, training_options
from kinetics_prep.cli.exit_codes import OK
from kinetics_prep.cli.keras_backend import load_keras
from kinetics_prep.cli.notices import notices
from kinetics_prep.errors import BadOption
from kinetics_prep.report import confusion
from kinetics_prep.report.plot import require_matplotlib
from kinetics_prep.report.progress import Progress
from kinetics_prep.report.text import printable
from kinetics_prep.training import comparison, predictions_file
from kinetics_prep.training.predictions import Predictions

DESCRIPTION = """\
Evaluates weights on a prepared split as the paper does: whole clips, centre crop. Of several weights
each is evaluated alone, then their logits are added. Writes what was said of each clip, and a picture
of which class was taken for which.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds description and flags."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    training_flags.add_evaluate_arguments(parser)


def run(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    """Evaluates weights, each alone and all together."""
    output = arguments.output or Path(f"evaluation-{arguments.split}")
    load_keras()
    require_matplotlib()  # now, and not when hours of work are to be drawn
    with notices():
        from kinetics_prep.training import evaluation

        job = training_options.evaluate_job_from(arguments)
        with evaluation.open_evaluation(job) as ready, Progress(ready.total, 0, lambda: {"evaluated": ready.done}):
            results = evaluation.evaluate(ready)
        output.mkdir(parents=True, exist_ok=True)
        for result in results:
            _write(result, output / _file_name(results, result))
        if ready.skipped:
            print(f"{len(ready.skipped)} clips could not be read and were left out", file=sys.stderr)
        if len(results) > 1 and results[0].is_labelled.any():
            with contextlib.suppress(BadOption):
                print(f"\n{comparison.compare((None, result) for result in results).text()}\n")
        print(f"{output}: predictions and confusion matrices")
    return OK


def _write(result: Predictions, path: Path) -> None:
    """Writes predictions, and draws their confusion matrix if the clips have labels."""
    predictions_file.write(path.with_name(f"{path.name}.parquet"), result)
    if result.is_labelled.any():
        picture = confusion.confusion_picture(result.confusion(), result.labels, f"{result}\n{result.scores()}")
        picture.save(path.with_name(f"{path.name}.png"), format="PNG")
        print(printable(f"{result}: {result.scores()}"))


def _file_name(results: list[Predictions], result: Predictions) -> str:
    """The name of a result's files: model and stream, and a number if several are alike."""
    alike = [each for each in results if (each.model, each.stream) == (result.model, result.stream)]
    number = f"-{alike.index(result) + 1}" if len(alike) > 1 else ""
    return re.sub(r"[^\w.-]+", "-", f"{result.model}-{result.stream}{number}")
