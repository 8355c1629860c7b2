"""What people see of a training: curves per step and epoch, speed, time left, a line per epoch."""

from __future__ import annotations

import time

from torch import Tensor

from modelry.worker.context import JobContext
from modelry.worker.training.objectives import Objective

#: The sums are read this often at most; in between nothing waits for a value.
_INTERVAL_S = 0.2


class Watch:
    """Turns the loop's sums into metrics, progress and logs."""

    def __init__(
        self, context: JobContext, objective: Objective, epochs: int, steps_per_epoch: int
    ) -> None:
        self._context = context
        self._objective = objective
        self._epochs = epochs
        self._total_steps = epochs * steps_per_epoch
        self._began_at = self._read_at = time.monotonic()
        self._first_step = 0
        self._earlier_s = 0.0
        #: The sums at the last reading.
        self._seen = (0.0, 0.0, 0.0)

    @property
    def elapsed_s(self) -> float:
        """Seconds of training in all attempts."""
        return self._earlier_s + time.monotonic() - self._began_at

    def go_on(self, step: int, elapsed_s: float, sums: Tensor) -> None:
        """Takes over from an earlier attempt."""
        self._first_step, self._earlier_s, self._seen = step, elapsed_s, _values(sums)
        self._began_at = self._read_at = time.monotonic()
        self._context.log(f"Going on after step {step} of {self._total_steps}.")

    def begin(self, step: int, epoch: int) -> None:
        """The first step is about to be taken; it may be a long one."""
        self._context.progress(
            "training",
            step=step,
            total_steps=self._total_steps,
            epoch=epoch + 1,
            epochs=self._epochs,
        )

    def end(self) -> None:
        """The last step is done."""
        self._context.note("training_s", round(self.elapsed_s, 1))

    def is_due(self, now: float) -> bool:
        """Whether the sums have not been read for a while."""
        return now - self._read_at >= _INTERVAL_S

    def read(self, now: float, step: int, epoch: int, sums: Tensor) -> float:
        """Passes on what happened since the last reading; returns its mean loss (0 where nothing did)."""
        values = _values(sums)
        loss, scores, rows = (new - old for new, old in zip(values, self._seen, strict=True))
        if not rows:
            return 0.0
        rows_per_s = rows / max(now - self._read_at, 1e-9)
        self._seen, self._read_at = values, now
        self._context.metric("train/loss", step, loss / rows)
        self._context.metric(f"train/{self._objective.score}", step, scores / rows)
        self._context.metric("train/samples_per_s", step, rows_per_s)
        self._show(now, step, epoch, rows_per_s)
        return loss / rows

    def end_epoch(
        self, epoch: int, train: tuple[float, float], validation: tuple[float, float] | None
    ) -> None:
        """The epoch's points and its line."""
        line = f"Epoch {epoch} of {self._epochs}:"
        for part, means in (("train", train), ("validation", validation)):
            if means is not None:
                self._context.metric(f"epoch/{part}_loss", epoch, means[0])
                self._context.metric(f"epoch/{part}_{self._objective.score}", epoch, means[1])
                line += f" {part} loss {means[0]:.4f}, {self._objective.describe(means[1])};"
        self._context.log(line.rstrip(";"))

    def restart_epoch(self) -> None:
        """The sums begin at zero again."""
        self._seen = (0.0, 0.0, 0.0)

    def kept_best(self, epoch: int, loss: float, epochs_done: int) -> None:
        """Early stopping chose."""
        self._context.log(
            f"Ended after epoch {epochs_done}; kept the weights of epoch {epoch}, validation loss {loss:.4f}."
        )
        self._context.note("best_epoch", epoch)

    def _show(self, now: float, step: int, epoch: int, rows_per_s: float) -> None:
        seconds_per_step = (now - self._began_at) / max(1, step - self._first_step)
        self._context.progress(
            "training",
            step=step,
            total_steps=self._total_steps,
            epoch=min(epoch + 1, self._epochs),
            epochs=self._epochs,
            samples_per_s=rows_per_s,
            eta_s=(self._total_steps - step) * seconds_per_step,
        )


def _values(sums: Tensor) -> tuple[float, float, float]:
    loss, scores, rows = sums.tolist()
    return loss, scores, rows
