"""One transaction, as the functions of this package take it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVarTuple, overload

from sqlalchemy import (
    Connection,
    Delete,
    Executable,
    Result,
    Select,
    Table,
    Update,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError
from sqlalchemy.sql.dml import ReturningUpdate

from modelry.core.errors import InvalidRequest
from modelry.server.store.database import Kind, Mode, clock
from modelry.server.store.tables import counters, deployments

#: The counter that grows with every change of routes or keys.
ROUTES = "routes"
#: The routes number of the last deployment that was removed.
REMOVALS = "removals"

Ts = TypeVarTuple("Ts")
Values = Mapping[str, Any]


class Transaction:
    """Everything done through it happens, or nothing does. It lives as long as its `with` block."""

    def __init__(self, connection: Connection, kind: Kind, mode: Mode) -> None:
        self._connection = connection
        self._kind = kind
        self._mode = mode
        self._routes_changed = False
        self._touched: set[str] = set()
        self._removed = False

    def now(self) -> float:
        """The database's clock when this transaction first asked; one moment for all its rows."""
        return self._now

    @cached_property
    def _now(self) -> float:
        return float(self._connection.execute(select(clock())).scalar_one())

    @overload
    def execute(self, statement: Select[*Ts]) -> Result[*Ts]: ...
    @overload
    def execute(self, statement: Executable) -> Result[*tuple[Any, ...]]: ...
    def execute(self, statement: Executable) -> Result[*tuple[Any, ...]]:
        """The rows of a statement; raises `InvalidRequest` for values that no database can hold."""
        with _holdable():
            return self._connection.execute(statement)

    def held(self, statement: Select[*Ts], table: Table) -> Result[*Ts]:
        """The rows of a statement; a writer keeps those of `table` from being deleted until it ends."""
        if self._mode == "write":
            statement = statement.with_for_update(read=True, key_share=True, of=table)
        with _holdable():
            return self._connection.execute(statement)

    def change(self, statement: Update | Delete) -> int:
        """How many rows a statement changed: 0 where a guard in its WHERE did not hold."""
        with _holdable():
            return self._connection.execute(statement).rowcount

    def insert(self, table: Table, values: Values) -> None:
        """A row that cannot be there yet."""
        with _holdable():
            self._connection.execute(insert(table).values(**values))

    def insert_all(self, table: Table, rows: Sequence[Values]) -> None:
        """Many rows in one call."""
        if rows:
            self._connection.execute(insert(table), rows)

    def insert_new(self, table: Table, values: Values) -> bool:
        """A row, unless one with the same key or name is there (or is just being made): then False."""
        make = sqlite.insert if self._kind == "sqlite" else postgresql.insert
        statement = make(table).values(**values).on_conflict_do_nothing()
        key = next(iter(table.primary_key))
        with _holdable():
            return self._connection.execute(statement.returning(key)).first() is not None

    def upsert_all(self, table: Table, rows: Sequence[Values]) -> None:
        """Many rows, each in place of the one with its primary key."""
        if not rows:
            return
        make = sqlite.insert if self._kind == "sqlite" else postgresql.insert
        statement = make(table)
        key = [column.name for column in table.primary_key]
        rest = {name: statement.excluded[name] for name in rows[0] if name not in key}
        self._connection.execute(
            statement.on_conflict_do_update(index_elements=key, set_=rest), rows
        )

    def add_all(self, table: Table, rows: Sequence[Values], sums: Sequence[str]) -> None:
        """Many rows; where one with the primary key is there, these of its columns grow and the others are replaced."""
        if not rows:
            return
        make = sqlite.insert if self._kind == "sqlite" else postgresql.insert
        statement = make(table)
        key = [column.name for column in table.primary_key]
        rest = {
            name: table.c[name] + statement.excluded[name]
            if name in sums
            else statement.excluded[name]
            for name in rows[0]
            if name not in key
        }
        self._connection.execute(
            statement.on_conflict_do_update(index_elements=key, set_=rest), rows
        )

    def change_routes(self, *deployment_ids: str, removed: bool = False) -> None:
        """Asks for a new routes number, and that these deployments carry it as that of their last change.

        It is given once, last: a row that all wait for is held shortest.
        """
        self._routes_changed = True
        self._touched.update(deployment_ids)
        self._removed |= removed

    def flush(self) -> None:
        """Writes what was put off to the end."""
        if not self._routes_changed:
            return
        mine = deployments.c.id.in_(sorted(self._touched))
        if self._touched and self._kind == "postgresql":
            # Deployments are locked before the counter, never after: two writers cannot wait for each other.
            held = select(deployments.c.id).where(mine).order_by(deployments.c.id)
            self.execute(held.with_for_update(key_share=True)).all()
        number = self.execute(_counted(ROUTES, counters.c.value + 1)).scalar_one()
        if self._touched:
            self.change(update(deployments).where(mine).values(changed=number))
        if self._removed:
            self.execute(_counted(REMOVALS, number))
        self._routes_changed, self._removed = False, False
        self._touched.clear()


def _counted(name: str, value: Any) -> ReturningUpdate[tuple[int]]:
    """The counter's new value, written."""
    mine = counters.c.name == name
    return update(counters).where(mine).values(value=value).returning(counters.c.value)


@contextmanager
def _holdable() -> Iterator[None]:
    """NUL and halves of characters in texts, and numbers of more than 64 bits, come from outside: no bug of ours."""
    try:
        yield
    except (DataError, OverflowError, UnicodeEncodeError) as error:
        reason = "it holds a text or a number that the database cannot keep"
        raise InvalidRequest(reason=reason) from error
