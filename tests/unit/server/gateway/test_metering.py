"""A key's limits over several processes: together they let in what one would have, give or take a request each."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelry.core.errors import ModelryError, QuotaExceeded, RateLimited
from modelry.core.records import KeyLimits
from modelry.server.gateway.admission import Admission
from modelry.server.gateway.limits import month_begins, month_of
from modelry.server.gateway.metering import Meter
from modelry.server.gateway.past import fold
from tests.unit.server.gateway.counting import WALL, Processes, caller, look, route


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(tmp_path / "counters")


def is_let_in(admission: Admission, *, rows: int = 1, **limits: float | int) -> bool:
    try:
        admission.enter(caller(**limits), route(), rows=rows, bytes_in=0, deadline_s=30)
    except (RateLimited, QuotaExceeded):
        return False
    return True


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.floats(0, 0.3), st.integers(0, 3)), max_size=150),
    st.sampled_from([5.0, 50.0]),
)
def test_all_processes_together_let_in_what_the_rate_allows(
    count: int, steps: list[tuple[float, int]], rate: float
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        processes = Processes(Path(folder) / "counters")
        admissions = [processes.start() for _ in range(count)]
        look(*admissions)
        began, admitted = processes.clock.now, 0
        for pause_s, who in steps:
            processes.clock.now += pause_s
            admitted += is_let_in(admissions[who % count], requests_per_s=rate)
        most = rate + rate * (processes.clock.now - began)
        # In one thread no two look at the same moment, so that there is no slack at all …
        assert admitted <= most + 1e-6
        # … and a pause that fills the bucket fills it for each of them.
        processes.clock.now += 5.0
        assert all(is_let_in(one, requests_per_s=rate) for one in admissions[: int(rate)])
        for one in admissions:
            one.counters.close()


def test_who_comes_later_takes_over_how_full_the_bucket_is(processes: Processes) -> None:
    first = processes.start()
    assert sum(is_let_in(first, requests_per_s=10) for _ in range(20)) == 10
    second = processes.start()
    look(first, second)
    assert not is_let_in(second, requests_per_s=10)
    processes.clock.now += 0.5
    assert sum(is_let_in(second, requests_per_s=10) for _ in range(20)) == 5
    assert not is_let_in(first, requests_per_s=10)


def test_a_pause_of_one_does_not_give_it_what_the_other_used(processes: Processes) -> None:
    first, second = processes.start(), processes.start()
    look(first, second)
    assert is_let_in(first, requests_per_s=10)
    for _ in range(1000):
        processes.clock.now += 0.01
        is_let_in(second, requests_per_s=10)
    # The other used all of it until now; nothing was saved for the one that rested.
    assert sum(is_let_in(first, requests_per_s=10) for _ in range(20)) <= 1


def test_two_that_look_in_the_same_moment_let_in_one_more_and_pay_it_off(
    processes: Processes,
) -> None:
    first, second = processes.start(), processes.start()
    look(first, second)
    limits = KeyLimits(requests_per_s=10.0, burst_s=0.1)
    now = processes.clock.now
    meters = [Meter(one.counters, "k1", limits, now) for one in (first, second)]
    look(first, second)
    for meter in meters:
        # Linked, and each with its own view of what the others let in so far.
        meter._link()
        meter._refill(now)
    for meter in meters:
        meter._check_rates(1)
    for meter in meters:
        meter._count(1)
        meter._publish(now)
    with pytest.raises(RateLimited):
        meters[0].admit(1, now + 0.1, WALL)
    with pytest.raises(RateLimited):
        meters[1].admit(1, now + 0.19, WALL)
    meters[0].admit(1, now + 0.21, WALL)


def test_a_refusal_names_the_limit_and_the_wait(processes: Processes) -> None:
    one = processes.start()
    assert is_let_in(one, requests_per_s=2, burst_s=0.5)
    with pytest.raises(RateLimited, match=r"2 requests a second") as refused:
        one.enter(caller(requests_per_s=2, burst_s=0.5), route(), rows=1, bytes_in=0, deadline_s=3)
    assert refused.value.facts["retry_after_s"] == pytest.approx(0.5)


def test_a_request_that_is_refused_for_its_rows_uses_up_no_request(processes: Processes) -> None:
    one = processes.start()
    limits = {"requests_per_s": 2, "rows_per_s": 4}
    assert is_let_in(one, rows=4, **limits)
    assert not is_let_in(one, rows=4, **limits)
    processes.clock.now += 0.25
    assert is_let_in(one, rows=1, **limits)


def test_a_change_of_limits_holds_with_the_next_request(processes: Processes) -> None:
    one = processes.start()
    assert is_let_in(one, requests_per_s=1)
    assert not is_let_in(one, requests_per_s=1)
    assert is_let_in(one, requests_per_s=100)
    assert is_let_in(one)


def test_a_quota_is_used_up_by_all_processes_and_by_those_that_ended(processes: Processes) -> None:
    first, second = processes.start(), processes.start()
    look(first, second)
    assert sum(is_let_in(first, requests_per_month=10) for _ in range(4)) == 4
    assert sum(is_let_in(second, requests_per_month=10) for _ in range(3)) == 3
    name = first.counters.table.path
    assert name is not None
    first.counters.close()
    look(second)
    assert sum(is_let_in(second, requests_per_month=10) for _ in range(2)) == 2
    fold(processes.folder, [name.name])
    third = processes.start()
    look(second, third)
    assert sum(is_let_in(third, requests_per_month=10) for _ in range(5)) == 1
    assert not is_let_in(second, requests_per_month=10)


def test_a_quota_begins_anew_with_the_month(processes: Processes) -> None:
    one = processes.start()
    assert is_let_in(one, rows=5, rows_per_month=5)
    with pytest.raises(QuotaExceeded, match="5 rows of this month") as refused:
        one.enter(caller(rows_per_month=5), route(), rows=1, bytes_in=0, deadline_s=3)
    left_s = refused.value.facts["retry_after_s"]
    assert isinstance(left_s, float)
    assert processes.clock.wall() + left_s == month_begins(month_of(WALL) + 1)
    processes.clock.now += left_s
    assert is_let_in(one, rows=5, rows_per_month=5)
    assert not is_let_in(one, rows_per_month=5)


def test_a_quota_of_nothing_lets_nothing_in(processes: Processes) -> None:
    assert not is_let_in(processes.start(), requests_per_month=0)


def test_keys_do_not_touch_each_other(processes: Processes) -> None:
    one = processes.start()
    for number in range(50):
        who = caller(f"k{number}", requests_per_s=1)
        one.enter(who, route(), rows=1, bytes_in=0, deadline_s=30)
        with pytest.raises(ModelryError):
            one.enter(who, route(), rows=1, bytes_in=0, deadline_s=30)
