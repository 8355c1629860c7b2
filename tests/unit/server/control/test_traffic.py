"""The numbers that stand side by side for a deployment's versions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.server.control.traffic import quantile_ms
from modelry.server.gateway.layout import TIME_BOUNDS_US, TIMES


def counts_of(times_us: list[int]) -> list[int]:
    counts = [0] * TIMES
    for time_us in times_us:
        counts[sum(time_us > bound for bound in TIME_BOUNDS_US)] += 1
    return counts


@given(st.lists(st.integers(1, TIME_BOUNDS_US[-1]), min_size=1, max_size=200))
def test_a_quantile_lies_in_the_bucket_of_the_request_it_stands_for(times_us: list[int]) -> None:
    ordered = sorted(times_us)
    exact = ordered[-(-len(ordered) * 99 // 100) - 1]
    bucket = sum(exact > bound for bound in TIME_BOUNDS_US)
    low = TIME_BOUNDS_US[bucket - 1] if bucket else 0
    told = quantile_ms(counts_of(times_us), 0.99)
    assert told is not None
    assert low / 1e3 <= told <= TIME_BOUNDS_US[bucket] / 1e3


def test_of_nothing_there_is_no_quantile() -> None:
    assert quantile_ms([0] * TIMES, 0.99) is None


def test_beyond_the_last_bound_the_bound_is_told() -> None:
    assert quantile_ms(counts_of([10**9]), 0.99) == pytest.approx(TIME_BOUNDS_US[-1] / 1e3)
