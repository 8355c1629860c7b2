"""The schema: what migrations make is what the tables say, and nothing is ever lost on the way."""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from modelry.core.errors import DatabaseTooNew, InvalidSetting
from modelry.server.store import Store, deployments, migrating, projects, routes
from modelry.server.store.database import open_engine, parse_address
from modelry.server.store.tables import metadata
from tests.contract.store.conftest import Database, SqliteDatabase


def engine_of(database: Database) -> sa.Engine:
    address = database.address.replace("postgresql://", "postgresql+psycopg://")
    return sa.create_engine(address)


def execute(database: Database, statement: str) -> None:
    engine = engine_of(database)
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def test_a_fresh_schema_is_what_the_tables_say(empty_database: Database) -> None:
    store = Store(empty_database.address)
    store.migrate()
    engine = engine_of(empty_database)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()
    store.close()


def test_the_first_migration_makes_the_default_project(store: Store) -> None:
    with store.read() as tx:
        assert [project.name for project in projects.list(tx)] == ["default"]
        assert routes.number(tx) == 0


def test_migrating_again_changes_and_copies_nothing(
    database: Database, store: Store, tmp_path: Path
) -> None:
    with store.write() as tx:
        projects.create(tx, "tenant")
    before = set(tmp_path.iterdir())
    store.migrate(tmp_path)
    assert set(tmp_path.iterdir()) == before
    with store.read() as tx:
        assert [project.name for project in projects.list(tx)] == ["default", "tenant"]


def test_two_services_that_start_at_once_migrate_once(empty_database: Database) -> None:
    stores = [Store(empty_database.address) for _ in range(4)]
    with ThreadPoolExecutor(len(stores)) as pool:
        list(pool.map(lambda store: store.migrate(), stores))
    with stores[0].read() as tx:
        assert len(projects.list(tx)) == 1
    for store in stores:
        store.close()


def test_a_database_of_a_later_version_is_refused_and_not_touched(
    empty_database: Database, tmp_path: Path
) -> None:
    database = empty_database
    database.migrate()
    execute(database, "UPDATE alembic_version SET version_num = '9999'")
    before = set(tmp_path.iterdir())
    store = Store(database.address)
    with pytest.raises(DatabaseTooNew, match="9999"):
        store.migrate()
    store.close()
    assert {path.suffix for path in set(tmp_path.iterdir()) - before} <= {".db-wal", ".db-shm"}


#: The newest of our own steps.
HEAD = ScriptDirectory.from_config(migrating._config(migrating.STEPS)).get_current_head()

LATER_STEP = f"""
import sqlalchemy as sa
from alembic import op

revision = "later"
down_revision = "{HEAD}"


def upgrade() -> None:
    op.add_column("projects", sa.Column("colour", sa.String()))
"""


@pytest.fixture
def later_steps(tmp_path: Path) -> Path:
    """Our migrations and one more, as a later version of Modelry has them."""
    folder = tmp_path / "steps"
    shutil.copytree(migrations_of(migrating), folder)
    (folder / "versions" / "r9999_later.py").write_text(LATER_STEP)
    return folder


def migrations_of(module: ModuleType) -> Path:
    return Path(str(module.__file__)).parent / "migrations"


def upgrade(database: Database, steps: Path, copies: Path) -> None:
    url = parse_address(database.address)
    engine = open_engine(url, 1.0)
    file = database.file if isinstance(database, SqliteDatabase) else None
    try:
        migrating.migrate(engine, database.kind, file=file, backup_folder=copies, steps=str(steps))
    finally:
        engine.dispose()


def test_a_later_version_migrates_and_the_earlier_one_then_refuses(
    empty_database: Database, later_steps: Path, tmp_path: Path
) -> None:
    database, store = empty_database, Store(empty_database.address)
    store.migrate()
    with store.write() as tx:
        projects.create(tx, "precious")
    upgrade(database, later_steps, tmp_path / "copies")
    execute(database, "UPDATE projects SET colour = 'red'")
    with store.read() as tx:
        assert projects.get(tx, "precious").name == "precious"
    with pytest.raises(DatabaseTooNew, match="later"):
        store.migrate()
    store.close()


