"""Transactions: all or nothing, one moment for a reader, and a clear word when the database is away."""

from __future__ import annotations

import shutil
import sqlite3
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from modelry.core.errors import (
    BadInput,
    InternalError,
    InvalidRequest,
    NotFound,
    StorageFull,
    StoreUnavailable,
)
from modelry.server.store import Store, jobs, projects
from tests.contract.store.conftest import Database, PostgresDatabase, SqliteDatabase
from tests.contract.store.rows import new_job


def names(store: Store) -> list[str]:
    with store.read() as tx:
        return [project.name for project in projects.list(tx)]


def test_a_block_that_raises_changes_nothing(store: Store) -> None:
    def fail_halfway() -> None:
        with store.write() as tx:
            projects.create(tx, "half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert names(store) == ["default"]


def test_a_reader_can_write_nothing(store: Store) -> None:
    with pytest.raises(InternalError, match="reading transaction"), store.read() as tx:
        projects.create(tx, "sneaky")
    assert names(store) == ["default"]
    with store.write() as tx:
        projects.create(tx, "open")


def test_a_reader_sees_one_moment(store: Store) -> None:
    with store.read() as reader:
        assert len(projects.list(reader)) == 1
        with store.write() as tx:
            projects.create(tx, "meanwhile")
        assert len(projects.list(reader)) == 1
    assert names(store) == ["default", "meanwhile"]


def test_readers_do_not_wait_for_a_writer(store: Store) -> None:
    with store.write() as tx:
        projects.create(tx, "unfinished")
        assert names(store) == ["default"]


def test_a_locked_database_is_unavailable_after_the_timeout(database: Database) -> None:
    store = Store(database.address, busy_timeout_s=0.1)
    with database.locked():
        began = time.monotonic()
        with pytest.raises(StoreUnavailable) as caught, store.write() as tx:
            projects.create(tx, "blocked")
        assert 0.08 < time.monotonic() - began < 3
        assert caught.value.retryable
    assert names(store) == ["default"]
    with store.write() as tx:
        projects.create(tx, "free")
    store.close()


def test_a_lock_that_is_let_go_in_time_is_waited_for(database: Database) -> None:
    first, second = Store(database.address), Store(database.address)
    with first.write() as tx:
        projects.create(tx, "one")
    with second.write() as tx:
        projects.create(tx, "two")
    assert names(first) == ["default", "one", "two"]
    first.close()
    second.close()


def test_a_database_that_is_gone_for_a_while_comes_back_with_all_it_had(
    database: Database,
) -> None:
    store = Store(database.address, busy_timeout_s=0.2)
    with store.write() as tx:
        job = new_job(tx)
    assert store.is_answering()
    database.take_away()
    try:
        for _ in range(2):
            with pytest.raises(StoreUnavailable), store.write() as tx:
                new_job(tx)
            with pytest.raises(StoreUnavailable), store.read() as tx:
                jobs.list_unfinished(tx)
        assert not store.is_answering()
        with pytest.raises(StoreUnavailable):
            store.acquire_lease("controller", "one", 1.0)
        store.notify()
    finally:
        database.bring_back()
    assert store.is_answering()
    with store.write() as tx:
        assert [one.id for one in jobs.list_unfinished(tx)] == [job.id]
        new_job(tx)
    store.close()


@pytest.mark.postgres
def test_a_server_that_goes_away_inside_a_block_is_unavailable(
    postgres_database: PostgresDatabase,
) -> None:
    database = postgres_database
    database.empty()
    store = Store(database.address, busy_timeout_s=0.2)

    def write() -> None:
        with store.write() as tx:
            projects.create(tx, "cut-off")
            database.take_away()

    try:
        with pytest.raises(StoreUnavailable):
            write()
    finally:
        database.bring_back()
    assert names(store) == ["default"]
    store.close()


def test_a_sqlite_file_that_was_replaced_is_the_database_from_then_on(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path)
    database.migrate()
    store = Store(database.address)
    store.backup(tmp_path / "earlier.db")
    with store.write() as tx:
        projects.create(tx, "later")
    store.close()
    assert names(store) == ["default", "later"]
    database.take_away()
    for leftover in tmp_path.glob("modelry.db-*"):
        leftover.unlink()
    shutil.copy(tmp_path / "earlier.db", database.file)
    assert names(store) == ["default"]
    with store.write() as tx:
        projects.create(tx, "anew")
    store.close()
    other = Store(database.address)
    assert names(other) == ["anew", "default"]
    other.close()


def test_an_empty_file_in_its_place_is_no_database(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path)
    database.migrate()
    store = Store(database.address)
    assert store.is_answering()
    database.take_away()
    database.file.touch()
    assert not store.is_answering()
    with pytest.raises(StoreUnavailable, match="no such table"), store.write() as tx:
        projects.create(tx, "nowhere")
    store.close()


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    file = tmp_path / "modelry.db"
    file.write_bytes(b"this is a diary, not a database" * 100)
    store = Store(f"sqlite:///{file}")
    with pytest.raises(StoreUnavailable, match="not a database"):
        store.migrate()
    assert file.read_bytes().startswith(b"this is a diary")


def test_a_missing_database_is_never_made_by_using_it(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'modelry.db'}")
    assert not store.is_answering()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_and_nothing_is_kept(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path)
    database.migrate()
    store = Store(database.address)

    def fill() -> None:
        with store.write() as tx:
            tx.execute(sa.text("PRAGMA max_page_count = 1"))  # no more than there are now
            for _ in range(1000):
                new_job(tx, params={"text": "x" * 4000})

    with pytest.raises(StorageFull):
        fill()
    with store.read() as tx:
        assert jobs.list_unfinished(tx) == []
    store.close()


def test_sqlite_commits_survive_power_loss(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path)
    database.migrate()
    store = Store(database.address)
    with store.write() as tx:
        pragmas = {
            name: tx.execute(sa.text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    store.close()


def test_a_backup_is_a_whole_database_in_one_file(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path)
    database.migrate()
    store = Store(database.address)
    with store.write() as tx:
        projects.create(tx, "saved")
    copy = tmp_path / "copies" / "copy.db"
    store.backup(copy)
    with store.write() as tx:
        projects.create(tx, "too-late")
    store.backup(tmp_path / "second.db")
    store.close()
    assert [path.name for path in copy.parent.iterdir()] == ["copy.db"]
    assert copy.stat().st_mode & 0o077 == 0
    connection = sqlite3.connect(copy)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    restored = Store(f"sqlite:///{copy}")
    assert names(restored) == ["default", "saved"]
    restored.close()


def test_a_backup_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path)
    database.migrate()
    store = Store(database.address)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreUnavailable):
        store.backup(tmp_path / "file" / "copy.db")
    (tmp_path / "folder" / "copy.db" / "full").mkdir(parents=True)
    with pytest.raises(StoreUnavailable):
        store.backup(tmp_path / "folder" / "copy.db")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["copy.db"]
    store.close()


def test_postgresql_is_backed_up_by_its_own_tool(tmp_path: Path) -> None:
    store = Store("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(BadInput, match="pg_dump"):
        store.backup(tmp_path / "copy.db")


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_what_no_database_can_hold_is_the_callers_mistake(store: Store, text: str) -> None:
    for look in (projects.get, jobs.get_by_id):
        with pytest.raises((InvalidRequest, NotFound)), store.read() as tx:
            look(tx, text)
    with pytest.raises(BadInput), store.write() as tx:
        projects.create(tx, text)


def test_a_number_of_more_than_64_bits_is_the_callers_mistake(store: Store) -> None:
    with pytest.raises(InvalidRequest), store.write() as tx:
        new_job(tx, memory_limit_bytes=10**30)
    with store.read() as tx:
        assert jobs.list(tx, "default") == []
