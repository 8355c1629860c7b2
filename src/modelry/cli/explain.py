"""`explain`: why a deployment answered as it did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelry.cli.connection import connect
from modelry.cli.quantities import parse_settings
from modelry.cli.screen import JsonOption, PictureOption, print_facts, print_json, print_table, say

if TYPE_CHECKING:
    from modelry.client import Explanation

#: Columns of a table that are printed; `--json` has them all.
_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(explain)


def explain(
    name: Annotated[str, typer.Argument(help="The deployment's name.")],
    input: Annotated[
        str, typer.Argument(help="An image, or a .npy or .json file with one tensor.")
    ],
    method: Annotated[
        str | None,
        typer.Option(help="occlusion (pictures) or kernel-shap; the input decides if not given."),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Whose score is explained; the best one if not given.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the method, NAME=VALUE; any number of times."),
    ] = None,
    version: Annotated[int | None, typer.Option(help="Ask this version.")] = None,
    to: PictureOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what each part of an input gave to the score of its label.

    \b
    Examples:
      modelry explain digits seven.png --to why.png
      modelry explain digits seven.png --label 1 --set window=6
      modelry explain prices house.json --method kernel-shap
    """
    with connect() as client:
        found = client.explain(
            name,
            input,
            method=method,
            label=label,
            version=version,
            settings=parse_settings(settings or []),
        )
    if to is not None:
        from modelry.cli.pictures import draw_explanation

        draw_explanation(to, found)
    if as_json:
        print_json(_plain(found))
        return
    print_facts(_facts(found))
    if found.columns:
        ranked = list(zip(found.columns, found.attributions.tolist(), strict=True))
        print_table(
            ["COLUMN", "GAVE"], [[name, f"{value:+.4f}"] for name, value in ranked[:_SHOWN]]
        )
    say(f"Drawn: {to}" if to is not None else "Draw it with --to why.png")


def _facts(found: Explanation) -> list[tuple[str, Any]]:
    settings = ", ".join(f"{name}={value}" for name, value in found.parameters.items())
    facts: list[tuple[str, Any]] = [
        ("label", f"{found.label}  {found.score:.2%}"),
        ("with nothing there", f"{found.base:.2%}"),
        ("method", f"{found.method} ({settings})"),
        ("asked the model", f"{found.evaluations} times"),
        ("left unexplained", f"{found.residual:.4f}"),
    ]
    if not found.columns:
        speaks = found.attributions
        facts.insert(2, ("speaks for it", f"{speaks[speaks > 0].sum():+.4f}"))
        facts.insert(3, ("speaks against it", f"{speaks[speaks < 0].sum():+.4f}"))
    return facts


def _plain(found: Explanation) -> dict[str, Any]:
    return {
        "label": found.label,
        "score": found.score,
        "base": found.base,
        "method": found.method,
        "parameters": dict(found.parameters),
        "version": found.version,
        "evaluations": found.evaluations,
        "residual": found.residual,
        "columns": list(found.columns),
        "attributions": found.attributions.tolist(),
    }
