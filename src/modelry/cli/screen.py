"""What the commands print: tables and JSON on standard output, words for people on standard error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelry.core.errors import ModelryError

if TYPE_CHECKING:
    from rich.console import Console

#: Tables are not cut where nobody's window is the measure.
_ENDLESS = 10_000

#: Endings of pictures that can be drawn.
_PICTURES = (".png", ".svg", ".pdf")


def _check_picture(to: Path | None) -> Path | None:
    """Before the work: a picture that cannot be written would be noticed after it."""
    if to is not None and (to.suffix.lower() not in _PICTURES or not to.parent.is_dir()):
        raise typer.BadParameter(
            f"'{to}' cannot be drawn: name a file ending in .png, .svg or .pdf in a folder that is there."
        )
    return to


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
PictureOption = Annotated[
    Path | None,
    typer.Option(help="Draw it: a .png, .svg or .pdf file.", callback=_check_picture),
]


def out() -> Console:
    """Standard output."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _ENDLESS)


def say(text: str) -> None:
    """A sentence for people; programs that read standard output do not see it."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Records and plain values as indented JSON."""
    import msgspec

    print(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str = "") -> None:
    """Columns without frames, so that they can be cut and pasted; `empty` is said where there are none."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    if table.row_count or not empty:
        out().print(table)
    else:
        say(empty)


def print_facts(facts: Iterable[tuple[str, Any]]) -> None:
    """One `name  value` a line."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in facts:
        if value is not None and value != "":
            table.add_row(name, Text(str(value)))
    out().print(table)


def print_error(error: ModelryError) -> None:
    """The sentence, the last words of what broke, and the remedy."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text("Error: ", style="bold red") + Text(error.message, style="default"))
    detail = str(error.facts.get("detail") or "").rstrip()
    if detail:
        console.print(Text(detail, style="dim"))
    if error.remedy:
        console.print(Text(error.remedy))


def moment(at: float | None) -> str:
    """A time in the reader's own zone."""
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
