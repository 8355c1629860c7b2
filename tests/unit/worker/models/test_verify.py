"""A form is believed only when measured."""

from __future__ import annotations

import numpy as np
import pytest

from modelry.core.errors import VerificationFailed
from modelry.worker.models.verify import Floats, spread_rows, verify

ROWS = np.linspace(0, 1, 300, dtype=np.float32).reshape(300, 1)


def honest(rows: Floats) -> Floats:
    return np.concatenate((rows, 1 - rows), axis=1)


def off_by(amount: float) -> object:
    def form(rows: Floats) -> Floats:
        return (honest(rows) + np.float32([amount, -amount])).astype(np.float32)

    return form


def test_an_equal_form_passes_and_says_what_was_compared() -> None:
    found = verify(honest, honest, ROWS)
    assert found.max_difference == 0.0
    assert (found.samples, found.batch_sizes, found.disagreements) == (300, [1, 3, 32], 0)
    assert found.rows_per_s > 0
    assert found.original_rows_per_s > 0


def test_a_small_difference_is_measured() -> None:
    found = verify(off_by(5e-5), honest, ROWS)  # type: ignore[arg-type]
    assert found.max_difference == pytest.approx(5e-5, rel=0.01)


def test_a_difference_beyond_the_tolerance_is_refused() -> None:
    with pytest.raises(VerificationFailed) as refusal:
        verify(off_by(2e-4), honest, ROWS)  # type: ignore[arg-type]
    assert refusal.value.facts["difference"] == pytest.approx(2e-4, rel=0.01)


def test_a_form_that_errs_at_one_batch_size_only_is_refused() -> None:
    def mixes_neighbours(rows: Floats) -> Floats:
        return honest(rows[::-1] if len(rows) == 3 else rows)

    with pytest.raises(VerificationFailed):
        verify(mixes_neighbours, honest, ROWS)


def test_not_a_number_is_never_close_enough() -> None:
    def broken(rows: Floats) -> Floats:
        return np.full((len(rows), 2), np.nan, dtype=np.float32)

    with pytest.raises(VerificationFailed):
        verify(broken, honest, ROWS)
    with pytest.raises(VerificationFailed):
        verify(broken, broken, ROWS)


def test_another_class_is_refused_even_within_the_tolerance() -> None:
    def undecided(rows: Floats) -> Floats:
        return np.tile(np.float32([0.5006, 0.4993]), (len(rows), 1))

    def other(rows: Floats) -> Floats:
        return np.tile(np.float32([0.4999, 0.5001]), (len(rows), 1))

    with pytest.raises(VerificationFailed, match="another class"):
        verify(other, undecided, ROWS, tolerance=1e-3)
    verify(other, undecided, ROWS, tolerance=2e-3)


def test_every_batch_size_is_run_over_all_rows() -> None:
    seen: list[int] = []

    def watched(rows: Floats) -> Floats:
        seen.append(len(rows))
        return honest(rows)

    verify(watched, honest, ROWS)
    assert sum(seen) == 3 * 300 + (1 + 3 + 32)
    assert set(seen) == {1, 3, 32, 300 % 32}


@pytest.mark.parametrize(("rows", "expected"), [(10_000, 512), (512, 512), (40, 40), (1, 1)])
def test_at_least_256_rows_are_taken_where_there_are_so_many(rows: int, expected: int) -> None:
    positions = spread_rows(rows)
    assert len(set(positions.tolist())) == expected
    assert positions.max() == rows - 1
