"""`kinetics-prep predict`: names the likeliest classes of a video."""

import argparse

from kinetics_prep.cli import training_flags
from kinetics_prep.cli.exit_codes import OK
from kinetics_prep.cli.keras_backend import load_keras
from kinetics_prep.cli.notices import notices
from kinetics_prep.report import classes
from kinetics_prep.training import predictions

DESCRIPTION = """\
Names the likeliest classes of a video file. It is trimmed, resampled, and its flow computed, by the
code that prepares shards, with the settings that the weights expect.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds description and flags."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    training_flags.add_predict_arguments(parser)


def run(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    """Prints the likeliest classes."""
    load_keras()
    with notices():
        from kinetics_prep.training import predict

        prediction = predict.predict(
            arguments.video,
            tuple(arguments.weights),
            start_seconds=arguments.start,
            seconds=arguments.seconds,
            frames=arguments.frames,
            how=arguments.fuse,
        )
        print(classes.in_lines(predictions.likeliest(prediction.logits[0], prediction.labels, arguments.top)))
    return OK
