"""The recipes that can be trained: our own cards and those of installed packages.

A package adds one with the entry-point group `modelry.recipes`: an object that is a `RecipeCard`. Our own come
through the same door.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from modelry.core.errors import NotFound
from modelry.core.recipes.card import Param, RecipeCard

__all__ = ["Param", "RecipeCard", "get_recipe", "list_recipes"]

GROUP = "modelry.recipes"


@cache
def list_recipes() -> tuple[RecipeCard, ...]:
    """Every installed recipe's card, by name."""
    cards = [point.load() for point in entry_points(group=GROUP)]
    return tuple(sorted(cards, key=lambda card: card.name))


def get_recipe(name: str) -> RecipeCard:
    """The card of this name; raises `NotFound`."""
    for card in list_recipes():
        if card.name == name:
            return card
    known = ", ".join(card.name for card in list_recipes())
    raise NotFound(noun="recipe", name=name, remedy=f"Installed recipes: {known}.")
