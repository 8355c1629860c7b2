"""`up`, `down` and `status`: the service as a whole."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from modelry.cli.connection import connect
from modelry.cli.quantities import show_bytes
from modelry.cli.screen import JsonOption, moment, print_facts, print_json, say
from modelry.core.errors import DeadlineExceeded, StartRefused
from modelry.core.home import Home

_SUPERVISOR = [sys.executable, "-m", "modelry.server.supervisor"]
#: How long `up --detach` waits for the first answer.
START_S = 60.0
#: How long `down` waits for checkpoints and drains.
STOP_S = 90.0


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(up)
    app.command()(down)
    app.command()(status)


def up(
    port: Annotated[int | None, typer.Option(help="The port; 0 picks a free one.")] = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    web: Annotated[int | None, typer.Option(help="Web processes.")] = None,
    home: Annotated[Path | None, typer.Option(help="The folder that holds everything.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key (PEM).")] = None,
    insecure_http: Annotated[
        bool, typer.Option("--insecure-http", help="Allow plain HTTP beyond this machine.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return as soon as it answers; `modelry down` ends it.")
    ] = False,
) -> None:
    """Start the service.

    Ctrl-C ends it after every running job has written a checkpoint; the next `up` goes on from there.

    Every other setting is a variable MODELRY_…; docs/reference/settings.md lists them.

    \b
    Examples:
      modelry up
      modelry up --port 9000 --home ./service
      modelry up --detach
    """
    given = {
        "PORT": port,
        "HOST": host,
        "WEB": web,
        "HOME": home,
        "TLS_CERT": tls_cert,
        "TLS_KEY": tls_key,
        "INSECURE_HTTP": insecure_http or None,
    }
    chosen = {f"MODELRY_{name}": str(value) for name, value in given.items() if value is not None}
    environment = {**os.environ, **chosen}
    if not detach:
        sys.stdout.flush()
        os.execve(_SUPERVISOR[0], _SUPERVISOR, environment)
    print(start_detached(environment))


def start_detached(environment: dict[str, str]) -> str:
    """Starts the service in the background and waits until it answers; what it said about itself."""
    from modelry.client.address import find_home

    home = find_home(environment)
    home.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = home.logs / "up.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            _SUPERVISOR,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_S
    while _read_service(home).get("pid") != process.pid:
        if process.poll() is not None:
            raise StartRefused(
                "The service did not start.",
                remedy="Mend what it says above and start it again.",
                detail=_tail(log),
            )
        if time.monotonic() > deadline:
            process.terminate()
            raise DeadlineExceeded(deadline_s=START_S, remedy=f"Look into {log}.")
        time.sleep(0.05)
    return _tail(log)


def down(
    home: Annotated[Path | None, typer.Option(help="The folder of the service.")] = None,
) -> None:
    """End the local service.

    Running jobs write a checkpoint and go on at the next `modelry up`.

    \b
    Example:
      modelry down
    """
    from modelry.client.address import find_home

    if home is not None:
        os.environ["MODELRY_HOME"] = str(home)
    place = find_home()
    if not is_running(place):
        say(f"No service runs on {place.root}.")
        return
    pid = _wait_for_pid(place)
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while is_running(place):
        if time.monotonic() > deadline:
            raise DeadlineExceeded(
                f"The service (process {pid}) has not ended within {STOP_S:g} s.",
                remedy="It may still be writing checkpoints; look again, or kill it: nothing is lost.",
            )
        time.sleep(0.05)
    say("The service has ended.")


def _wait_for_pid(home: Home) -> int:
    """The supervisor's process id; a service that is just starting has not written it down yet."""
    deadline = time.monotonic() + START_S
    while not isinstance(pid := _read_service(home).get("pid"), int):
        if time.monotonic() > deadline:
            raise DeadlineExceeded(deadline_s=START_S, remedy=f"Look into {home.logs}.")
        time.sleep(0.05)
    return pid


def is_running(home: Home) -> bool:
    """Whether a service holds this home: its lock file is locked for as long as it lives."""
    try:
        with home.service_lock.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def status(as_json: JsonOption = False) -> None:
    """Show what the service holds and does.

    \b
    Example:
      modelry status
    """
    with connect() as client:
        found = client.status()
        if as_json:
            print_json(found)
            return
        print_facts([("address", client.address.url), *_facts(found)])


def _facts(found: dict[str, Any]) -> list[tuple[str, Any]]:
    facts: list[tuple[str, Any]] = []
    for name, value in found.items():
        if isinstance(value, dict):
            parts = [f"{key.replace('_', ' ')} {_show(key, item)}" for key, item in value.items()]
            facts.append((name, ", ".join(parts)))
        elif isinstance(value, list):
            facts.append((name, len(value)))
        else:
            facts.append((name, _show(name, value)))
    return facts


def _show(name: str, value: Any) -> Any:
    if name.endswith("_bytes") and isinstance(value, int | float):
        return show_bytes(value)
    if name.endswith(("_at", "since")) and isinstance(value, int | float):
        return moment(value)
    return value


def _read_service(home: Home) -> dict[str, Any]:
    try:
        found = json.loads(home.service.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-4000:].rstrip()
