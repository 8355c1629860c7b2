"""`recipes`: what can be trained, and every parameter."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from modelry.cli.connection import connect
from modelry.cli.screen import JsonOption, print_facts, print_json, print_table, say
from modelry.core.errors import NotFound


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(recipes)


def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this recipe's parameters.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the recipes, or one recipe's parameters.

    \b
    Examples:
      modelry recipes
      modelry recipes cnn
    """
    with connect() as client:
        cards = client.recipes()
    if name is not None:
        cards = [card for card in cards if card["name"] == name]
        if not cards:
            raise NotFound(noun="recipe", name=name, remedy="`modelry recipes` lists them.")
    if as_json:
        print_json(cards)
    elif name is None:
        print_table(["RECIPE", "TASK", "WHAT IT IS"], [_row(card) for card in cards])
        say("`modelry recipes NAME` lists the parameters of one.")
    else:
        _print_card(cards[0])


def _row(card: dict[str, Any]) -> list[Any]:
    return [card["name"], card["task"], card["summary"]]


def _print_card(card: dict[str, Any]) -> None:
    print_facts(
        [
            ("recipe", card["name"]),
            ("task", card["task"]),
            ("takes", ", ".join(card["takes"])),
            ("presets", ", ".join(card["presets"])),
            *(
                (f"for {kind}", ", ".join(f"{key}={_default(one)}" for key, one in values.items()))
                for kind, values in card["defaults_for"].items()
            ),
        ]
    )
    print_table(
        ["PARAMETER", "DEFAULT", "MEANING"],
        [[param["name"], _default(param["default"]), param["help"]] for param in card["params"]],
    )


def _default(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return "none" if value is None else str(value)
