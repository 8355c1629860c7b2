"""The lease: one leads at a time, by the database's clock, and a leader of the past can write nothing."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from modelry.core.errors import StaleEpoch
from modelry.server.store import Store, leases, projects
from tests.contract.store.conftest import Database

SHORT_S = 0.08
LONG_S = 60.0


def acquire(store: Store, holder: str, duration_s: float = LONG_S) -> int | None:
    return store.acquire_lease(leases.CONTROLLER, holder, duration_s)


def test_one_leads_and_the_others_wait(store: Store) -> None:
    assert acquire(store, "one") == 1
    assert acquire(store, "two") is None


def test_of_many_that_ask_at_once_one_leads(database: Database, store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        epochs = list(pool.map(lambda number: acquire(store, f"holder {number}"), range(8)))
    assert sorted(epochs, key=str) == [1] + [None] * 7


def test_who_leads_already_keeps_its_epoch(store: Store) -> None:
    assert acquire(store, "one") == 1
    assert acquire(store, "one") == 1


def test_the_epoch_grows_by_one_with_each_new_leader(store: Store) -> None:
    for number in range(1, 6):
        epoch = acquire(store, f"holder {number}")
        assert epoch == number
        store.release_lease(leases.CONTROLLER, f"holder {number}", number)


def test_a_lease_ends_by_itself_and_another_may_lead(store: Store) -> None:
    assert acquire(store, "one", SHORT_S) == 1
    time.sleep(SHORT_S * 1.5)
    assert acquire(store, "two") == 2


def test_a_renewed_lease_goes_on(store: Store) -> None:
    assert acquire(store, "one", SHORT_S) == 1
    assert store.renew_lease(leases.CONTROLLER, "one", 1, LONG_S)
    time.sleep(SHORT_S * 1.5)
    assert acquire(store, "two") is None


def test_a_lease_that_ran_out_cannot_be_renewed(store: Store) -> None:
    assert acquire(store, "one", SHORT_S) == 1
    time.sleep(SHORT_S * 1.5)
    assert not store.renew_lease(leases.CONTROLLER, "one", 1, LONG_S)
    assert acquire(store, "one") == 2


def test_only_the_holder_renews_and_releases(store: Store) -> None:
    assert acquire(store, "one") == 1
    assert not store.renew_lease(leases.CONTROLLER, "two", 1, LONG_S)
    assert not store.renew_lease(leases.CONTROLLER, "one", 2, LONG_S)
    store.release_lease(leases.CONTROLLER, "two", 1)
    assert acquire(store, "two") is None


def test_leases_of_different_names_do_not_touch(store: Store) -> None:
    assert acquire(store, "one") == 1
    assert store.acquire_lease("tidying", "two", LONG_S) == 1


def test_the_leader_writes(store: Store) -> None:
    assert acquire(store, "one") == 1
    with store.lead(1) as tx:
        projects.create(tx, "led")
    with store.read() as tx:
        assert projects.find(tx, "led") is not None


def test_before_the_first_leader_nobody_leads(store: Store) -> None:
    with pytest.raises(StaleEpoch), store.lead(1):
        pytest.fail("the block must not run")


def test_a_leader_of_the_past_writes_nothing(store: Store) -> None:
    assert acquire(store, "one", SHORT_S) == 1
    time.sleep(SHORT_S * 1.5)
    with pytest.raises(StaleEpoch), store.lead(1):
        pytest.fail("nobody has taken over, but the time is over")
    assert acquire(store, "two") == 2
    with pytest.raises(StaleEpoch, match="2 leads"), store.lead(1):
        pytest.fail("another leads")


def test_a_leader_that_was_stopped_inside_its_transaction_changes_nothing(store: Store) -> None:
    assert acquire(store, "one", SHORT_S) == 1
    with pytest.raises(StaleEpoch):
        write_late(store)
    with store.read() as tx:
        assert projects.find(tx, "late") is None


def write_late(store: Store) -> None:
    with store.lead(1) as tx:
        projects.create(tx, "late")
        time.sleep(SHORT_S * 1.5)


def test_nobody_takes_over_in_the_middle_of_a_leaders_write(database: Database) -> None:
    leader, other = Store(database.address), Store(database.address)
    assert acquire(leader, "one", SHORT_S) == 1
    moments: dict[str, float] = {}

    def take_over() -> int | None:
        epoch = acquire(other, "two")
        moments["taken"] = time.monotonic()
        return epoch

    def write() -> None:
        with leader.lead(1) as tx:
            time.sleep(SHORT_S * 1.5)
            waiting.append(pool.submit(take_over))
            time.sleep(SHORT_S)
            assert not waiting[0].done()
            projects.create(tx, "late")
            moments["written"] = time.monotonic()

    waiting: list[Future[int | None]] = []
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(StaleEpoch):
            write()
        assert waiting[0].result() == 2
    assert moments["written"] < moments["taken"]
    with other.read() as tx:
        assert projects.find(tx, "late") is None
    leader.close()
    other.close()


def test_the_lease_can_be_looked_at(store: Store) -> None:
    with store.read() as tx:
        assert leases.find(tx) is None
    acquire(store, "one")
    with store.read() as tx:
        lease = leases.find(tx)
    assert lease is not None
    assert (lease.holder, lease.epoch, lease.is_held) == ("one", 1, True)
    assert lease.expires_at - lease.acquired_at == pytest.approx(LONG_S, abs=0.1)
    store.release_lease(leases.CONTROLLER, "one", 1)
    with store.read() as tx:
        released = leases.find(tx)
    assert released is not None
    assert not released.is_held


def test_time_is_the_databases(store: Store) -> None:
    with store.read() as tx:
        assert tx.now() == pytest.approx(time.time(), abs=2)
        assert tx.now() == tx.now()
