"""Every law of the store is tried on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from modelry.server.store import Store
from modelry.server.store.database import Kind
from modelry.server.store.tables import metadata
from tests.postgres import PostgresServer, running_postgres


class SqliteDatabase:
    """A database file that can be locked and taken away."""

    kind: Kind = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.file = folder / "modelry.db"
        self.address = f"sqlite:///{self.file}"
        self._elsewhere = folder / "elsewhere.db"

    def migrate(self) -> None:
        store = Store(self.address)
        store.migrate()
        store.close()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Another process is in the middle of a write."""
        connection = sqlite3.connect(self.file, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.close()

    def take_away(self) -> None:
        self.file.rename(self._elsewhere)

    def bring_back(self) -> None:
        self._elsewhere.rename(self.file)


class PostgresDatabase:
    """A database of a server that can be stopped."""

    kind: Kind = "postgresql"

    def __init__(self, server: PostgresServer, address: str) -> None:
        self._server = server
        self.address = address

    def migrate(self) -> None:
        store = Store(self.address)
        store.migrate()
        store.close()

    def empty(self) -> None:
        """All rows but those of the first migration go: much quicker than a database for each test."""
        tables = [table.name for table in reversed(metadata.sorted_tables)]
        with psycopg.connect(self.address) as connection:
            for table in tables:
                if table == "projects":
                    connection.execute("DELETE FROM projects WHERE name <> 'default'")
                elif table == "counters":
                    connection.execute("UPDATE counters SET value = 0")
                else:
                    connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))

    @contextmanager
    def locked(self) -> Iterator[None]:
        with psycopg.connect(self.address) as connection:
            connection.execute("LOCK TABLE projects, leases IN ACCESS EXCLUSIVE MODE")
            yield

    def take_away(self) -> None:
        self._server.stop()

    def bring_back(self) -> None:
        self._server.start()


Database = SqliteDatabase | PostgresDatabase


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_database(postgres_server: PostgresServer) -> PostgresDatabase:
    """One migrated database for all tests that leave its schema alone."""
    database = PostgresDatabase(postgres_server, postgres_server.new_database())
    database.migrate()
    return database


KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(params=KINDS)
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """A database of its own before its first migration."""
    if request.param == "sqlite":
        return SqliteDatabase(tmp_path)
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return PostgresDatabase(server, server.new_database())


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    database = SqliteDatabase(tmp_path_factory.mktemp("migrated"))
    database.migrate()
    return database.file


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path, migrated_file: Path) -> Database:
    """A migrated database without rows."""
    if request.param == "sqlite":
        file = SqliteDatabase(tmp_path)
        shutil.copy(migrated_file, file.file)
        return file
    shared: PostgresDatabase = request.getfixturevalue("postgres_database")
    shared.empty()
    return shared


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    store = Store(database.address)
    yield store
    store.close()
