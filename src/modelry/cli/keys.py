"""`keys`: who may do what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modelry.cli.connection import connect
from modelry.cli.quantities import parse_seconds
from modelry.cli.screen import JsonOption, moment, print_json, print_table, say
from modelry.core.records import SCOPES, Key

if TYPE_CHECKING:
    from modelry.client.secrets import NewKey

app = typer.Typer(help="API keys: make, rotate, revoke.", no_args_is_help=True)
IdArgument = Annotated[
    str, typer.Argument(metavar="KEY", help="The key's id, as `modelry keys list` shows it.")
]


@app.command()
def create(
    scope: Annotated[
        list[str], typer.Option(help=f"What it may do; any number of times: {', '.join(SCOPES)}.")
    ],
    label: Annotated[str, typer.Option(help="Whose it is, for people.")] = "",
    project: Annotated[
        str | None, typer.Option(help="Its project. [default, or that of `modelry --project`]")
    ] = None,
    instance: Annotated[
        bool, typer.Option("--instance", help="For all projects (with the scope admin).")
    ] = False,
    expires: Annotated[str | None, typer.Option(help="Ends after, such as 30d.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key. Its text is printed once; nobody can read it again.

    \b
    Examples:
      modelry keys create --scope infer --label website
      modelry keys create --scope train --scope deploy --scope read --project vision --expires 90d
    """
    if instance and project is not None:
        raise typer.BadParameter("Give --project or --instance, not both.")
    with connect() as client:
        chosen = None if instance else project or client.address.project or "default"
        made = client.keys.create(
            label,
            scopes=scope,
            project=chosen,
            expires_in_s=None if expires is None else parse_seconds(expires),
        )
    _print_key(made, as_json)


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the keys, without their texts.

    \b
    Example:
      modelry keys list
    """
    with connect() as client:
        found = client.keys.list()
    if as_json:
        print_json(found)
        return
    rows = [
        [key.id, key.label, key.project or "(all)", ",".join(key.scopes), _standing(key)]
        for key in found
    ]
    print_table(["KEY", "LABEL", "PROJECT", "SCOPES", "STANDING"], rows)


@app.command()
def rotate(
    key: IdArgument,
    overlap: Annotated[
        str | None, typer.Option(help="How long the old one still works, such as 1h.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put a new key with the same rights in the place of one.

    \b
    Example:
      modelry keys rotate 4fZk2m9QpL7x --overlap 1h
    """
    with connect() as client:
        made = client.keys.rotate(
            key, overlap_s=None if overlap is None else parse_seconds(overlap)
        )
    _print_key(made, as_json)


@app.command()
def revoke(key: IdArgument) -> None:
    """End a key; it stops working everywhere within two seconds.

    \b
    Example:
      modelry keys revoke 4fZk2m9QpL7x
    """
    with connect() as client:
        client.keys.revoke(key)
    say(f"The key {key} is revoked.")


def _print_key(made: NewKey, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    print(made.text)
    where = f"the project {made.key.project}" if made.key.project else "all projects"
    say(f"Keep it safe: it is not shown again. It may {', '.join(made.key.scopes)} in {where}.")


def _standing(key: Key) -> str:
    if key.revoked_at is not None:
        return f"revoked {moment(key.revoked_at)}"
    return f"until {moment(key.expires_at)}" if key.expires_at is not None else "valid"
