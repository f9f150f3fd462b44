"""What the trainer does between Keras's batches: learning rate, history, checkpoints, stopping."""

import math
import time

import keras

from kinetics_prep.errors import Diverged
from kinetics_prep.reading.order import Order
from kinetics_prep.training import checkpoints
from kinetics_prep.training.run import TrainRun


class Steps(keras.callbacks.Callback):
    """Sets the learning rate before each step of a run, and records the step after it.

    A step is `recipe.accumulate` of Keras's batches: the parts of a batch.
    """

    def __init__(self, run: TrainRun, order: Order) -> None:
        super().__init__()
        self._run, self._order = run, order
        self._parts = run.job.recipe.accumulate
        self._step_began = self._saved = time.monotonic()
        self._rate: float | None = None

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Before the first part of a step: forgets the loss of the step before, and sets the learning rate."""
        if batch % self._parts == 0:
            # Keras reports the mean since the metrics were last reset: the loss of this step alone.
            self.model.reset_metrics()
            run = self._run
            rate = run.job.recipe.learning_rate(run.step, run.history.validation_losses)
            if rate != self._rate:
                self.model.optimizer.learning_rate = self._rate = rate

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """After the last part of a step: writes it to the history, and a checkpoint if it is time.

        Args:
          batch: number of the part, from 0 at the beginning of `fit`.
          logs: "loss" is the mean over the parts of this step so far.

        Raises:
          Diverged: if the loss is not finite.
        """
        run, loss = self._run, float(logs["loss"])
        if not math.isfinite(loss):
            raise Diverged(self._divergence(loss, run.step * self._parts + batch % self._parts))
        if (batch + 1) % self._parts:
            return
        run.step += 1
        now = time.monotonic()
        clips_per_second = run.job.recipe.batch / (now - self._step_began)
        self._step_began = now
        entry = {"step": run.step, "loss": loss, "learning_rate": self._rate}
        run.history.add(entry | {"clips_per_second": round(clips_per_second, 3)})
        if run.stop.is_set():
            self.model.stop_training = True
        elif now - self._saved > 60 * run.job.checkpoint_minutes:
            run.history.sync()
            checkpoints.write(run.folder.checkpoints, run.step, self.model, run.digest)
            self._saved = now

    def _divergence(self, loss: float, part: int) -> str:
        run = self._run
        clip_ids = [run.clips[number].clip_id for _, number in self._order.batch_at(part)]
        return (
            f"the loss of step {run.step + 1} is {loss}, at learning rate {self._rate}. Try a lower rate in another "
            f"--output, or look at the clips of that step: {', '.join(clip_ids[:8])}"
        )
