"""Permits: whatever happens in whatever order, each is counted once, and the gauges come back to nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelry.core.errors import (
    DeadlineExceeded,
    ModelCrashed,
    ModelryError,
    Overloaded,
    every_error,
)
from modelry.server.gateway import layout
from modelry.server.gateway.admission import Admission, Permit
from modelry.server.gateway.counters import Counters
from modelry.server.gateway.past import fold
from modelry.server.gateway.totals import read_counted
from tests.unit.server.gateway.counting import Clock, Processes, caller, look, reply, route

ENDS = ("answer", "error", "gone")


def outcome(end: str, version: int = 1) -> object:
    return {"answer": reply(version), "error": DeadlineExceeded(deadline_s=1.0), "gone": None}[end]


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(tmp_path / "counters")


def enter(admission: Admission, *, deadline_s: float = 30.0, **more: int) -> Permit:
    return admission.enter(caller(), route(**more), rows=2, bytes_in=100, deadline_s=deadline_s)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.just(("enter", 0, "")),
            st.tuples(st.just("leave"), st.integers(0, 30), st.sampled_from(ENDS)),
            st.tuples(st.just("moved"), st.integers(0, 30), st.sampled_from(["wait", "1", "2"])),
        ),
        max_size=120,
    )
)
def test_each_permit_counts_once_in_any_order_of_events(events: list[tuple[str, int, str]]) -> None:
    counters = Counters.private()
    admission = Admission(counters)
    permits: list[Permit] = []
    ended: dict[int, str] = {}
    for verb, number, detail in events:
        if verb == "enter":
            permits.append(enter(admission))
        elif number >= len(permits):
            continue
        elif verb == "moved":
            permits[number].moved(None if detail == "wait" else int(detail))
        else:
            permits[number].leave(outcome(detail), bytes_out=10)  # type: ignore[arg-type]
            ended.setdefault(number, detail)
    load = counters.count().loads.get("dep_1")
    assert (load.waiting + load.in_flight if load else 0) == len(permits) - len(ended)
    for permit in permits:
        permit.leave(None)
    usage = [r.values() for r in counters._records.values() if r.kind == layout.USAGE]
    assert sum(values[layout.REQUESTS] for values in usage) == len(permits)
    failed = sum(end != "answer" for end in ended.values()) + len(permits) - len(ended)
    assert sum(values[layout.ERRORS] for values in usage) == failed
    totals = counters.totals("dep_1")
    assert (totals.answered, totals.failed) == (len(permits) - failed, failed)
    assert sum(totals.errors.values()) == failed
    assert sum(totals.latencies) == sum(totals.queues) == sum(totals.batches) == totals.answered
    if permits:
        left = counters.count().loads["dep_1"]
        assert (left.waiting, left.in_flight, left.requests) == (0, 0, totals.answered)


def test_an_answer_counts_its_rows_bytes_and_share_of_the_runtime() -> None:
    clock = Clock()
    counters = Counters.private()
    admission = Admission(counters, clock=clock, wall=clock.wall)
    permit = enter(admission)
    permit.moved(1)
    clock.now += 0.02
    permit.leave(reply(inference_us=8000, batch_rows=8), bytes_out=33)
    (usage,) = counters.take_touched()
    assert usage.name == ("default", "k1", "dep_1", "digits", "mnist", 1)
    # Two of eight rows: a quarter of the time.
    assert usage.values() == [1, 0, 2, 100, 33, 2000]
    totals = counters.totals("dep_1", 1)
    assert (totals.rows, totals.compute_us, totals.inference_us, totals.calls) == (
        2,
        2000,
        8000,
        0.25,
    )
    assert totals.latency_us == pytest.approx(20_000, abs=1)
    assert totals.last_at == pytest.approx(clock.wall(), abs=1e-3)
    assert counters.totals("dep_1", 2).answered == 0


def test_of_a_deleted_deployment_nothing_is_kept_once_nothing_is_under_way() -> None:
    admission = Admission()
    permit = enter(admission)
    admission.forget_all_but(set())
    assert admission._lanes
    permit.leave(reply(1))
    admission.forget_all_but({"dep_1"})
    assert admission._lanes
    admission.forget_all_but(set())
    assert not admission._lanes
    assert admission.counters.totals("dep_1").answered == 1


def test_an_error_is_counted_for_the_version_that_had_the_request() -> None:
    admission = Admission()
    permit = enter(admission)
    permit.moved(3)
    permit.leave(ModelCrashed(name="digits"))
    assert admission.counters.totals("dep_1", 3).errors == {"model_crashed": 1}


def test_every_code_counts_even_one_that_has_no_place_of_its_own() -> None:
    admission = Admission()
    for code, kind in every_error().items():
        enter(admission).leave(kind("x"))
        if code in layout.CODE_AT:
            assert admission.counters.totals("dep_1").errors[code] == 1
    assert sum(admission.counters.totals("dep_1").errors.values()) == len(every_error())


def test_a_bound_counts_the_requests_of_all_living_processes(processes: Processes) -> None:
    first, second = processes.start(), processes.start()
    bound = {"max_in_flight": 2, "max_queue": 1}
    enter(first, **bound)
    look(first, second)
    enter(second, **bound)
    look(first, second)
    last = enter(second, **bound)
    for one in (first, second):
        with pytest.raises(Overloaded) as refused:
            enter(one, **bound)
        assert refused.value.facts["queued"] == 3
    last.leave(reply())
    enter(first, **bound)


def test_what_an_ended_process_had_under_way_counts_no_more(processes: Processes) -> None:
    first, second = processes.start(), processes.start()
    enter(first)
    look(second)
    first.counters.close()
    look(second)
    enter(second, max_in_flight=1)
    assert second.counters.count().loads["dep_1"].in_flight == 1


def test_a_queue_bound_alone_stands_beside_what_the_replicas_run_at_once() -> None:
    admission = Admission()
    for _ in range(2 * 32 + 5):
        enter(admission, replicas=2, max_queue=5)
    with pytest.raises(Overloaded):
        enter(admission, replicas=2, max_queue=5)


def slow(admission: Admission, number: int, service_us: int) -> None:
    """One replica that takes so long for each request, asked one after the other."""
    for _ in range(number):
        enter(admission).leave(reply(queue_us=0, inference_us=service_us, batch_rows=2))


def test_who_would_be_answered_too_late_is_refused_at_once() -> None:
    admission = Admission()
    slow(admission, 5, 20_000)
    # 20 ms each, 0.8 of half a second: 20 fit.
    for _ in range(20):
        enter(admission, deadline_s=0.5)
    with pytest.raises(Overloaded) as refused:
        enter(admission, deadline_s=0.5)
    retry_after_s = refused.value.facts["retry_after_s"]
    assert isinstance(retry_after_s, float)
    assert 0.01 <= retry_after_s <= 0.05
    # One with more patience comes in.
    enter(admission, deadline_s=30)


def test_a_request_that_finds_a_free_replica_is_never_refused_by_the_estimate() -> None:
    admission = Admission()
    slow(admission, 1, 60_000_000)
    permit = enter(admission, deadline_s=0.1)
    with pytest.raises(Overloaded):
        enter(admission, deadline_s=0.1)
    enter(admission, replicas=2, deadline_s=0.1).leave(None)
    permit.leave(reply(queue_us=0, inference_us=1000))
    # Good answers make the estimate good again.
    slow(admission, 60, 1000)
    enter(admission, deadline_s=0.1)
    enter(admission, deadline_s=0.1)


def test_one_long_answer_among_many_short_ones_refuses_nobody() -> None:
    admission = Admission()
    slow(admission, 20, 2_000)
    slow(admission, 1, 60_000_000)
    for _ in range(100):
        enter(admission, deadline_s=1.0)


def test_a_model_that_became_slow_is_soon_known_to_be() -> None:
    admission = Admission()
    slow(admission, 20, 1_000)
    slow(admission, 40, 1_000_000)
    enter(admission, deadline_s=1.0)
    with pytest.raises(Overloaded):
        enter(admission, deadline_s=1.0)


def test_batches_make_the_estimate_fall() -> None:
    admission = Admission()
    slow(admission, 5, 20_000)
    crowd = [enter(admission) for _ in range(64)]
    for permit in crowd:
        permit.leave(reply(queue_us=20_000, inference_us=20_000, batch_rows=64))
    for _ in range(60):
        enter(admission, deadline_s=0.5)


def test_while_a_deployment_wakes_nobody_is_refused_by_the_estimate() -> None:
    admission = Admission()
    slow(admission, 1, 60_000_000)
    for _ in range(50):
        enter(admission, replicas=0, deadline_s=1.0).moved(None)
    assert admission.counters.count().loads["dep_1"].waiting == 50


def test_refusals_are_counted_and_are_no_usage() -> None:
    admission = Admission()
    enter(admission, max_in_flight=1)
    with pytest.raises(Overloaded):
        enter(admission, max_in_flight=1)
    totals = admission.counters.totals("dep_1")
    assert (totals.refused, totals.answered + totals.failed) == (1, 0)
    assert totals.errors == {"overloaded": 1}
    assert admission.counters.take_touched() == []


def test_a_full_table_counts_all_new_names_together(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = Counters.private()
    monkeypatch.setattr(counters.table, "claim", lambda *_: None)
    admission = Admission(counters)
    for number in range(10):
        who = caller(f"k{number}", requests_per_s=1)
        permit = admission.enter(who, route(), rows=1, bytes_in=5, deadline_s=30)
        with pytest.raises(ModelryError):
            admission.enter(who, route(), rows=1, bytes_in=5, deadline_s=30)
        permit.leave(reply())
    (usage,) = counters.take_touched()
    assert usage.name == ()
    assert usage.values()[layout.REQUESTS] == 10


def test_what_was_counted_is_seen_once_before_and_after_it_is_folded(processes: Processes) -> None:
    first, second = processes.start(), processes.start()
    for admission in (first, second):
        for _ in range(3):
            enter(admission).leave(reply())
    path = first.counters.table.path
    assert path is not None
    assert read_counted(processes.folder).totals("dep_1").answered == 6
    first.counters.close()
    assert read_counted(processes.folder).totals("dep_1").answered == 6
    fold(processes.folder, [path.name])
    assert not path.exists()
    assert read_counted(processes.folder).totals("dep_1").answered == 6
    # A controller that died after it wrote the past and before it removed the table.
    path.write_bytes((second.counters.table.path or path).read_bytes())
    fold(processes.folder, [path.name])
    assert not path.exists()
    assert read_counted(processes.folder).totals("dep_1").answered == 6


def test_a_private_count_is_nobody_elses() -> None:
    with tempfile.TemporaryDirectory():
        one, other = Admission(), Admission()
        enter(one)
        assert other.counters.count().loads == {}
