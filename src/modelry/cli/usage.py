"""`usage`: what was used, and by whom."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from modelry.cli.connection import connect
from modelry.cli.quantities import parse_seconds, show_bytes
from modelry.cli.screen import JsonOption, print_json, print_table
from modelry.core.records import USAGE_BY, Usage

#: Column → what it says of a record.
_NAMES = ("project", "key", "deployment", "model", "version", "day")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(usage)


def usage(
    by: Annotated[
        list[str] | None,
        typer.Option(help=f"Tell apart by; any number of times: {', '.join(USAGE_BY)}."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="From then on: a date (UTC), or how long ago, such as 7d.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Up to then, in the same way.")] = None,
    all_projects: Annotated[
        bool, typer.Option("--all-projects", help="Of every project (instance keys).")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show requests, rows, bytes and compute time of the project.

    \b
    Examples:
      modelry usage
      modelry usage --by key --by day --since 30d
      modelry usage --since 2026-11-01 --all-projects
    """
    with connect() as client:
        found = client.usage(
            by or ["deployment"],
            since=_moment(since),
            until=_moment(until),
            all_projects=all_projects,
        )
    if as_json:
        print_json(found)
        return
    names = [name for name in _NAMES if any(getattr(one, name) is not None for one in found)]
    columns = [*(name.upper() for name in names), *_AMOUNTS]
    rows = [[*(getattr(one, name) for name in names), *_amounts(one)] for one in found]
    print_table(columns, rows, empty="Nothing was used.")


_AMOUNTS = ("REQUESTS", "ERRORS", "ROWS", "IN", "OUT", "COMPUTE")


def _amounts(one: Usage) -> list[str]:
    return [
        f"{one.requests:,}",
        f"{one.errors:,}",
        f"{one.rows:,}",
        show_bytes(one.bytes_in),
        show_bytes(one.bytes_out),
        f"{one.compute_s:,.1f} s",
    ]


def _moment(text: str | None) -> float | None:
    """A date, a moment in ISO 8601 (UTC unless it says), or a length of time before now."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return time.time() - parse_seconds(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
