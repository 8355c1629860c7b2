"""Descent by batch, mini-batch and single rows, measured; and gradients on their way back through time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelry.core.recipes import get_recipe
from modelry.core.specs import StopReason
from modelry.worker.analysis import behaviour as module
from modelry.worker.analysis.behaviour import behaviour
from modelry.worker.context import Stopped
from modelry.worker.training.samples import TensorSamples, to_samples
from tests.unit.worker.training.conftest import Attempts


@pytest.fixture
def attempts(tmp_path: Path) -> Iterator[Attempts]:
    made = Attempts(tmp_path)
    yield made
    made.close()


SIZES = {"shape": (6, 6, 1), "classes": 3}


def samples_of(rows: int, shape: tuple[int, ...]) -> TensorSamples:
    """Three classes that differ in the mean of their rows."""
    dice = np.random.default_rng(0)
    labels = dice.integers(0, 3, rows)
    inputs = dice.normal(size=(rows, *shape)) + labels.reshape(-1, *[1] * len(shape)) - 1
    return to_samples(inputs.astype(np.float32), labels, input_shape=shape, scale=1.0)


def params_of(recipe: str, **given: Any) -> dict[str, Any]:
    return {**get_recipe(recipe).check(given), "learning_rate": 0.05}


def test_three_descents_over_the_same_rows(attempts: Attempts) -> None:
    samples = samples_of(500, (6, 6, 1))
    params = params_of("cnn", channels=[3], hidden=[5], seed=4)
    found = behaviour(attempts.start(), "cnn", params, samples, SIZES)
    by_name = {one.name: one for one in found.descents}
    assert {name: (one.batch_rows, one.steps) for name, one in by_name.items()} == {
        "batch": (500, 5),
        "mini-batch": (32, 80),
        "stochastic": (1, 2500),
    }
    firsts = {one.points[0][2] for one in found.descents}
    assert len(firsts) == 1, "all begin with the same weights"
    for one in found.descents:
        rows, seconds, losses = zip(*one.points, strict=True)
        assert list(rows) == sorted(rows)
        assert list(seconds) == sorted(seconds)
        assert rows[-1] == 2500
        assert losses[-1] < losses[0]
    # At one rate, more steps go further.
    ends = [by_name[name].points[-1][2] for name in ("batch", "mini-batch", "stochastic")]
    assert ends == sorted(ends, reverse=True)
    assert [one.layer for one in found.gradients] == ["conv1", "dense1", "classes"]
    assert all(len(one.norms) == len(one.steps) > 30 for one in found.gradients)
    assert all(norm > 0 for one in found.gradients for norm in one.norms)
    assert found.reach == []


def test_one_batch_step_is_gradient_descent_by_hand(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EPOCHS", 1)
    samples = samples_of(40, (6, 6, 1))
    params = params_of("cnn", channels=[3], hidden=[5], seed=4)
    found = behaviour(attempts.start(), "cnn", params, samples, SIZES)
    torch.manual_seed(4)
    network = module.build_network("cnn", params, shape=(6, 6, 1), classes=3)
    inputs, labels = samples.batch(torch.arange(40))
    loss = torch.nn.functional.cross_entropy(network(inputs), labels)
    loss.backward()
    with torch.no_grad():
        for weight in network.parameters():
            weight -= 0.05 * weight.grad
        after = torch.nn.functional.cross_entropy(network(inputs), labels)
    (_, _, before_told), (_, _, after_told) = found.descents[0].points
    assert before_told == pytest.approx(loss.item(), rel=1e-5)
    assert after_told == pytest.approx(after.item(), rel=1e-5)


def test_a_rate_that_is_too_high_is_told_and_no_error(attempts: Attempts) -> None:
    params = {**params_of("cnn", channels=[3], hidden=[5]), "learning_rate": 1e9}
    found = behaviour(attempts.start(), "cnn", params, samples_of(100, (6, 6, 1)), SIZES)
    assert any(one.has_diverged for one in found.descents)
    assert all(np.isfinite(one.points).all() for one in found.descents)


def test_gradients_come_back_through_time_as_far_as_the_cell_lets_them(attempts: Attempts) -> None:
    params = params_of("rnn", cell="gru", hidden=8, layers=1)
    found = behaviour(
        attempts.start(), "rnn", params, samples_of(64, (30, 4)), {"shape": (30, 4), "classes": 3}
    )
    reach = {one.cell: one.norms for one in found.reach}
    assert set(reach) == {"rnn", "lstm", "gru"}
    assert all(len(norms) == 30 for norms in reach.values())
    # An untrained GRU halves its state with each step; an LSTM begins with its forget gate open.
    assert reach["gru"][-1] / reach["gru"][0] < reach["lstm"][-1] / reach["lstm"][0]


def test_it_stops_when_it_is_asked_to(attempts: Attempts) -> None:
    context = attempts.start()
    context.stop_requested = StopReason.CANCEL
    with pytest.raises(Stopped):
        behaviour(
            context,
            "cnn",
            params_of("cnn"),
            samples_of(64, (28, 28, 1)),
            {"shape": (28, 28, 1), "classes": 3},
        )