def test_a_sqlite_file_is_copied_before_it_is_changed(tmp_path: Path, later_steps: Path) -> None:
    database = SqliteDatabase(tmp_path)
    copies = tmp_path / "copies"
    store = Store(database.address)
    store.migrate(copies)
    assert not copies.exists(), "there was nothing to copy yet"
    with store.write() as tx:
        projects.create(tx, "precious")
    upgrade(database, later_steps, copies)
    (copy,) = copies.iterdir()
    assert f"at-{HEAD}" in copy.name
    assert copy.stat().st_mode & 0o077 == 0
    restored = Store(f"sqlite:///{copy}")
    with restored.read() as tx:
        assert projects.find(tx, "precious") is not None
    restored.migrate()
    restored.close()
    store.close()


def test_a_step_that_fails_leaves_the_database_as_it_was(
    database: Database, store: Store, later_steps: Path, tmp_path: Path
) -> None:
    step = later_steps / "versions" / "r9999_later.py"
    step.write_text(LATER_STEP + "    raise ZeroDivisionError\n")
    with pytest.raises(ZeroDivisionError):
        upgrade(database, later_steps, tmp_path)
    engine = engine_of(database)
    columns = {column["name"] for column in sa.inspect(engine).get_columns("projects")}
    engine.dispose()
    assert "colour" not in columns
    store.migrate()


def test_a_new_database_file_belongs_to_its_owner_alone(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'deep' / 'er' / 'modelry.db'}")
    store.migrate()
    store.close()
    assert (tmp_path / "deep" / "er" / "modelry.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "address",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///x.db?timeout=9",
        "mysql://localhost/x",
        "no address",
        "",
    ],
)
def test_an_address_that_no_service_can_use_is_refused(address: str) -> None:
    with pytest.raises(InvalidSetting):
        Store(address)


def test_a_password_is_never_shown() -> None:
    assert "hunter2" not in repr(Store("postgresql://user:hunter2@localhost/x"))


def test_a_missing_driver_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InvalidSetting, match=r"modelry\[postgres\]"):
        Store("postgresql://user@localhost/x")


def test_deployments_of_the_first_schema_keep_what_they_meant(
    empty_database: Database, tmp_path: Path
) -> None:
    database, earlier = empty_database, tmp_path / "earlier"
    shutil.copytree(migrations_of(migrating), earlier)
    for step in (earlier / "versions").glob("r*.py"):
        if not step.name.startswith("r0001"):
            step.unlink()
    upgrade(database, earlier, tmp_path)
    execute(database, "INSERT INTO models VALUES ('m', (SELECT id FROM projects), 'digits', 0, 1)")
    execute(
        database,
        "INSERT INTO model_versions (id, model_id, version, manifest, files, size_bytes, created_at)"
        " VALUES ('v', 'm', 1, '{}', '[]', 0, 0)",
    )
    for name, replicas, wish in (("two", 2, "run"), ("none", 0, "run"), ("gone", 0, "delete")):
        execute(
            database,
            "INSERT INTO deployments (id, project_id, name, model_version_id, replicas, max_batch,"
            " threads, state, wish, created_at, updated_at) VALUES"
            f" ('{name}', (SELECT id FROM projects), '{name}', 'v', {replicas}, 32, 1, 'stopped',"
            f" '{wish}', 0, 0)",
        )
    store = Store(database.address)
    store.migrate(tmp_path / "copies")
    with store.read() as tx:
        two, none, gone = (deployments.get(tx, "default", n) for n in ("two", "none", "gone"))
    store.close()
    assert (two.replicas, two.min_replicas, two.max_replicas, two.wish) == (2, 2, 2, "run")
    assert (none.replicas, none.min_replicas, none.wish) == (0, 1, "stop")
    assert gone.wish == "delete"
    assert two.idle_s is None
    assert two.canary is None
