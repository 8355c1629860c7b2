"""The engine: how a connection to SQLite or PostgreSQL is opened, how a transaction begins, whose clock counts.

Every trouble of the database itself leaves here as `StoreUnavailable` or `StorageFull`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Double

from modelry.core.errors import (
    Conflict,
    InternalError,
    InvalidSetting,
    StorageFull,
    StoreUnavailable,
)

Kind = Literal["sqlite", "postgresql"]
Mode = Literal["read", "write"]

#: Connections beyond the five that are kept; a process has fewer threads than this.
_OVERFLOW = 60
#: PostgreSQL ends the transaction of a process that stopped in the middle of it (SIGSTOP, a dead network).
_IDLE_IN_TRANSACTION_S = 10.0


class clock(FunctionElement[float]):
    """The database's clock as seconds since the epoch; never a client's, which may be wrong."""

    type = Double()
    inherit_cache = True


@compiles(clock, "sqlite")
def _sqlite_clock(element: clock, compiler: SQLCompiler, **options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(clock, "postgresql")
def _postgresql_clock(element: clock, compiler: SQLCompiler, **options: Any) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


def kind_of(url: URL) -> Kind:
    """Which of the two databases an address names; raises `InvalidSetting` for any other."""
    name = url.get_backend_name()
    if name == "sqlite" and url.database and url.database != ":memory:" and not url.query:
        return "sqlite"
    if name == "postgresql":
        return "postgresql"
    raise InvalidSetting(
        name="MODELRY_DATABASE_URL",
        value=url.render_as_string(hide_password=True),
        reason="it must name a SQLite file (sqlite:///…) or a PostgreSQL database (postgresql://…)",
    )


def parse_address(address: str) -> URL:
    """The address as SQLAlchemy's URL; raises `InvalidSetting`."""
    try:
        return make_url(address)
    except exc.ArgumentError:
        raise InvalidSetting(
            name="MODELRY_DATABASE_URL", value="***", reason="it is not the address of a database"
        ) from None


def open_engine(url: URL, busy_timeout_s: float) -> Engine:
    """An engine that connects lazily; a lock is waited for at most `busy_timeout_s`."""
    if kind_of(url) == "sqlite":
        return _sqlite_engine(Path(str(url.database)), busy_timeout_s)
    try:
        return _postgresql_engine(url, busy_timeout_s)
    except ImportError as error:
        raise InvalidSetting(
            name="MODELRY_DATABASE_URL",
            value=url.render_as_string(hide_password=True),
            reason="the driver for PostgreSQL is not installed",
            remedy="Install it: pip install 'modelry[postgres]'.",
        ) from error


def _sqlite_engine(file: Path, busy_timeout_s: float) -> Engine:
    # mode=rw: a file that is gone is an error, never a new empty database.
    address = f"file:{quote(str(file.absolute()))}?mode=rw"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            address, uri=True, timeout=busy_timeout_s, check_same_thread=False, isolation_level=None
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    engine = create_engine(
        "sqlite+pysqlite://",
        creator=connect,
        poolclass=QueuePool,
        max_overflow=_OVERFLOW,
        pool_timeout=busy_timeout_s,
    )
    event.listen(engine, "begin", _begin_sqlite)
    event.listen(engine, "connect", lambda _, entry: entry.info.update(file=_identity(file)))

    @event.listens_for(engine, "checkout")
    def _is_still_the_file(connection: object, entry: ConnectionPoolEntry, proxy: object) -> None:
        # An open descriptor outlives its file: without this, rows would go into a deleted one.
        if entry.info["file"] != _identity(file):
            raise exc.DisconnectionError("the database file was moved, removed or replaced")

    return engine


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _begin_sqlite(connection: Connection) -> None:
    is_write = connection.get_execution_options().get("modelry_mode") == "write"
    connection.exec_driver_sql(f"PRAGMA query_only={'OFF' if is_write else 'ON'}")
    # A deferred transaction that turns writer is refused at once, whatever the timeout; so ask for the lock now.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")


def _postgresql_engine(url: URL, busy_timeout_s: float) -> Engine:
    limits = {
        "lock_timeout": busy_timeout_s,
        "idle_in_transaction_session_timeout": _IDLE_IN_TRANSACTION_S,
    }
    options = " ".join(f"-c {name}={round(value * 1000)}" for name, value in limits.items())
    given = url.query.get("options")
    return create_engine(
        url.set(drivername="postgresql+psycopg").difference_update_query(["options"]),
        connect_args={
            "options": f"{given} {options}" if isinstance(given, str) else options,
            "connect_timeout": max(2, round(busy_timeout_s)),
            "application_name": "modelry",
        },
        pool_pre_ping=True,
        max_overflow=_OVERFLOW,
        pool_timeout=busy_timeout_s,
    )


@contextmanager
def begin(engine: Engine, kind: Kind, mode: Mode) -> Iterator[Connection]:
    """One transaction: committed at the end of the block, rolled back when it raises.

    A reader sees one moment of the database and can write nothing.
    """
    options: dict[str, Any] = {"modelry_mode": mode}
    if kind == "postgresql" and mode == "read":
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with (
        translated(),
        _connect(engine).execution_options(**options) as connection,
        connection.begin(),
    ):
        yield connection


def _connect(engine: Engine) -> Connection:
    try:
        return engine.connect()
    except (exc.TimeoutError, exc.InvalidRequestError) as error:  # none free, or none that holds
        raise StoreUnavailable(reason=_first_line(error)) from error


@contextmanager
def translated() -> Iterator[None]:
    """Turns the database's troubles into ours; bad SQL and a missing value stay what they are: bugs."""
    try:
        yield
    except exc.DBAPIError as error:
        ours = _translation(error)
        if ours is None:
            raise
        raise ours from error


#: The disk is full: SQLite's code and PostgreSQL's SQLSTATE.
_FULL = (sqlite3.SQLITE_FULL, "53100")
#: A write inside `read()`: our mistake.
_READ_ONLY = (sqlite3.SQLITE_READONLY, "25006")
#: A name taken or a row removed by somebody else in the same moment.
_CROSSED = (
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY,
    sqlite3.SQLITE_CONSTRAINT_UNIQUE,
    "23503",
    "23505",
)
#: PostgreSQL calls a missing table the program's mistake; here it is a database that is not ours (yet).
_MISSING = ("42P01", "3F000")


def _translation(error: exc.DBAPIError) -> Exception | None:
    cause = error.orig
    mark = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorcode", None)
    if mark in _CROSSED:
        return Conflict(
            "Somebody else changed the same thing in the same moment.",
            remedy="Nothing was changed; look again, then repeat the call.",
        )
    if isinstance(mark, int):
        mark &= 0xFF  # SQLite's extended codes keep the plain one in the low byte
    if mark in _FULL:
        return StorageFull(place="the database")
    if mark in _READ_ONLY:
        return InternalError(reason=f"a write in a reading transaction ({_first_line(cause)})")
    is_own_trouble = isinstance(error, exc.OperationalError | exc.InterfaceError)
    if is_own_trouble or mark in _MISSING or type(error) is exc.DatabaseError:
        return StoreUnavailable(reason=_first_line(cause))
    return None


def _first_line(error: BaseException | None) -> str:
    return next(iter(str(error).strip().splitlines()), "no reason given")
