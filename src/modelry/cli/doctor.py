"""`doctor`: looks for what could keep the service from working, and tells the remedy."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from modelry.cli.connection import connect
from modelry.cli.quantities import show_bytes
from modelry.cli.screen import JsonOption, print_json, print_table, say
from modelry.core.errors import ModelryError, ServiceUnreachable

if TYPE_CHECKING:
    from modelry.core.settings import Settings

#: Less free space than this is worth a word.
_LOW_DISK_BYTES = 2 * 10**9
_LIBRARIES = {
    "onnxruntime": "serve models",
    "torch": "train",
    "pyarrow": "import data",
    "safetensors": "keep weights",
    "onnx": "publish models",
    "onnxscript": "publish models",
    "sklearn": "import the built-in digits",
    "matplotlib": "draw the pictures of the quickstart",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    #: `ok`, `note` (works, but) or `bad`.
    verdict: str
    found: str
    remedy: str = ""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(doctor)


def doctor(as_json: JsonOption = False) -> None:
    """Find what could keep the service from working.

    Looks at Python, disk, permissions, port, libraries and the service, and tells how to mend each.
    Ends with status 1 if something must be mended.

    \b
    Example:
      modelry doctor
    """
    findings = list(examine())
    if as_json:
        print_json(findings)
    else:
        print_table(
            ["", "CHECK", "FOUND"], [[item.verdict, item.subject, item.found] for item in findings]
        )
        for item in findings:
            if item.remedy:
                say(f"{item.subject}: {item.remedy}")
    if any(item.verdict == "bad" for item in findings):
        raise typer.Exit(1)


def examine() -> Iterator[Finding]:
    """All findings; a check that needs good settings is left out where they are bad."""
    from modelry.core.settings import load_settings

    yield check_python(sys.version_info[:3])
    try:
        settings = load_settings()
    except ModelryError as error:
        yield Finding("settings", "bad", error.message, error.remedy)
        return
    yield Finding("settings", "ok", f"home {settings.home}")
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        check_disk,
        check_permissions,
        check_libraries,
        check_service,
    )
    for check in checks:
        yield from check(settings)


def check_python(version: tuple[int, ...]) -> Finding:
    """3.11 or later."""
    text = ".".join(map(str, version))
    if version >= (3, 11):
        return Finding("python", "ok", text)
    return Finding("python", "bad", text, "Install Python 3.11 or later.")


def check_disk(settings: Settings) -> Iterator[Finding]:
    """Free space where the home is or will be."""
    place = settings.home
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free >= _LOW_DISK_BYTES:
        yield Finding("disk", "ok", f"{show_bytes(free)} free")
    else:
        yield Finding(
            "disk",
            "note",
            f"{show_bytes(free)} free",
            "Free some space: `modelry gc`, or remove old models and data sets.",
        )


def check_permissions(settings: Settings) -> Iterator[Finding]:
    """The home can be written, and its secrets are readable by the owner only."""
    home = settings.places
    if not home.root.exists():
        yield Finding("permissions", "ok", "the home will be made at the first start")
        return
    if not os.access(home.root, os.R_OK | os.W_OK | os.X_OK):
        yield Finding(
            "permissions",
            "bad",
            f"{home.root} cannot be written",
            f"Give it to yourself: chown -R $USER {home.root}",
        )
        return
    open_ones = [path for path in (home.secret, home.admin_key) if _is_open(path)]
    for path in open_ones:
        yield Finding("permissions", "bad", f"{path} can be read by others", f"chmod 600 {path}")
    if not open_ones:
        yield Finding("permissions", "ok", "home and secrets belong to you alone")


def check_libraries(settings: Settings) -> Iterator[Finding]:
    """Each library by name, without loading it."""
    for module, purpose in _LIBRARIES.items():
        if importlib.util.find_spec(module) is None:
            yield Finding(
                module, "bad", f"missing: cannot {purpose}", "pip install 'modelry[train]'"
            )
        else:
            distribution = {"sklearn": "scikit-learn"}.get(module, module)
            yield Finding(module, "ok", importlib.metadata.version(distribution))


def check_service(settings: Settings) -> Iterator[Finding]:
    """The service answers and takes the key; where none runs, its port is free."""
    try:
        with connect() as client:
            client.health()
            found = client.status()
            yield Finding("service", "ok", f"{client.address.url}, version {found['version']}")
    except ServiceUnreachable:
        yield Finding("service", "note", "none runs", "Start it with `modelry up`.")
        yield check_port(settings.host, settings.port)
        if settings.grpc:
            yield check_port(*settings.grpc_address, name="gRPC port", option="MODELRY_GRPC_PORT")
    except ModelryError as error:
        yield Finding("service", "bad", error.message, error.remedy)


def check_port(
    host: str,
    port: int,
    name: str = "port",
    option: str = "modelry up --port 9000, or MODELRY_PORT",
) -> Finding:
    """Whether the service could listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return Finding(
                name,
                "bad",
                f"{host}:{port}: {error.strerror}",
                f"Choose another: {option}.",
            )
    return Finding(name, "ok", f"{host}:{port} is free" if port else "a free one is picked")


def _is_open(path: Path) -> bool:
    return path.exists() and bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
