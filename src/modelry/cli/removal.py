"""`rm`: what can be made can be removed; each noun's own `rm` comes here too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from modelry.cli.connection import connect
from modelry.cli.screen import print_error, say
from modelry.core.errors import ModelryError

if TYPE_CHECKING:
    from modelry.client import Client

Noun = Literal["data", "job", "model", "deployment", "key", "project"]
NamesArgument = Annotated[list[str], typer.Argument(metavar="NAME...", help="Which ones.")]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(rm)


def rm(
    noun: Annotated[Noun, typer.Argument(help=f"What: {', '.join(get_args(Noun))}.")],
    names: NamesArgument,
) -> None:
    """Remove things by name.

    What something else stands on is refused, with the list.

    \b
    Examples:
      modelry rm deployment digits
      modelry rm model mnist:1 mnist:2
      modelry rm data mnist
    """
    remove(noun, names)


def remove(noun: Noun, names: list[str]) -> None:
    """Removes each; one that cannot be removed does not keep the others."""
    failed = 0
    with connect() as client:
        delete = _verb(client, noun)
        for name in names:
            try:
                delete(name)
            except ModelryError as error:
                if error.retryable:
                    raise
                failed += 1
                print_error(error)
            else:
                say(f"{noun} {name} is removed.")
    if failed:
        raise typer.Exit(1)


def _verb(client: Client, noun: Noun) -> Callable[[str], None]:
    verbs: dict[Noun, Callable[[str], None]] = {
        "data": client.data.delete,
        "job": lambda name: client.jobs.get(name).delete(),
        "model": client.models.delete,
        "deployment": lambda name: client.deployments.get(name).delete(),
        "key": client.keys.revoke,
        "project": client.projects.delete,
    }
    return verbs[noun]
