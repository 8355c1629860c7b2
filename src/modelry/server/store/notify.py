"""Waking other machines: PostgreSQL's LISTEN and NOTIFY. Processes on one machine ring `core/bell.py` instead.

A notice says only that something changed. It may be lost (a broken connection), so every loop polls as well; that
is also why sending never fails and SQLite, which has no such thing, needs none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import URL, Engine, text

from modelry.core.errors import ModelryError
from modelry.server.store.database import Kind, begin

if TYPE_CHECKING:
    import psycopg

CHANNEL = "modelry"
#: The longest that `Listener.stop` waits for the thread.
_WAIT_S = 0.5
#: Between two tries to connect again.
_RETRY_S = 1.0


def send(engine: Engine, kind: Kind) -> None:
    """Wakes all listeners; to be called after the commit that matters."""
    if kind == "sqlite":
        return
    try:
        with begin(engine, kind, "write") as connection:
            connection.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})
    except ModelryError:
        return  # the poll is the safety net


class Listener:
    """A thread that calls back after each notice, and once after each (new) connection."""

    def __init__(self, url: URL, callback: Callable[[], None]) -> None:
        self._address = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._callback = callback
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="modelry-listen", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; no call comes after."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        import psycopg

        while not self._stopped.is_set():
            try:
                with psycopg.connect(
                    self._address, autocommit=True, connect_timeout=2
                ) as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    self._callback()
                    self._hear(connection)
            except psycopg.Error:
                self._stopped.wait(_RETRY_S)

    def _hear(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        while not self._stopped.is_set():
            for _ in connection.notifies(timeout=_WAIT_S, stop_after=1):
                self._callback()


class Silence:
    """The listener of a database that sends no notices."""

    def stop(self) -> None:
        """Nothing to end."""


def listen(url: URL, kind: Kind, callback: Callable[[], None]) -> Listener | Silence:
    """Calls back, from a thread of its own, whenever something may have changed."""
    return Silence() if kind == "sqlite" else Listener(url, callback)
