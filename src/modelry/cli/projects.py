"""`projects`: the tenants of one service."""

from __future__ import annotations

from typing import Annotated

import typer

from modelry.cli.connection import connect
from modelry.cli.removal import NamesArgument, remove
from modelry.cli.screen import JsonOption, moment, print_json, print_table, say

app = typer.Typer(help="Projects: each has its own data, models and keys.", no_args_is_help=True)


@app.command()
def create(name: Annotated[str, typer.Argument(help="Its name.")]) -> None:
    """Make a project.

    \b
    Example:
      modelry projects create vision
    """
    with connect() as client:
        project = client.projects.create(name)
    say(f"The project {project.name} is there; work in it with: modelry --project {project.name} …")


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List all projects.

    \b
    Example:
      modelry projects list
    """
    with connect() as client:
        found = client.projects.list()
    if as_json:
        print_json(found)
        return
    print_table(["NAME", "CREATED"], [[item.name, moment(item.created_at)] for item in found])


@app.command()
def rm(names: NamesArgument) -> None:
    """Remove empty projects; a full one is refused, with the list of what it holds.

    \b
    Example:
      modelry projects rm vision
    """
    remove("project", names)
