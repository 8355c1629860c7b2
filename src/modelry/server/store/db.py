"""The store: the database as the rest of the service sees it. What is in it is in the modules beside this one.

    with store.read() as tx:          one moment of the database
    with store.write() as tx:         a change that anybody may make
    with store.lead(epoch) as tx:     a change that only the leading controller may make

A block commits at its end and rolls back when it raises. It holds locks, so nothing slow happens inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import select

from modelry.core.errors import InvalidRequest, ModelryError
from modelry.server.store import leases, migrating
from modelry.server.store.database import Kind, Mode, begin, kind_of, open_engine, parse_address
from modelry.server.store.notify import Listener, Silence, listen, send
from modelry.server.store.tables import counters
from modelry.server.store.transaction import Transaction

#: How long a transaction waits for another's lock.
BUSY_TIMEOUT_S = 5.0


class Store:
    """One database; it connects when first used and may be shared by threads."""

    def __init__(self, address: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self._url = parse_address(address)
        self.kind: Kind = kind_of(self._url)
        self._engine = open_engine(self._url, busy_timeout_s)

    def __repr__(self) -> str:
        return f"Store({self._url.render_as_string(hide_password=True)})"

    def migrate(self, backup_folder: Path | None = None) -> None:
        """Makes the schema this version's. A SQLite file is copied first, beside itself unless told where.

        Raises `DatabaseTooNew` for a database of a later version.
        """
        migrating.migrate(self._engine, self.kind, file=self._file, backup_folder=backup_folder)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A transaction that sees one moment and can write nothing."""
        with self._begin("read") as tx:
            yield tx

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that may write, whoever leads."""
        with self._begin("write") as tx:
            yield tx

    @contextmanager
    def lead(self, epoch: int, lease: str = leases.CONTROLLER) -> Iterator[Transaction]:
        """A transaction of the leader; raises `StaleEpoch`, and changes nothing, once another epoch leads."""
        with self._begin("write") as tx:
            leases.check(tx, lease, epoch)
            yield tx
            leases.check(tx, lease, epoch)

    @contextmanager
    def _begin(self, mode: Mode) -> Iterator[Transaction]:
        with begin(self._engine, self.kind, mode) as connection:
            tx = Transaction(connection, self.kind, mode)
            yield tx
            tx.flush()

    def acquire_lease(self, name: str, holder: str, duration_s: float) -> int | None:
        """The epoch to lead with, or None while another holder leads."""
        with self.write() as tx:
            return leases.acquire(tx, name, holder, duration_s)

    def renew_lease(self, name: str, holder: str, epoch: int, duration_s: float) -> bool:
        """Leads on; False when the lease ran out or was taken: then stop leading at once."""
        with self.write() as tx:
            return leases.renew(tx, name, holder, epoch, duration_s)

    def release_lease(self, name: str, holder: str, epoch: int) -> None:
        """Gives the lease back before its time."""
        with self.write() as tx:
            leases.release(tx, name, holder, epoch)

    def notify(self) -> None:
        """Wakes listeners on all machines; call it after a commit that others wait for. Never raises."""
        send(self._engine, self.kind)

    def listen(self, callback: Callable[[], None]) -> Listener | Silence:
        """Calls back, from a thread, when something may have changed, until the answer's `stop()`."""
        return listen(self._url, self.kind, callback)

    def is_answering(self) -> bool:
        """Whether the database can be read now and has our tables."""
        try:
            with self.read() as tx:
                tx.execute(select(counters.c.value)).all()
        except ModelryError:
            return False
        return True

    def backup(self, path: Path) -> None:
        """A copy of the whole database as one file, made while the service runs. SQLite only."""
        if self.kind != "sqlite":
            raise InvalidRequest(
                reason="Modelry copies SQLite databases only, and this one is PostgreSQL",
                remedy="Use pg_dump for the database, and copy the artifacts beside it.",
            )
        migrating.copy_file(self._engine, path)

    def close(self) -> None:
        """Closes all connections; the store may be used again afterwards."""
        self._engine.dispose()

    @property
    def _file(self) -> Path | None:
        return Path(str(self._url.database)) if self.kind == "sqlite" else None
