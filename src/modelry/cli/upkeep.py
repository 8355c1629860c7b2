"""`gc`, `backup` and `restore`: the service's own housekeeping."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from modelry.cli.connection import connect
from modelry.cli.quantities import parse_seconds, show_bytes
from modelry.cli.screen import JsonOption, print_json, say

_BACKUP = "modelry.server.control.backup"


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(gc)
    app.command()(backup)
    app.command()(restore)


def gc(
    grace: Annotated[
        str | None,
        typer.Option(help="Keep what is younger, such as 0 or 2h. [MODELRY_GC_GRACE_S]"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Remove content that nothing names any more.

    \b
    Examples:
      modelry gc
      modelry gc --grace 0
    """
    with connect() as client:
        swept = client.gc(None if grace is None else parse_seconds(grace))
    if as_json:
        print_json(swept)
        return
    freed = show_bytes(swept["freed_bytes"])
    say(f"{swept['removed']} files removed, {freed} freed; {swept['kept']} kept.")


def backup(file: Annotated[Path, typer.Argument(help="The archive to write.")]) -> None:
    """Write the local home into one archive.

    It holds database, content and secrets; the service may run meanwhile.

    \b
    Example:
      modelry backup modelry-backup.tar
    """
    _run("create", file)


def restore(file: Annotated[Path, typer.Argument(help="An archive that `backup` wrote.")]) -> None:
    """Fill an empty home from an archive.

    The home is MODELRY_HOME; no service may run on it.

    \b
    Example:
      modelry --home ./restored restore modelry-backup.tar
    """
    _run("restore", file)


def _run(verb: str, file: Path) -> None:
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", _BACKUP, verb, str(file)])
