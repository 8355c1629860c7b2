"""Brings a database to this version's schema. The steps are in `migrations/versions`, one file each, for ever.

A SQLite file is copied first. A database that a later Modelry wrote is refused, not touched.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, func, select

from modelry.core.errors import DatabaseTooNew, StorageFull, StoreUnavailable
from modelry.server.store.database import Kind, begin

#: Where our steps are; tests add steps of their own.
STEPS = "modelry.server.store:migrations"
#: Of PostgreSQL's advisory lock: two services that start at once migrate one after the other.
_LOCK = 0x6D6F64656C7279


def migrate(
    engine: Engine,
    kind: Kind,
    *,
    file: Path | None,
    backup_folder: Path | None,
    steps: str = STEPS,
) -> None:
    """From any known revision, or nothing, to the newest; does nothing where nothing is to be done.

    `file` is the SQLite file. All steps are one transaction: a step that fails leaves the database as it was.
    """
    config = _config(steps)
    script = ScriptDirectory.from_config(config)
    if file is not None:
        create_file(file)
    with begin(engine, kind, "read") as connection:
        revision = _known_revision(connection, script)
    if revision == script.get_current_head():
        return
    if file is not None and revision is not None:
        moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        folder = backup_folder or file.parent
        copy_file(engine, folder / f"{file.stem}-{moment}-at-{revision}.db")
    with begin(engine, kind, "write") as connection:
        if kind == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        _known_revision(connection, script)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def create_file(file: Path) -> None:
    """An empty database file for its owner only, if there is none."""
    with _said(file):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))


def copy_file(engine: Engine, target: Path) -> None:
    """A whole copy of a SQLite database in use, as one file; either all of it is there or nothing."""
    part = target.with_name(target.name + ".part")
    create_file(part)
    try:
        with _said(target):
            _copy_pages(engine, part)
            part.replace(target)
            _sync_folder(target.parent)
    finally:
        part.unlink(missing_ok=True)


def _copy_pages(engine: Engine, target: Path) -> None:
    copy = sqlite3.connect(target)
    try:
        copy.execute("PRAGMA synchronous=FULL")
        with begin(engine, "sqlite", "read") as connection:
            source = connection.connection.dbapi_connection
            assert isinstance(source, sqlite3.Connection)
            source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # no second file beside it
    finally:
        copy.close()


@contextmanager
def _said(file: Path) -> Iterator[None]:
    """Turns what a file system refuses into our errors."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        code = getattr(error, "errno", None) or getattr(error, "sqlite_errorcode", None)
        if code in (errno.ENOSPC, errno.EDQUOT, sqlite3.SQLITE_FULL):
            raise StorageFull(place=file.parent) from error
        raise StoreUnavailable(reason=f"{file}: {error}") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _config(steps: str) -> Config:
    config = Config()
    config.set_main_option("script_location", steps)
    config.set_main_option("path_separator", "os")
    return config


def _known_revision(connection: Connection, script: ScriptDirectory) -> str | None:
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is not None and revision not in {step.revision for step in script.walk_revisions()}:
        raise DatabaseTooNew(revision=revision)
    return revision
