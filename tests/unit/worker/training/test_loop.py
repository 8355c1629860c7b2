"""The laws of the training loop: a resume changes nothing, a big step is a sum, a stop is prompt and safe."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from modelry.core.errors import Diverged, InvalidParameter
from modelry.core.events import Checkpoint, Log, Metric, Note, Progress
from modelry.core.recipes import get_recipe
from modelry.core.specs import Limits, OutcomeStatus, StopReason
from modelry.worker.context import JobContext, Stopped
from modelry.worker.recipes.building import build_network
from modelry.worker.training import loop as loop_module
from modelry.worker.training.checkpoints import read_checkpoint
from modelry.worker.training.loop import Training
from modelry.worker.training.randomness import seed_everything
from modelry.worker.training.samples import TensorSamples

if TYPE_CHECKING:
    from tests.unit.worker.training.conftest import Attempts

SMALL = {"channels": [4], "hidden": [8], "epochs": 3, "batch_size": 16, "learning_rate": 0.05}


def prepare(
    context: JobContext,
    samples: TensorSamples,
    *,
    recipe: str = "cnn",
    every: int | None = None,
    every_s: float = 1e9,
    **given: Any,
) -> Training:
    params = get_recipe(recipe).check({**(SMALL if recipe == "cnn" else {}), **given})
    seed_everything(params["seed"])
    network = build_network(recipe, params, shape=tuple(samples.inputs.shape[1:]), classes=3)
    training = Training(
        network, samples, params, context, checkpoint_s=every_s, checkpoint_steps=every
    )
    saved = context.restore()
    if saved is not None:
        training.resume(read_checkpoint(saved))
    return training


def weights(training: Training) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in training.network.state_dict().items()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


class Interruption:
    """Asks a context to stop once the training has done so many steps."""

    def __init__(self, training: Training, context: JobContext, step: int) -> None:
        take = training._take_step

        def watched(index: Tensor) -> bool:
            took = take(index)
            if training.counters.step + 1 >= step:
                context.stop_requested = StopReason.SHUTDOWN
            return took

        training._take_step = watched  # type: ignore[method-assign]


STORY = {
    "dropout": 0.3,
    "optimizer": "sgd",
    "momentum": 0.9,
    "schedule": "one-cycle",
    "weight_decay": 1e-3,
    "clip_norm": 1.0,
    "validation": 0.2,
    "patience": 2,
    "learning_rate": 0.1,
    "epochs": 6,
}


@pytest.mark.parametrize(
    "given",
    [
        STORY,
        {"dropout": 0.3, "epochs": 6},
        {"dropout": 0.3, "epochs": 6, "optimizer": "adamw", "schedule": "cosine", "warmup": 0.1},
    ],
    ids=["sgd with momentum", "adam", "adamw"],
)
def test_weights_after_ten_cuts_at_random_steps_are_those_of_an_unharmed_run(
    given: dict[str, Any], pictures: TensorSamples, attempts: Attempts
) -> None:
    unharmed = prepare(attempts.start(), pictures, **given)
    unharmed.run()
    curve = [event for event in attempts.events() if is_epoch_point(event)]
    total = unharmed.counters.step
    cuts = sorted(random.Random(repr(given)).sample(range(1, total), 10))
    checkpoint, harmed_curve = None, {}
    for cut in [*cuts, None]:
        context = attempts.start(checkpoint=checkpoint)
        training = prepare(context, pictures, **given)
        if cut is not None:
            Interruption(training, context, cut)
            with pytest.raises(Stopped) as stop:
                training.run()
            assert stop.value.status is OutcomeStatus.INTERRUPTED
            assert training.counters.step == cut
        else:
            training.run()
        checkpoint = attempts.newest_checkpoint()
        harmed_curve.update(points(attempts))
    assert_same(weights(training), weights(unharmed))
    assert training.counters.step == total
    assert harmed_curve == {(point.name, point.step): point.value for point in curve}


def is_epoch_point(event: object) -> bool:
    return isinstance(event, Metric) and event.name.startswith("epoch/")


def points(attempts: Attempts) -> dict[tuple[str, int], float]:
    return {
        (event.name, event.step): event.value
        for event in attempts.events()
        if isinstance(event, Metric) and event.name.startswith("epoch/")
    }


def test_a_run_from_a_checkpoint_written_beside_the_training_ends_the_same(
    pictures: TensorSamples, attempts: Attempts
) -> None:
    """Not a clean stop but a kill: the newest checkpoint lies some steps back."""
    unharmed = prepare(attempts.start(), pictures, every=5, **STORY)
    unharmed.run()
    made = [event for event in attempts.events() if isinstance(event, Checkpoint)]
    assert [event.step for event in made[:3]] == [5, 10, 15]
    for event in made[:3]:
        training = prepare(attempts.start(checkpoint=event.files), pictures, **STORY)
        assert training.counters.step == event.step
        training.run()
        assert_same(weights(training), weights(unharmed))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_recurrent_networks_resume_to_the_same_weights(
    cell: str, pictures: TensorSamples, attempts: Attempts
) -> None:
    rows = TensorSamples(pictures.inputs.squeeze(-1), pictures.labels, pictures.scale)
    given = {"recipe": "rnn", "cell": cell, "hidden": 8, "layers": 2, "dropout": 0.2, "epochs": 2}
    unharmed = prepare(attempts.start(), rows, **given)
    unharmed.run()
    context = attempts.start()
    training = prepare(context, rows, **given)
    Interruption(training, context, 3)
    with pytest.raises(Stopped):
        training.run()
    second = prepare(attempts.start(checkpoint=attempts.newest_checkpoint()), rows, **given)
    second.run()
    assert_same(weights(second), weights(unharmed))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    pictures: TensorSamples, attempts: Attempts
) -> None:
    first, again, other = (
        prepare(attempts.start(), pictures, seed=seed, dropout=0.5) for seed in (1, 1, 2)
    )
    for training in (first, other):
        seed_everything(training._params["seed"])
        training.run()
    seed_everything(1)
    again.run()
    assert_same(weights(again), weights(first))
    assert not torch.equal(weights(other)["classes.weight"], weights(first)["classes.weight"])


def test_a_finished_training_resumes_with_nothing_left_to_do(
    pictures: TensorSamples, attempts: Attempts
) -> None:
    training = prepare(attempts.start(), pictures)
    training.run()
    resumed = prepare(attempts.start(checkpoint=attempts.newest_checkpoint()), pictures)
    assert resumed.counters.is_done
    resumed.run()
    assert_same(weights(resumed), weights(training))
    assert not [event for event in attempts.events() if isinstance(event, Metric)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_full_batch_in_parts_has_the_gradient_of_one_shot(
    dtype: torch.dtype, pictures: TensorSamples, attempts: Attempts
) -> None:
    training = prepare(attempts.start(), pictures, batch_size="full")
    network = training.network.to(dtype)
    samples = training._samples = Wide(pictures.inputs, pictures.labels, pictures.scale, dtype)
    inputs, labels = samples.batch(torch.arange(len(pictures)))
    functional.cross_entropy(network(inputs), labels).backward()
    expected = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    sums = torch.zeros(3, dtype=torch.float64)
    for part in torch.split(torch.arange(len(pictures)), 7):
        training._add_gradient(part, len(pictures), sums)
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, rtol=0, atol=1e-6)
    assert sums[2] == len(pictures)


class Wide(TensorSamples):
    """Samples as another type of numbers."""

    def __init__(self, inputs: Tensor, labels: Tensor, scale: float, dtype: torch.dtype) -> None:
        super().__init__(inputs, labels, scale)
        object.__setattr__(self, "dtype", dtype)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        rows, labels = super().batch(index)
        return rows.to(self.dtype), labels  # type: ignore[attr-defined]


def test_steps_in_parts_end_where_steps_in_one_do(
    pictures: TensorSamples, attempts: Attempts
) -> None:
    """A memory limit changes how a step is computed, not what it is."""
    roomy = prepare(attempts.start(), pictures, batch_size="full", epochs=8)
    tight = prepare(
        attempts.start(limits=Limits(memory_bytes=1)), pictures, batch_size="full", epochs=8
    )
    assert roomy._micro_rows >= len(pictures)
    assert tight._micro_rows == 1
    for training in (roomy, tight):
        training.run()
        assert training.counters.step == 8
    for name, value in weights(roomy).items():
        assert torch.allclose(weights(tight)[name], value, rtol=0, atol=1e-4), name


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 120), (32, 4), (1000, 1), ("full", 1)])
def test_an_epoch_has_as_many_steps_as_the_batch_size_asks_for(
    batch_size: int | str, steps: int, pictures: TensorSamples, attempts: Attempts
) -> None:
    training = prepare(attempts.start(), pictures, batch_size=batch_size, epochs=1)
    training.run()
    assert training.counters.step == steps
    assert points(attempts)[("epoch/train_loss", 1)] > 0


@pytest.mark.parametrize(
    ("reason", "status", "keeps"),
    [
        (StopReason.PAUSE, OutcomeStatus.PAUSED, True),
        (StopReason.SHUTDOWN, OutcomeStatus.INTERRUPTED, True),
        (StopReason.CANCEL, OutcomeStatus.CANCELLED, False),
    ],
)
def test_a_stop_ends_before_the_next_step_and_keeps_what_is_wanted(
    reason: StopReason,
    status: OutcomeStatus,
    keeps: bool,
    pictures: TensorSamples,
    attempts: Attempts,
) -> None:
    context = attempts.start()
    training = prepare(context, pictures)
    context.stop_requested = reason
    with pytest.raises(Stopped) as stop:
        training.run()
    assert stop.value.status is status
    assert training.counters.step == 0
    assert (attempts.newest_checkpoint() is not None) is keeps


def test_a_stop_inside_a_full_batch_step_undoes_it(
    pictures: TensorSamples, attempts: Attempts
) -> None:
    given = {"batch_size": "full", "dropout": 0.5, "epochs": 4}
    tight = Limits(memory_bytes=1)
    unharmed = prepare(attempts.start(limits=tight), pictures, **given)
    unharmed.run()
    context = attempts.start(limits=tight)
    training = prepare(context, pictures, **given)
    add, seen = training._add_gradient, 0

    def watched(part: Tensor, step_rows: int, sums: Tensor) -> None:
        nonlocal seen
        add(part, step_rows, sums)
        seen += 1
        if seen == 150:
            context.stop_requested = StopReason.PAUSE

    training._add_gradient = watched  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        training.run()
    assert (training.counters.step, seen) == (1, 150)
    checkpoint = attempts.newest_checkpoint()
    resumed = prepare(attempts.start(checkpoint=checkpoint, limits=tight), pictures, **given)
    resumed.run()
    assert_same(weights(resumed), weights(unharmed))


def test_a_stop_during_validation_is_taken_up_there(
    pictures: TensorSamples, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    unharmed = prepare(attempts.start(), pictures, **STORY)
    unharmed.run()
    context = attempts.start()
    training = prepare(context, pictures, **STORY)
    monkeypatch.setattr(loop_module, "_VALIDATION_ROWS", 4)
    batches = training._samples.batches

    class Stopping(TensorSamples):
        def batches(self, index: Tensor, rows: int) -> Any:
            for part in batches(index, rows):
                yield part
                context.stop_requested = StopReason.PAUSE

    training._samples = Stopping(pictures.inputs, pictures.labels, pictures.scale)
    with pytest.raises(Stopped):
        training.run()
    monkeypatch.undo()
    assert (training.counters.epoch, training.counters.position) == (0, 96)
    resumed = prepare(attempts.start(checkpoint=attempts.newest_checkpoint()), pictures, **STORY)
    resumed.run()
    assert_same(weights(resumed), weights(unharmed))


def test_early_stopping_ends_and_keeps_the_best_weights(
    pictures: TensorSamples, attempts: Attempts
) -> None:
    training = prepare(
        attempts.start(),
        pictures,
        validation=0.25,
        patience=2,
        epochs=200,
        learning_rate=0.3,
        optimizer="adam",
    )
    training.run()
    losses = {
        step: value for (name, step), value in points(attempts).items() if "validation_loss" in name
    }
    best = min(losses, key=lambda step: losses[step])
    assert max(losses) == best + 2 < 200
    notes = {event.name: event.value for event in attempts.events() if isinstance(event, Note)}
    assert notes["best_epoch"] == best
    assert notes["training_s"] >= 0
    found = training._validate()
    assert found is not None
    assert found[0] == losses[best]


def test_early_stopping_remembers_the_best_epoch_across_a_resume(
    pictures: TensorSamples, attempts: Attempts
) -> None:
    given = {"validation": 0.25, "patience": 3, "epochs": 200, "learning_rate": 0.3}
    unharmed = prepare(attempts.start(), pictures, every=1, **given)
    unharmed.run()
    steps_per_epoch = unharmed.counters.step // unharmed.counters.epoch
    made = [event for event in attempts.events() if isinstance(event, Checkpoint)]
    # In the last epoch: the best one is over, and only the checkpoint knows it.
    late = next(e for e in made if e.step == unharmed.counters.step - steps_per_epoch + 1)
    resumed = prepare(attempts.start(checkpoint=late.files), pictures, **given)
    resumed.run()
    assert resumed.counters.step == unharmed.counters.step
    assert_same(weights(resumed), weights(unharmed))


def test_without_patience_every_epoch_is_trained_and_the_last_weights_stay(
    pictures: TensorSamples, attempts: Attempts
) -> None:
    training = prepare(attempts.start(), pictures, validation=0.25, epochs=5)
    training.run()
    found = training._validate()
    assert found is not None
    assert found[0] == points(attempts)[("epoch/validation_loss", 5)]


def test_a_validation_share_that_would_hold_out_nothing_is_refused(
    pictures: TensorSamples, attempts: Attempts
) -> None:
    one_each = TensorSamples(pictures.inputs[:3], pictures.labels[:3], pictures.scale)
    with pytest.raises(InvalidParameter, match="validation"):
        prepare(attempts.start(), one_each, validation=0.3)


def test_a_loss_that_is_no_number_fails_with_the_remedy(
    pictures: TensorSamples, attempts: Attempts
) -> None:
    diverging = {"optimizer": "sgd", "learning_rate": 1e3, "weight_decay": 10.0, "epochs": 50}
    training = prepare(attempts.start(), pictures, **diverging)
    with pytest.raises(Diverged) as failure:
        training.run()
    assert "learning_rate" in failure.value.remedy
    assert attempts.newest_checkpoint() is None


def test_a_last_step_into_nothing_is_noticed(pictures: TensorSamples, attempts: Attempts) -> None:
    training = prepare(
        attempts.start(),
        pictures,
        optimizer="sgd",
        learning_rate=1e3,
        weight_decay=10.0,
        batch_size="full",
        epochs=1,
    )
    with torch.no_grad():
        training.network.get_parameter("classes.weight").fill_(1e36)
        training.network.get_parameter("dense1.weight").fill_(-1.0)
    with pytest.raises(Diverged):
        training.run()


def test_people_see_curves_progress_and_a_line_per_epoch(
    pictures: TensorSamples, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelry.worker.training.watching._INTERVAL_S", 0.0)
    training = prepare(attempts.start(), pictures, validation=0.2, epochs=2)
    training.run()
    events = attempts.events()
    names = {event.name for event in events if isinstance(event, Metric)}
    assert names == {
        *("train/loss", "train/accuracy", "train/samples_per_s"),
        *("epoch/train_loss", "epoch/train_accuracy"),
        *("epoch/validation_loss", "epoch/validation_accuracy"),
    }
    progress = [event for event in events if isinstance(event, Progress)]
    assert progress[0].phase == "training"
    assert (progress[0].step, progress[0].total_steps, progress[0].epoch) == (0, 12, 1)
    assert progress[-1].step == 12
    assert progress[-1].eta_s == 0
    assert progress[-1].samples_per_s is not None
    lines = [event.text for event in events if isinstance(event, Log)]
    assert lines[0].startswith("Epoch 1 of 2: train loss ")
    assert "validation loss" in lines[1]


def test_the_points_between_steps_add_up_to_the_epochs_means(
    pictures: TensorSamples, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelry.worker.training.watching._INTERVAL_S", 0.0)
    monkeypatch.setattr("modelry.worker.context._METRIC_INTERVAL_S", 0.0)
    training = prepare(attempts.start(), pictures, batch_size=20, epochs=3)
    training.run()
    for name in ("loss", "accuracy"):
        curve = [
            event.value
            for event in attempts.events()
            if isinstance(event, Metric) and event.name == f"train/{name}"
        ]
        assert len(curve) == 18
        for epoch in range(3):
            mean = np.mean(curve[6 * epoch : 6 * epoch + 6])
            assert points(attempts)[(f"epoch/train_{name}", epoch + 1)] == pytest.approx(mean)


def test_the_curve_of_an_epoch_is_the_mean_over_its_rows(
    pictures: TensorSamples, attempts: Attempts
) -> None:
    """With a learning rate of almost nothing, every epoch's mean is the untrained network's."""
    training = prepare(attempts.start(), pictures, learning_rate=1e-9, epochs=1, batch_size=50)
    with torch.no_grad():
        inputs, labels = pictures.batch(torch.arange(len(pictures)))
        logits = training.network(inputs)
        loss = functional.cross_entropy(logits, labels).item()
        accuracy = (logits.argmax(1) == labels).float().mean().item()
    training.run()
    found = points(attempts)
    assert found[("epoch/train_loss", 1)] == pytest.approx(loss, abs=1e-5)
    assert found[("epoch/train_accuracy", 1)] == pytest.approx(accuracy)


def test_it_learns(pictures: TensorSamples, attempts: Attempts) -> None:
    prepare(attempts.start(), pictures, epochs=15, learning_rate=0.01).run()
    assert points(attempts)[("epoch/train_accuracy", 15)] > 0.95


def test_a_checkpoint_that_cannot_be_written_is_told_and_the_training_goes_on(
    pictures: TensorSamples, attempts: Attempts
) -> None:
    context = attempts.start()
    keep, calls = context.checkpoint, 0

    def full_at_first(step: int, files: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("no space left on device")
        keep(step, files)

    context.checkpoint = full_at_first  # type: ignore[method-assign]
    training = prepare(context, pictures, every=4, epochs=2)
    training.run()
    warnings = [e.text for e in attempts.events() if isinstance(e, Log) and e.level == "warning"]
    assert warnings == ["A checkpoint could not be written: no space left on device"]
    assert attempts.newest_checkpoint() is not None


def test_checkpoints_come_with_time_where_no_steps_are_given(
    pictures: TensorSamples, attempts: Attempts
) -> None:
    prepare(attempts.start(), pictures, every_s=0.0, epochs=1).run()
    made = [event.step for event in attempts.events() if isinstance(event, Checkpoint)]
    assert made == [1, 2, 3, 4, 5, 6, 7, 8, 8]


def test_numbers_drawn_elsewhere_do_not_change_a_resume(
    pictures: TensorSamples, attempts: Attempts
) -> None:
    unharmed = prepare(attempts.start(), pictures, every=4, dropout=0.5)
    unharmed.run()
    first = next(event for event in attempts.events() if isinstance(event, Checkpoint))
    random.random()
    np.random.random(3)
    torch.rand(5)
    resumed = prepare(attempts.start(checkpoint=first.files), pictures, dropout=0.5)
    resumed.run()
    assert_same(weights(resumed), weights(unharmed))
