"""Usage and limits in the store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modelry.core.errors import NotFound
from modelry.core.records import KeyLimits, Usage
from modelry.server.store import Store, keys, projects, routes, usage
from tests.contract.store.rows import PROJECT

HOUR = 490_000


def row(**changes: Any) -> dict[str, Any]:
    return {
        "project": PROJECT,
        "key_id": "k1",
        "deployment_id": "dep_1",
        "version": 1,
        "hour": HOUR,
        "deployment": "digits",
        "model": "mnist",
        "requests": 2,
        "errors": 1,
        "rows": 20,
        "bytes_in": 2**40,
        "bytes_out": 7,
        "compute_us": 1_500_000,
        **changes,
    }


def total(store: Store, *by: str, project: str | None = PROJECT, **span: float) -> list[Usage]:
    with store.read() as tx:
        return usage.total(tx, by, project=project, **span)


def test_use_in_the_same_hour_adds_up(store: Store) -> None:
    for _ in range(3):
        with store.write() as tx:
            usage.add(tx, [row(), row(version=2)])
    assert [(one.version, one.requests, one.bytes_in) for one in total(store, "version")] == [
        (1, 6, 3 * 2**40),
        (2, 6, 3 * 2**40),
    ]
    (all_of_it,) = total(store)
    assert all_of_it == Usage(
        requests=12, errors=6, rows=120, bytes_in=6 * 2**40, bytes_out=42, compute_s=9.0
    )


def test_nothing_used_is_no_row(store: Store) -> None:
    assert total(store) == total(store, "key") == []


def test_days_are_days_in_utc(store: Store) -> None:
    day = HOUR // 24 * 24
    with store.write() as tx:
        usage.add(tx, [row(hour=day - 1), row(hour=day), row(hour=day + 23)])
    assert [(one.day, one.requests) for one in total(store, "day")] == [
        ("2025-11-23", 2),
        ("2025-11-24", 4),
    ]


def test_a_span_counts_whole_hours(store: Store) -> None:
    with store.write() as tx:
        usage.add(tx, [row(hour=HOUR), row(hour=HOUR + 1)])
    start = HOUR * 3600.0
    assert total(store, since=start + 1)[0].requests == 4
    assert total(store, since=start + 3600)[0].requests == 2
    assert total(store, until=start + 3600)[0].requests == 2
    assert total(store, since=start + 7200) == []


def test_projects_see_their_own_use_and_a_new_one_of_that_name_does_not(store: Store) -> None:
    with store.write() as tx:
        projects.create(tx, "tenant")
        usage.add(tx, [row(), row(project="tenant", requests=5), row(project="gone", requests=9)])
    assert total(store, project="tenant")[0].requests == 5
    everywhere = {one.project: one.requests for one in total(store, "project", project=None)}
    assert everywhere == {PROJECT: 2, "tenant": 5, None: 9}
    with store.write() as tx:
        projects.delete(tx, "tenant")
        projects.create(tx, "tenant")
    assert total(store, project="tenant") == []
    with pytest.raises(NotFound):
        total(store, project="nowhere")


def test_a_month_is_the_sum_of_its_hours(store: Store) -> None:
    with store.write() as tx:
        usage.add(tx, [row(hour=HOUR - 1), row(hour=HOUR), row(hour=HOUR + 5), row(key_id="k2")])
        assert usage.since(tx, ["k1", "k3"], HOUR) == {"k1": (4, 40)}


def test_places_in_journals_are_kept_and_forgotten(store: Store) -> None:
    with store.write() as tx:
        usage.set_offset(tx, "a", 10)
        usage.set_offset(tx, "b", 20)
        usage.set_offset(tx, "a", 2**40)
    with store.write() as tx:
        assert usage.offsets(tx) == {"a": 2**40, "b": 20}
        usage.forget_journals(tx, ["b", "c"])
        usage.forget_journals(tx, [])
        assert usage.offsets(tx) == {"a": 2**40}


def test_a_keys_limits_reach_the_gateways(store: Store) -> None:
    limits = KeyLimits(requests_per_s=2.5, rows_per_month=10**12, burst_s=3.0)
    with store.write() as tx:
        made = keys.create(
            tx,
            id="k1",
            label="",
            project=PROJECT,
            scopes=["infer"],
            secret_hmac=b"x",
            limits=limits,
        )
        before = routes.number(tx)
    assert made.limits == limits
    with store.write() as tx:
        keys.limit(tx, "k1", replace(limits, requests_per_s=None))
    with store.read() as tx:
        assert routes.number(tx) == before + 1
        assert routes.snapshot(tx).keys["k1"].key.limits == KeyLimits(
            rows_per_month=10**12, burst_s=3.0
        )
    with pytest.raises(NotFound), store.write() as tx:
        keys.limit(tx, "k2", limits)
