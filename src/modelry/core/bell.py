"""The bell wakes the loops of other processes on this machine: a Unix datagram to every listener.

It carries no meaning beyond "look again" and may be lost: every loop also looks by itself from time to time.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import socket
from pathlib import Path
from types import TracebackType

from modelry.core.durable import make_private

_RING = b"!"


class Bell:
    """All listeners of one home; `folder` is `bells` under `Home.sockets`."""

    def __init__(self, folder: Path, enabled: bool = True) -> None:
        self.folder = folder
        #: A bell that is off rings nobody, and its listeners hear nothing: loops live by their polls.
        self.enabled = enabled

    def ring(self) -> None:
        """Wake every listener. Never blocks, never raises; sockets that nobody reads any more are removed."""
        if not self.enabled:
            return
        with contextlib.suppress(OSError), _datagram_socket() as sender:
            for name in os.listdir(self.folder):
                _send(sender, self.folder / name)

    def listen(self, name: str) -> Listener:
        """A new listener; the name is for people who look into the folder."""
        ear = _datagram_socket()
        if not self.enabled:
            return Listener(ear, None)
        make_private(self.folder)
        # Never an old name again: whoever rings may be about to remove a dead socket that had it.
        path = self.folder / f"{name[:16]}-{secrets.token_hex(4)}"
        try:
            ear.bind(os.fspath(path))
        except BaseException:
            ear.close()
            raise
        return Listener(ear, path)


class Listener:
    """One process's ear. Works with `select`, and with an event loop's `add_reader` (then call `clear`)."""

    def __init__(self, ear: socket.socket, path: Path | None) -> None:
        self._ear = ear
        self._path = path

    def fileno(self) -> int:
        """Readable while a ring has not been cleared."""
        return self._ear.fileno()

    def wait(self, timeout_s: float) -> bool:
        """Sleep until somebody rings (True) or the time is over (False); rings until now are then cleared."""
        ready, _, _ = select.select([self._ear], [], [], max(0.0, timeout_s))
        self.clear()
        return bool(ready)

    def clear(self) -> None:
        """Forget all rings until now."""
        with contextlib.suppress(OSError):
            while self._ear.recv(16):
                pass

    def close(self) -> None:
        """Listen no more."""
        self._ear.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _datagram_socket() -> socket.socket:
    found = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    found.setblocking(False)
    return found


def _send(sender: socket.socket, path: Path) -> None:
    try:
        sender.sendto(_RING, os.fspath(path))
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
    except OSError:
        # A full queue has been rung already; a socket that has just gone needs no ring.
        return
