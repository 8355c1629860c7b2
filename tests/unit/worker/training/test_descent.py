"""Learning rates as pure functions of the step; optimisers as the parameters say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from modelry.core.errors import InvalidParameter
from modelry.core.recipes import get_recipe
from modelry.worker.training.descent import learning_rate, make_optimizer


def params(**given: Any) -> dict[str, Any]:
    return get_recipe("cnn").check({"learning_rate": 1.0, "schedule": "constant", **given})


def rates(steps: int = 100, **given: Any) -> list[float]:
    return [learning_rate(params(**given), step, steps) for step in range(steps)]


def test_constant_stays() -> None:
    assert set(rates()) == {1.0}


def test_linear_falls_evenly_and_ends_one_step_above_zero() -> None:
    found = rates(schedule="linear")
    assert found == pytest.approx([1 - step / 100 for step in range(100)])


def test_cosine_is_half_way_in_the_middle() -> None:
    found = rates(schedule="cosine")
    assert found[0] == 1.0
    assert found[50] == pytest.approx(0.5)
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_warmup_rises_from_zero_to_the_peak(schedule: str) -> None:
    found = rates(schedule=schedule, warmup=0.1)
    assert found[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert found[10] == 1.0


@pytest.mark.parametrize(("warmup", "peak"), [(0.0, 30), (0.5, 50)])
def test_one_cycle_rises_and_falls_to_almost_nothing(warmup: float, peak: int) -> None:
    found = rates(101, schedule="one-cycle", warmup=warmup)
    assert found[0] == pytest.approx(1 / 25)
    assert found[peak] == pytest.approx(1.0)
    assert found[-1] == pytest.approx(4e-6)
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "one-cycle"])
def test_a_training_of_one_step_has_a_rate(schedule: str) -> None:
    assert rates(1, schedule=schedule, warmup=0.5)[0] > 0


def one_step(**given: Any) -> float:
    """Where a weight of 1 with gradient 2 goes in one step of 0.1, and a second one."""
    weight = nn.Parameter(torch.ones(1))
    optimizer = make_optimizer(params(learning_rate=0.1, **given), [weight])
    for _ in range(2):
        weight.grad = torch.full((1,), 2.0)
        optimizer.step()
    return weight.item()


def test_sgd_steps_along_the_gradient() -> None:
    assert one_step(optimizer="sgd") == pytest.approx(1 - 0.2 - 0.2)


def test_momentum_goes_on() -> None:
    assert one_step(optimizer="sgd", momentum=0.5) == pytest.approx(1 - 0.2 - 0.3)


def test_weight_decay_of_sgd_is_a_gradient() -> None:
    first = 1 - 0.1 * (2 + 0.5)
    assert one_step(optimizer="sgd", weight_decay=0.5) == pytest.approx(
        first - 0.1 * (2 + 0.5 * first)
    )


def test_weight_decay_of_adamw_is_apart_from_the_gradient() -> None:
    first = 1 * (1 - 0.1 * 0.5) - 0.1
    expected = first * (1 - 0.1 * 0.5) - 0.1
    assert one_step(optimizer="adamw", weight_decay=0.5) == pytest.approx(expected)


def test_weight_decay_of_adam_is_lost_in_its_scaling() -> None:
    assert one_step(optimizer="adam", weight_decay=0.5) == pytest.approx(0.8, abs=1e-3)


def test_settings_that_would_be_ignored_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="momentum"):
        params(momentum=0.9)
    with pytest.raises(InvalidParameter, match="patience"):
        params(patience=3)
    params(momentum=0.9, optimizer="sgd", patience=3, validation=0.1)
