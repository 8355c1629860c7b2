"""How many rows go through at once: bounded by the memory limit, and by nothing that changes between attempts."""

from __future__ import annotations

from typing import Any

import torch

from modelry.core.recipes import get_recipe
from modelry.worker.recipes.building import build_network
from modelry.worker.recipes.network import Network
from modelry.worker.training.memory import micro_batch_rows
from modelry.worker.training.objectives import Classification
from modelry.worker.training.samples import TensorSamples

GIB = 1 << 30


def network(**given: Any) -> Network:
    return build_network("cnn", get_recipe("cnn").check(given), shape=(28, 28, 1), classes=10)


def samples(rows: int = 100) -> TensorSamples:
    inputs = torch.zeros(rows, 28, 28, 1, dtype=torch.uint8)
    return TensorSamples(inputs, torch.zeros(rows, dtype=torch.int64), 1 / 255)


def test_a_smaller_limit_means_fewer_rows_but_never_none() -> None:
    limits = (None, GIB, GIB // 2, 0)
    rows = [micro_batch_rows(network(), samples(), Classification(), limit) for limit in limits]
    assert rows == sorted(rows, reverse=True)
    assert rows[1] > rows[2] > rows[3] == 1


def test_a_usual_batch_goes_through_in_one_piece() -> None:
    assert micro_batch_rows(network(), samples(), Classification(), None) >= 256


def test_a_row_counts_at_least_the_outputs_of_its_convolutions() -> None:
    kept = (26 * 26 * 32 + 11 * 11 * 64) * 4
    assert micro_batch_rows(network(), samples(), Classification(), None) <= GIB // kept


def test_a_bigger_network_takes_fewer_rows() -> None:
    small, large = (
        micro_batch_rows(network(channels=channels), samples(), Classification(), None)
        for channels in ([8, 8], [64, 64])
    )
    assert large < small / 4


def test_the_trial_draws_no_random_numbers_and_leaves_no_gradient() -> None:
    tried = network(dropout=0.5)
    before = torch.get_rng_state()
    micro_batch_rows(tried, samples(), Classification(), None)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in tried.parameters())
