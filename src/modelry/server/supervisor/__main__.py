"""`python -m modelry.server.supervisor`, which is `modelry up`: start the service and stay until it ends.

Settings come from the environment (`MODELRY_…`).
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

if __name__ == "__main__":
    # Until there is something to end in order, Ctrl-C simply ends; the imports below take a second.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from modelry.core.durable import make_private, take_lock
from modelry.core.errors import AlreadyRunning, InvalidSetting, ModelryError, StartRefused
from modelry.core.home import Home
from modelry.core.settings import Settings, load_settings
from modelry.server.control.access import ensure_admin_key
from modelry.server.store import Store
from modelry.server.supervisor.door import check_address, listen, share
from modelry.server.supervisor.service import Service

#: How long the web processes of a service that was killed may take to leave the port.
_LEAVING_S = 10.0
#: SQLite's limit is 512, its journals' longer names included.
_LONGEST_DATABASE_PATH = 500


def main() -> int:
    """Start the service; the exit status, 2 where it does not start."""
    try:
        settings = load_settings()
        warning = check_address(settings)
        if warning is not None:
            say(f"Warning: {warning}")
        start(settings)
    except ModelryError as error:
        print(f"{error.message}\n{error.remedy}".rstrip(), file=sys.stderr, flush=True)
        return 2
    return 0


def start(settings: Settings) -> None:
    """Own the home, prepare it, and run the service on it until a signal ends it."""
    home = settings.places
    _check_path(settings)
    _make_folders(home)
    _check_access(home)
    lock_fd, was_killed = own(home.service_lock, home.root)
    home.service.unlink(missing_ok=True)
    patience_s = _LEAVING_S if was_killed else 0.0
    with ExitStack() as open_sockets:
        door = open_sockets.enter_context(listen(settings.host, settings.port, patience_s))
        grpc_doors = []
        if settings.grpc:
            grpc_doors = share(*settings.grpc_address, settings.web, patience_s)
        for one in grpc_doors:
            open_sockets.enter_context(one)
        store = Store(settings.database_address)
        store.migrate()
        ensure_admin_key(store, settings)
        store.close()
        Service(settings, door, grpc_doors, say).run()
    os.ftruncate(lock_fd, 0)
    os.close(lock_fd)


def _check_path(settings: Settings) -> None:
    """Raises `InvalidSetting` for a home whose path SQLite cannot take."""
    path = os.fsencode(settings.places.database)
    reason = None
    if settings.database_address.startswith("sqlite") and len(path) > _LONGEST_DATABASE_PATH:
        reason = (
            f"its path has {len(path)} bytes, and a SQLite file's may have {_LONGEST_DATABASE_PATH}"
        )
    try:
        path.decode()
    except UnicodeDecodeError:
        reason = "its path is not UTF-8"
    if str(settings.home).encode(errors="replace").decode() != str(settings.home):
        reason = "its path cannot be read in this locale; set LC_ALL to a UTF-8 one"
    if reason is not None:
        raise InvalidSetting(name="MODELRY_HOME", value=os.fsdecode(path[:80]), reason=reason)


def _make_folders(home: Home) -> None:
    """The home is the user's own choice and its mode is his; what lies in it is private."""
    try:
        home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (home.run, home.logs, home.blobs, home.sockets, home.sockets / "bells"):
            make_private(folder)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InvalidSetting(name="MODELRY_HOME", value=str(home.root), reason=reason) from error


def _check_access(home: Home) -> None:
    """Raises `StartRefused` for files of another user, before each process meets them in turn."""
    kept = (home.service_lock, home.database, home.secret, home.admin_key)
    for file in (*kept, home.run / "agent.lock", home.run / "epoch"):
        if file.exists() and not os.access(file, os.R_OK | os.W_OK):
            raise StartRefused(
                f"'{file}' cannot be read and written by this user.",
                remedy="Give the whole home to this user (chown -R), or choose another MODELRY_HOME.",
            )


def own(lock: Path, home_root: Path) -> tuple[int, bool]:
    """The home's lock, and whether the service that had it before ended without its orderly end.

    Raises `AlreadyRunning` while another service lives on the home. The file holds the owner's number until then.
    """
    lock_fd = take_lock(lock)
    if lock_fd is None:
        raise AlreadyRunning(home=home_root, pid=lock.read_text().strip() or "unknown")
    was_killed = os.fstat(lock_fd).st_size > 0
    os.ftruncate(lock_fd, 0)
    os.pwrite(lock_fd, str(os.getpid()).encode(), 0)
    return lock_fd, was_killed


def say(line: str) -> None:
    """Tell the person at the terminal."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
