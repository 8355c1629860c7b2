"""The training loop: epochs of steps over rows in memory, stoppable and resumable at every step.

It knows a network, rows and parameters, and speaks through a `JobContext`; it knows neither recipes nor models.
The order of the rows comes from (seed, epoch), the learning rate from the step, so what a checkpoint must hold is
small: weights, the optimiser's memory, early stopping, random states, counters.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from modelry.core.errors import Diverged, InvalidParameter
from modelry.core.specs import StopReason
from modelry.worker.context import JobContext
from modelry.worker.recipes.network import Network
from modelry.worker.training import buffers, randomness
from modelry.worker.training.checkpoints import (
    Checkpoint,
    CheckpointState,
    CheckpointWriter,
    copied,
    optimizer_tensors,
    restore_optimizer,
)
from modelry.worker.training.descent import learning_rate, make_optimizer
from modelry.worker.training.memory import micro_batch_rows
from modelry.worker.training.objectives import Classification, Objective
from modelry.worker.training.samples import Samples
from modelry.worker.training.stopping import EarlyStopping
from modelry.worker.training.watching import Watch

#: Rows per pass where no gradient is needed.
_VALIDATION_ROWS = 256


@dataclass
class Counters:
    """Where the training is."""

    step: int = 0
    epoch: int = 0
    #: Rows of the current epoch's permutation that are done.
    position: int = 0
    is_done: bool = False
    #: Sums over the current epoch: loss, scores (right answers, …), rows.
    sums: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))


class Training:
    """One training from its first step, or from a checkpoint, to its last."""

    def __init__(
        self,
        network: Network,
        samples: Samples,
        params: Mapping[str, Any],
        context: JobContext,
        *,
        objective: Objective | None = None,
        checkpoint_s: float = 10.0,
        checkpoint_steps: int | None = None,
    ) -> None:
        self.network = network
        self.counters = Counters()
        self._samples = samples
        self._objective = objective or Classification()
        self._params = params
        self._context = context
        self._checkpoint_s = checkpoint_s
        self._checkpoint_steps = checkpoint_steps
        self._checkpoint_at = time.monotonic()
        self._rows, self._held_out = samples.hold_out(params["validation"], params["seed"])
        if params["validation"] and not len(self._held_out):
            raise InvalidParameter(
                name="validation",
                value=params["validation"],
                expected="0 for this data: it has too few rows to hold any of them out",
            )
        self._optimizer = make_optimizer(
            params, (weight for weight in network.parameters() if weight.requires_grad)
        )
        patience = params["patience"]
        self._stopping = EarlyStopping(patience) if patience is not None else None
        self._micro_rows = min(
            params["pass_rows"] or sys.maxsize,
            micro_batch_rows(network, samples, self._objective, context.spec.limits.memory_bytes),
        )
        rows = len(self._rows)
        self._batch_rows = rows if params["batch_size"] == "full" else params["batch_size"]
        steps_per_epoch = math.ceil(rows / self._batch_rows)
        self._watch = Watch(context, self._objective, params["epochs"], steps_per_epoch)
        self._total_steps = steps_per_epoch * params["epochs"]
        self._writer = CheckpointWriter(context.checkpoint)

    def run(self) -> None:
        """Trains to the end and keeps a last checkpoint; raises `Stopped` or `Diverged`."""
        if not self.counters.is_done:
            self._watch.begin(self.counters.step, self.counters.epoch)
        try:
            while not self.counters.is_done:
                self._run_epoch()
        finally:
            self._writer.close()

    def resume(self, checkpoint: Checkpoint) -> None:
        """Goes back to where the checkpoint was made."""
        state, counters = checkpoint.state, self.counters
        self.network.load_state_dict(checkpoint.group("network"))
        restore_optimizer(self._optimizer, checkpoint.group("optimizer"))
        counters.step, counters.epoch, counters.position = state.step, state.epoch, state.position
        counters.is_done = state.is_done
        counters.sums.copy_(checkpoint.tensors["sums"])
        if self._stopping is not None:
            best_loss = math.inf if state.best_loss is None else state.best_loss
            self._stopping.best_loss, self._stopping.best_epoch = best_loss, state.best_epoch
            self._stopping.best_weights = checkpoint.group("best")
        randomness.restore(state.random, checkpoint.tensors["random"])
        self._watch.go_on(state.step, state.elapsed_s, counters.sums)

    def checkpoint(self) -> Checkpoint:
        """A copy of everything a resume needs."""
        counters, stopping = self.counters, self._stopping
        random_states, torch_state = randomness.capture()
        best_loss = stopping.best_loss if stopping is not None else math.inf
        state = CheckpointState(
            step=counters.step,
            epoch=counters.epoch,
            position=counters.position,
            is_done=counters.is_done,
            elapsed_s=self._watch.elapsed_s,
            best_loss=best_loss if math.isfinite(best_loss) else None,
            best_epoch=stopping.best_epoch if stopping is not None else 0,
            random=random_states,
        )
        tensors = {
            **copied("network", self.network.state_dict()),
            **copied("optimizer", optimizer_tensors(self._optimizer)),
            **copied("best", stopping.best_weights if stopping is not None else {}),
            "sums": counters.sums.clone(),
            "random": torch_state,
        }
        return Checkpoint(state, tensors)

    def _run_epoch(self) -> None:
        counters = self.counters
        order = self._samples.order(
            self._rows, self._batch_rows, self._params["seed"], counters.epoch
        )
        self.network.train()
        while counters.position < len(order):
            self._obey_stop()
            stop = counters.position + self._batch_rows
            if not self._take_step(order[counters.position : stop]):
                continue
            counters.step += 1
            counters.position = min(stop, len(order))
            now = time.monotonic()
            if self._watch.is_due(now):
                self._read_watch(now)
            if self._is_checkpoint_due(now):
                self._start_checkpoint(now)
        self._end_epoch()

    def _take_step(self, index: Tensor) -> bool:
        """One step of the optimiser; False where a stop was wished in its middle: then nothing has happened."""
        parts = torch.split(index, self._micro_rows)
        before = None
        if len(parts) > 1:
            before = (randomness.capture(), buffers.capture(self.network))
        sums = torch.zeros_like(self.counters.sums)
        self._optimizer.zero_grad(set_to_none=True)
        for part in parts:
            if before is not None and self._context.stop_requested is not None:
                randomness.restore(*before[0])
                buffers.restore(self.network, before[1])
                return False
            self._add_gradient(part, len(index), sums)
        clip_norm = self._params["clip_norm"]
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), clip_norm)
        rate = learning_rate(self._params, self.counters.step, self._total_steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self.counters.sums += sums
        return True

    def _add_gradient(self, part: Tensor, step_rows: int, sums: Tensor) -> None:
        inputs, labels = self._samples.batch(part)
        outputs = self.network(inputs)
        loss = self._objective.loss(outputs, labels)
        # Each pass weighs as many rows as it has, so that the sum is the gradient of the whole step's mean.
        share = len(part) / step_rows
        (loss if share == 1.0 else loss * share).backward()  # type: ignore[no-untyped-call]
        self._add_up(sums, loss, outputs, labels)

    def _end_epoch(self) -> None:
        """Everything after an epoch's last step; a stop in its middle leaves it undone, a resume does it again."""
        self._read_watch(time.monotonic())
        validation = self._validate()
        counters = self.counters
        self._watch.end_epoch(counters.epoch + 1, _means(counters.sums), validation)
        is_enough = False
        if self._stopping is not None and validation is not None:
            is_enough = self._stopping.see(validation[0], counters.epoch + 1, self.network)
        counters.epoch += 1
        counters.position = 0
        counters.sums.zero_()
        self._watch.restart_epoch()
        if is_enough or counters.epoch == self._params["epochs"]:
            self._finish()

    def _finish(self) -> None:
        stopping = self._stopping
        if stopping is not None and stopping.best_weights:
            self.network.load_state_dict(stopping.best_weights)
            self._watch.kept_best(stopping.best_epoch, stopping.best_loss, self.counters.epoch)
        if not all(bool(value.isfinite().all()) for value in self.network.parameters()):
            raise Diverged(value=math.nan, step=self.counters.step)
        self.counters.is_done = True
        self._watch.end()
        # A disk too full for this one may still have room for the model.
        self._warn(self._writer.start(self.checkpoint()))
        self._warn(self._writer.wait())

    @torch.no_grad()
    def _validate(self) -> tuple[float, float] | None:
        """Loss and score on the held-out rows."""
        if not len(self._held_out):
            return None
        sums = torch.zeros_like(self.counters.sums)
        self.network.eval()
        for inputs, labels in self._samples.batches(self._held_out, _VALIDATION_ROWS):
            self._obey_stop()
            outputs = self.network(inputs)
            self._add_up(sums, self._objective.loss(outputs, labels), outputs, labels)
        return _means(sums)

    def _read_watch(self, now: float) -> None:
        loss = self._watch.read(now, self.counters.step, self.counters.epoch, self.counters.sums)
        if not math.isfinite(loss):
            raise Diverged(value=loss, step=self.counters.step)

    def _is_checkpoint_due(self, now: float) -> bool:
        if self._checkpoint_steps is not None:
            return self.counters.step % self._checkpoint_steps == 0
        return now - self._checkpoint_at >= self._checkpoint_s

    def _start_checkpoint(self, now: float) -> None:
        self._checkpoint_at = now
        self._read_watch(now)
        self._warn(self._writer.start(self.checkpoint()))

    def _warn(self, failure: Exception | None) -> None:
        if failure is not None:
            self._context.log(f"A checkpoint could not be written: {failure}", "warning")

    @torch.no_grad()
    def _add_up(self, sums: Tensor, loss: Tensor, outputs: Tensor, labels: Tensor) -> None:
        """Adds a pass to (loss, scores, rows) without reading a value."""
        rows = len(labels)
        scores = self._objective.scores(outputs, labels).to(loss.dtype)
        sums += torch.stack((loss.detach() * rows, scores, loss.new_tensor(rows)))

    def _obey_stop(self) -> None:
        reason = self._context.stop_requested
        if reason is None:
            return
        if reason is not StopReason.CANCEL:
            self._read_watch(time.monotonic())
            self._writer.write(self.checkpoint())
        self._context.check_stop()


def _means(sums: Tensor) -> tuple[float, float]:
    loss, scores, rows = sums.tolist()
    return loss / rows, scores / rows
