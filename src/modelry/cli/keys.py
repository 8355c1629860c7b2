"""`keys`: who may do what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modelry.cli.connection import connect
from modelry.cli.quantities import parse_seconds
from modelry.cli.screen import JsonOption, moment, print_json, print_table, say
from modelry.core.records import SCOPES, Key, KeyLimits

if TYPE_CHECKING:
    from modelry.client.secrets import NewKey

app = typer.Typer(help="API keys: make, rotate, revoke.", no_args_is_help=True)
IdArgument = Annotated[
    str, typer.Argument(metavar="KEY", help="The key's id, as `modelry keys list` shows it.")
]

LimitOption = Annotated[
    str | None, typer.Option(metavar="N", help="At most so many; `none` takes the limit away.")
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
    requests_per_second: Annotated[
        float | None, typer.Option(help="Requests a second at most.", metavar="N")
    ] = None,
    rows_per_second: Annotated[
        float | None, typer.Option(help="Rows (inputs) a second at most.", metavar="N")
    ] = None,
    requests_per_month: Annotated[
        int | None, typer.Option(help="Requests a calendar month (UTC) at most.", metavar="N")
    ] = None,
    rows_per_month: Annotated[
        int | None, typer.Option(help="Rows a calendar month (UTC) at most.", metavar="N")
    ] = None,
    burst: Annotated[
        str, typer.Option(help="How long a time's worth may come at once, such as 10s.")
    ] = "1s",
    as_json: JsonOption = False,
) -> None:
    """Make a key. Its text is printed once; nobody can read it again.

    \b
    Examples:
      modelry keys create --scope infer --label website
      modelry keys create --scope infer --requests-per-second 50 --rows-per-month 1000000
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
            limits=KeyLimits(
                requests_per_s=requests_per_second,
                rows_per_s=rows_per_second,
                burst_s=parse_seconds(burst),
                requests_per_month=requests_per_month,
                rows_per_month=rows_per_month,
            ),
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
        [
            key.id,
            key.label,
            key.project or "(all)",
            ",".join(key.scopes),
            show_limits(key.limits) or "none",
            _standing(key),
        ]
        for key in found
    ]
    print_table(["KEY", "LABEL", "PROJECT", "SCOPES", "LIMITS", "STANDING"], rows)


@app.command()
def limit(
    key: IdArgument,
    requests_per_second: LimitOption = None,
    rows_per_second: LimitOption = None,
    requests_per_month: LimitOption = None,
    rows_per_month: LimitOption = None,
    burst: Annotated[
        str | None, typer.Option(help="How long a time's worth may come at once, such as 10s.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change what a key may use; what is not named stays as it is. Holds everywhere within two seconds.

    \b
    Examples:
      modelry keys limit 4fZk2m9QpL7x --requests-per-second 20 --burst 10s
      modelry keys limit 4fZk2m9QpL7x --requests-per-month none
    """
    given = {
        "requests_per_s": requests_per_second,
        "rows_per_s": rows_per_second,
        "requests_per_month": requests_per_month,
        "rows_per_month": rows_per_month,
    }
    changes = {name: _limit(name, text) for name, text in given.items() if text is not None}
    if burst is not None:
        changes["burst_s"] = parse_seconds(burst)
    if not changes:
        raise typer.BadParameter("Name a limit to change, such as --requests-per-second 20.")
    with connect() as client:
        changed = client.keys.limit(key, **changes)
    if as_json:
        print_json(changed)
        return
    say(f"The key {key} may make {show_limits(changed.limits) or 'any number of requests'}.")


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


def show_limits(limits: KeyLimits) -> str:
    """`20 requests/s, 1,000 rows/month`; empty where there are none."""
    amounts = (
        (limits.requests_per_s, "requests/s"),
        (limits.rows_per_s, "rows/s"),
        (limits.requests_per_month, "requests/month"),
        (limits.rows_per_month, "rows/month"),
    )
    return ", ".join(f"{amount:,} {unit}" for amount, unit in amounts if amount is not None)


def _limit(name: str, text: str) -> float | None:
    if text.lower() == "none":
        return None
    try:
        return int(text) if name.endswith("_month") else float(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no number; write 20, or none.") from None


def _standing(key: Key) -> str:
    if key.revoked_at is not None:
        return f"revoked {moment(key.revoked_at)}"
    return f"until {moment(key.expires_at)}" if key.expires_at is not None else "valid"
