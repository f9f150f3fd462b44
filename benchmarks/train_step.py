"""What the trainer costs beside the model: its steps, and those of a loop written by hand.

    python benchmarks/train_step.py [--rounds 12] [--steps 6] [--batch 4] [--frames 16] [--size 112]

Both train I3D on the same batches of the sample data set, read by the same reader, in turns: a round of ours, a round
of the other. The loop by hand has no schedule, no history, no guard against losses that are no number, no checkpoints.
What is compared is the quickest round of each: what else a machine does can only make a round slower, here by half.
"""

import argparse
import contextlib
import io
import tempfile
import time
from pathlib import Path

import tensorflow as tf

from kinetics_prep import cli
from kinetics_prep.reading.order import Order
from kinetics_prep.reading.skipped import Skipped
from kinetics_prep.training import loop, opening, samples
from kinetics_prep.training.compiling import cross_entropy
from kinetics_prep.training.job import TrainJob
from kinetics_prep.training.recipes import recipe
from kinetics_prep.training.run import TrainRun


def step_by_hand(run: TrainRun):
    """A training step as one would write it: float32 [] loss of a batch."""
    model, variables, optimizer = run.model, run.model.trainable_variables, run.model.optimizer

    @tf.function
    def step(inputs, class_ids):
        with tf.GradientTape() as tape:
            logits = model(inputs, training=True)
            loss = tf.reduce_mean(cross_entropy(class_ids, logits)) + tf.add_n(model.losses)
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    return step


def round_by_hand(run: TrainRun, step, steps: int) -> float:
    """Seconds that so many steps take."""
    order = Order(len(run.clips), run.job.recipe.batch, seed=1)
    sampler, reading = run.sampler(train=True), run.job.reading
    with samples.batches(run.clips, sampler, order, reading, Skipped(), 0, steps) as batches:
        begun = time.monotonic()
        for inputs, class_ids in batches:
            float(step(inputs, class_ids))
        return time.monotonic() - begun


def round_of_ours(run: TrainRun, steps: int) -> float:
    """The same by the trainer."""
    begun = time.monotonic()
    loop.fit(run, run.step + steps)
    return time.monotonic() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (("rounds", 12), ("steps", 6), ("batch", 4), ("frames", 16), ("size", 112)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        short_side = str(arguments.size * 8 // 7)
        with contextlib.redirect_stdout(io.StringIO()):
            assert cli.main(["flow", "--split", "train", "--short-side", short_side, "--output", str(data)]) == 0
        settings = {"steps": 10**6, "batch": arguments.batch, "frames": arguments.frames, "size": arguments.size}
        asked = TrainJob(recipe("small", "i3d", "rgb", **settings), data, Path(folder) / "run")
        with opening.open_run(asked) as run:
            step = step_by_hand(run)
            round_of_ours(run, 2), round_by_hand(run, step, 2)  # both are compiled
            seconds = []
            for _ in range(arguments.rounds):
                seconds.append((round_of_ours(run, arguments.steps), round_by_hand(run, step, arguments.steps)))
                print("ours {:.3f} s a step, by hand {:.3f} s".format(*(s / arguments.steps for s in seconds[-1])))
    ours, by_hand = (min(column) / arguments.steps for column in zip(*seconds))
    print(f"least: ours {ours:.3f} s a step, by hand {by_hand:.3f} s; ratio {ours / by_hand:.3f}")


if __name__ == "__main__":
    main()
