"""Where everything lies under `MODELRY_HOME`. Knows paths, reads nothing."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

#: Linux takes 107 bytes for a Unix socket's path.
_SOCKET_PATH_LIMIT = 100
_LONGEST_SOCKET_NAME = 48


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one service."""

    root: Path

    @property
    def database(self) -> Path:
        return self.root / "modelry.db"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def run(self) -> Path:
        """One folder per worker, and the agent's own files."""
        return self.root / "run"

    @property
    def counters(self) -> Path:
        """The tables of the web processes: what each has counted."""
        return self.run / "counters"

    @property
    def usage(self) -> Path:
        """The journals of the web processes: what was used and is not in the database yet."""
        return self.run / "usage"

    @property
    def logs(self) -> Path:
        """Standard error of the service's own processes."""
        return self.root / "logs"

    @property
    def secret(self) -> Path:
        """The key of all HMACs, 32 bytes, readable by the owner only."""
        return self.root / "secret"

    @property
    def admin_key(self) -> Path:
        return self.root / "admin.key"

    @property
    def service(self) -> Path:
        """`service.json`: address and process id of the running service, for clients on this machine."""
        return self.root / "service.json"

    @property
    def service_lock(self) -> Path:
        """Locked for as long as a service lives on this home."""
        return self.root / "service.lock"

    def worker(self, worker_id: str) -> Path:
        """A worker's folder: `spec.json, lock, events.jsonl, stop, outcome.json, output.log`."""
        return self.run / worker_id

    @property
    def sockets(self) -> Path:
        """Where Unix sockets lie: below `run`, or a short private folder where that path is too long."""
        preferred = self.run / "sockets"
        if len(os.fsencode(preferred)) + _LONGEST_SOCKET_NAME < _SOCKET_PATH_LIMIT:
            return preferred
        mark = hashlib.sha256(os.fsencode(self.root.absolute())).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"modelry-{os.getuid()}-{mark}"
