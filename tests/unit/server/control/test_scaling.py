"""The laws of autoscaling: quickly up, slowly down, asleep when nobody asks, and no swinging at the edge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.core.records import Deployment, Load
from modelry.core.states import DeploymentWish
from modelry.server.control.scaling import (
    CALM_S,
    LONG_WAIT_S,
    Watch,
    decide,
    is_scaled,
)
from tests.unit.server.control.test_replica_plan import deployment

#: Between two looks of the controller.
LOOK_S = 0.5


def scaled(fewest: int = 1, most: int = 8, idle_s: float | None = None) -> Deployment:
    wished = deployment(fewest)
    return replace(wished, min_replicas=fewest, max_replicas=most, idle_s=idle_s)


class Traffic:
    """A load over time, seen by a controller that follows every decision at once.

    `wait_s` says how long a request waits with so many replicas; `requests_per_s` of them are answered.
    """

    def __init__(self, wished: Deployment) -> None:
        self.wished = wished
        self.watch = Watch()
        self.load = Load()
        self.now = 10_000.0
        self.awake_since = self.now
        #: (time, number of replicas) after each change.
        self.changes: list[tuple[float, int]] = []

    def run(
        self, seconds: float, wait_s: Callable[[int], float], requests_per_s: float = 100.0
    ) -> int:
        """The number of replicas in the end."""
        for _ in range(round(seconds / LOOK_S)):
            self.now += LOOK_S
            new = round(requests_per_s * LOOK_S)
            waited = round(new * wait_s(self.wished.replicas) * 1e6)
            self.load = replace(
                self.load,
                requests=self.load.requests + new,
                queue_us=self.load.queue_us + waited,
                last_request_at=self.now if new else self.load.last_request_at,
            )
            self.look()
        return self.wished.replicas

    def look(self) -> None:
        number, self.watch = decide(
            self.wished, self.load, self.watch, self.now, awake_since=self.awake_since
        )
        if number != self.wished.replicas:
            self.changes.append((self.now, number))
            self.wished = replace(self.wished, replicas=number)


def nobody(replicas: int) -> float:
    return 0.0


def needs(enough: int, wait_s: float = 0.5) -> Callable[[int], float]:
    """Long waits with fewer replicas than that, none with as many."""
    return lambda replicas: wait_s if replicas < enough else 0.0


def test_long_waits_double_the_replicas_within_seconds_until_nobody_waits() -> None:
    traffic = Traffic(scaled())
    assert traffic.run(15.0, needs(4)) == 4
    assert [number for _, number in traffic.changes] == [2, 4]


def test_longish_waits_add_one_at_a_time() -> None:
    traffic = Traffic(scaled())
    assert traffic.run(20.0, needs(3, 1.5 * LONG_WAIT_S)) == 3
    assert [number for _, number in traffic.changes] == [2, 3]


def test_waits_below_the_mark_change_nothing() -> None:
    traffic = Traffic(scaled(2))
    traffic.run(300.0, needs(99, 0.5 * LONG_WAIT_S))
    assert traffic.changes == []


def test_after_a_calm_minute_one_replica_goes_and_another_after_the_next() -> None:
    traffic = Traffic(replace(scaled(), replicas=4))
    traffic.run(CALM_S - 5.0, nobody)
    assert traffic.changes == []
    assert traffic.run(4 * CALM_S, nobody) == 1


def test_a_load_at_the_edge_makes_the_number_swing_less_and_less() -> None:
    traffic = Traffic(replace(scaled(), replicas=4))
    traffic.run(3600.0, needs(4))
    less = [at for at, number in traffic.changes if number == 3]
    pauses = [later - earlier for earlier, later in zip(less, less[1:], strict=False)]
    assert pauses == sorted(pauses)
    assert len(less) <= 9
    short = sum(LOOK_S * 20 for _ in less)
    assert short < 0.1 * 3600.0


def test_requests_that_never_come_back_call_for_more_replicas() -> None:
    traffic = Traffic(scaled())
    traffic.load = Load(in_flight=5, requests=10)
    for _ in range(20):
        traffic.now += LOOK_S
        traffic.look()
    assert traffic.wished.replicas > 1


def test_one_slow_request_calls_for_nothing() -> None:
    traffic = Traffic(scaled())
    traffic.load = Load(in_flight=1, requests=10)
    for _ in range(60):
        traffic.now += LOOK_S
        traffic.look()
    assert traffic.changes == []


def test_counters_that_begin_anew_are_no_news() -> None:
    traffic = Traffic(scaled())
    traffic.run(5.0, lambda replicas: 0.02)
    traffic.load = Load()
    traffic.run(5.0, lambda replicas: 0.02)
    assert traffic.changes == []


def test_who_is_not_asked_sleeps_after_its_time_and_not_before() -> None:
    traffic = Traffic(scaled(idle_s=60.0))
    traffic.run(10.0, nobody)
    last = traffic.now
    traffic.run(59.0, nobody, requests_per_s=0)
    assert traffic.wished.replicas == 1
    assert traffic.run(2.0, nobody, requests_per_s=0) == 0
    assert traffic.now - last >= 60.0


def test_who_was_just_started_is_given_its_time() -> None:
    traffic = Traffic(scaled(idle_s=60.0))
    traffic.run(50.0, nobody, requests_per_s=0)
    traffic.awake_since = traffic.now
    assert traffic.run(59.0, nobody, requests_per_s=0) == 1
    assert traffic.run(2.0, nobody, requests_per_s=0) == 0


@pytest.mark.parametrize("busy", [Load(in_flight=1), Load(waiting=1)])
def test_nobody_sleeps_with_a_request_under_way(busy: Load) -> None:
    traffic = Traffic(scaled(idle_s=5.0))
    traffic.load = busy
    for _ in range(100):
        traffic.now += LOOK_S
        traffic.look()
    assert traffic.wished.replicas >= 1


def test_the_load_does_not_wake_what_sleeps() -> None:
    asleep = Traffic(replace(scaled(idle_s=5.0), replicas=0))
    asleep.load = Load(waiting=3)
    asleep.look()
    assert asleep.wished.replicas == 0, "the request that waits has asked for a start itself"


def test_only_what_may_vary_is_looked_at() -> None:
    fixed = deployment(2)
    fixed = replace(fixed, min_replicas=2, max_replicas=2)
    assert not is_scaled(fixed)
    assert is_scaled(replace(fixed, max_replicas=3))
    assert is_scaled(replace(fixed, idle_s=60.0))
    assert not is_scaled(replace(fixed, idle_s=60.0, wish=DeploymentWish.STOP))


@given(
    fewest=st.integers(1, 4),
    more=st.integers(0, 4),
    waits=st.lists(st.floats(0.0, 2.0), min_size=1, max_size=40),
)
def test_the_number_stays_between_its_bounds_whatever_the_load(
    fewest: int, more: int, waits: list[float]
) -> None:
    traffic = Traffic(scaled(fewest, fewest + more))
    for wait in waits:
        number = traffic.run(5.0, lambda replicas, wait=wait: wait)  # type: ignore[misc]
        assert fewest <= number <= fewest + more
