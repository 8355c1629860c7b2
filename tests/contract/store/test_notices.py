"""Notices: on PostgreSQL a listener hears of changes at once; on SQLite there are none, and nobody minds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from modelry.server.store import Store
from tests.contract.store.conftest import PostgresDatabase, SqliteDatabase

DEADLINE_S = 10.0


class Ear:
    """Counts what it hears."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = threading.Condition()

    def __call__(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def has_heard(self, count: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.count >= count, DEADLINE_S)


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


@pytest.mark.postgres
def test_a_listener_hears_a_notice_of_another_process(postgres_database: PostgresDatabase) -> None:
    one, two = Store(postgres_database.address), Store(postgres_database.address)
    ear = Ear()
    listener = one.listen(ear)
    assert ear.has_heard(1), "once for the connection itself: something may have been missed"
    for number in range(2, 5):
        two.notify()
        assert ear.has_heard(number)
    listener.stop()
    heard = ear.count
    two.notify()
    assert ear.count == heard
    one.close()
    two.close()


@pytest.mark.postgres
def test_a_listener_comes_back_after_the_server_did(postgres_database: PostgresDatabase) -> None:
    store = Store(postgres_database.address)
    ear = Ear()
    listener = store.listen(ear)
    assert ear.has_heard(1)
    postgres_database.take_away()
    try:
        store.notify()
    finally:
        postgres_database.bring_back()
    assert ear.has_heard(2), "whatever happened in between must be looked at"
    heard = ear.count

    def notify() -> bool:
        store.notify()
        return ear.count > heard

    assert until(notify)
    listener.stop()
    store.close()


def test_on_sqlite_a_notice_is_nothing(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path)
    database.migrate()
    store = Store(database.address)
    ear = Ear()
    listener = store.listen(ear)
    store.notify()
    listener.stop()
    assert ear.count == 0
    store.close()
