"""Rows in memory: scaling per batch, orders and held-out rows that repeat."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelry.worker.training.samples import epoch_order, hold_out, to_samples


def of_labels(labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.zeros((len(labels), 2, 2, 1), dtype=np.uint8)


def test_bytes_stay_bytes_until_a_batch_is_cut() -> None:
    stored = np.arange(24, dtype=np.uint8).reshape(6, 2, 2, 1)
    samples = to_samples(stored, np.arange(6, dtype=np.int64), input_shape=(2, 2, 1), scale=1 / 255)
    assert samples.inputs.dtype == torch.uint8
    assert np.shares_memory(samples.inputs.numpy(), stored)
    rows, labels = samples.batch(torch.tensor([5, 0]))
    expected = stored[[5, 0]].astype(np.float32) * np.float32(1 / 255)
    assert np.array_equal(rows.numpy(), expected)
    assert labels.tolist() == [5, 0]


@pytest.mark.parametrize("dtype", ["float64", "int32", "float32"])
def test_other_numbers_become_float32(dtype: str) -> None:
    stored = np.arange(12).reshape(2, 6).astype(dtype)
    samples = to_samples(stored, np.zeros(2, dtype=np.int64), input_shape=(3, 2), scale=0.5)
    rows, _ = samples.batch(torch.tensor([1]))
    assert rows.dtype == torch.float32
    assert rows.flatten().tolist() == [3, 3.5, 4, 4.5, 5, 5.5]


def test_read_only_arrays_are_read_without_a_copy_or_a_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    stored = np.zeros((3, 2, 2, 1), dtype=np.uint8)
    stored.flags.writeable = False
    samples = to_samples(stored, np.zeros(3, dtype=np.int64), input_shape=(2, 2, 1), scale=1.0)
    assert np.shares_memory(samples.inputs.numpy(), stored)
    assert not recwarn.list


def test_the_order_of_an_epoch_comes_from_seed_and_epoch_alone() -> None:
    first = epoch_order(100, seed=3, epoch=5)
    np.random.seed(9)
    torch.manual_seed(9)
    assert torch.equal(first, epoch_order(100, seed=3, epoch=5))
    assert sorted(first.tolist()) == list(range(100))
    assert not torch.equal(first, epoch_order(100, seed=3, epoch=6))
    assert not torch.equal(first, epoch_order(100, seed=4, epoch=5))


@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    share=st.floats(0.01, 0.5),
    seed=st.integers(0, 1000),
)
def test_held_out_rows_are_the_same_share_of_every_class(
    counts: list[int], share: float, seed: int
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    samples = to_samples(of_labels(labels), labels, input_shape=(2, 2, 1), scale=1.0)
    kept, held = hold_out(samples, share, seed)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(len(labels)))
    for label, count in enumerate(counts):
        wanted = min(max(1, round(share * count)), count - 1)
        assert int((labels[held.numpy()] == label).sum()) == wanted
    again = hold_out(samples, share, seed)
    assert torch.equal(kept, again[0])
    assert torch.equal(held, again[1])


def test_without_a_share_nothing_is_held_out() -> None:
    labels = np.zeros(4, dtype=np.int64)
    samples = to_samples(of_labels(labels), labels, input_shape=(2, 2, 1), scale=1.0)
    kept, held = hold_out(samples, 0.0, seed=0)
    assert kept.tolist() == [0, 1, 2, 3]
    assert len(held) == 0
