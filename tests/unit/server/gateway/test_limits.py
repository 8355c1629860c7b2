"""Buckets and months as arithmetic: no order of requests gets more than rate × time + burst."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.server.gateway.limits import Bucket, month_begins, month_of

RATES = st.floats(0.01, 1e6)
BURSTS = st.floats(0.001, 100)
STEPS = st.lists(st.tuples(st.floats(0, 10), st.integers(1, 50)), max_size=60)


@given(RATES, BURSTS, STEPS)
def test_what_is_let_in_is_at_most_a_burst_and_the_rate_times_the_time(
    rate: float, burst_s: float, steps: list[tuple[float, int]]
) -> None:
    now, taken, largest = 100.0, 0.0, 0
    bucket = Bucket(rate, burst_s, now)
    for pause_s, amount in steps:
        now += pause_s
        bucket.refill(now)
        if bucket.wait_s(amount) == 0.0:
            bucket.take(amount)
            taken += amount
            largest = max(largest, amount)
        # One request may be larger than the bucket; it is paid off before the next.
        most = bucket.capacity + rate * (now - 100.0) + max(0.0, largest - bucket.capacity)
        assert taken <= most * (1 + 1e-6)


@given(RATES, BURSTS, STEPS, st.integers(1, 50))
def test_after_the_wait_it_named_a_bucket_lets_in_and_not_much_before(
    rate: float, burst_s: float, steps: list[tuple[float, int]], amount: int
) -> None:
    now = 0.0
    bucket = Bucket(rate, burst_s, now)
    for pause_s, taken in steps:
        now += pause_s
        bucket.refill(now)
        if bucket.wait_s(taken) == 0.0:
            bucket.take(taken)
    wait_s = bucket.wait_s(amount)
    if wait_s > 0.0:
        bucket.refill(now + wait_s * 0.5)
        assert bucket.wait_s(amount) > 0.0
        bucket.refill(now + wait_s * 1.000001 + 1e-6)
        assert bucket.wait_s(amount) == 0.0


@given(RATES, st.lists(st.floats(0, 5), min_size=1, max_size=20))
def test_a_refill_in_parts_is_a_refill_at_once(rate: float, pauses: list[float]) -> None:
    parts, whole = Bucket(rate, 1.0, 0.0), Bucket(rate, 1.0, 0.0)
    parts.take(parts.capacity)
    whole.take(whole.capacity)
    now = 0.0
    for pause_s in pauses:
        now += pause_s
        parts.refill(now)
    whole.refill(now)
    assert parts.level == pytest.approx(whole.level, rel=1e-6, abs=1e-6)


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    bucket = Bucket(1.0, 2.0, 100.0)
    bucket.take(2)
    bucket.refill(50.0)
    assert (bucket.level, bucket.at) == (0.0, 100.0)


def test_what_others_let_in_is_taken_off_and_never_makes_more() -> None:
    bucket = Bucket(10.0, 1.0, 0.0)
    bucket.refill(0.0, used_elsewhere=4)
    assert bucket.level == 6.0
    bucket.refill(100.0, used_elsewhere=4)
    assert bucket.level == bucket.capacity


@given(st.integers(1970 * 12, 2200 * 12))
def test_a_month_begins_where_the_one_before_ends(month: int) -> None:
    began = month_begins(month)
    assert month_of(began) == month
    assert month_of(month_begins(month + 1) - 1) == month
    assert 28 * 86400 <= month_begins(month + 1) - began <= 31 * 86400
