"""From a recipe's name to its network: finds the implementation and checks that it can learn from the data."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Mapping
from typing import Any, cast

from modelry.core.errors import WrongDataKind
from modelry.core.manifests import DatasetManifest, Feature
from modelry.core.recipes import RecipeCard, get_recipe
from modelry.worker.recipes.network import Build, Network


def build_network(
    recipe: str, params: Mapping[str, Any], shape: tuple[int, ...], classes: int
) -> Network:
    """The untrained network; raises `InvalidParameter` or `WrongDataKind` where the two do not fit."""
    return _implementation(get_recipe(recipe))(params, shape, classes)


def code_digest(recipe: str) -> str:
    """SHA-256 of the source file that implements the recipe."""
    module = importlib.import_module(get_recipe(recipe).implementation.partition(":")[0])
    return hashlib.sha256(inspect.getsource(module).encode()).hexdigest()


def check_data(card: RecipeCard, data: str, manifest: DatasetManifest) -> tuple[str, Feature]:
    """The input feature the recipe will learn from; raises `WrongDataKind` before any row is read."""

    def refuse(reason: str) -> WrongDataKind:
        return WrongDataKind(recipe=card.name, data=data, reason=reason)

    target = manifest.features.get(manifest.target or "")
    if target is None:
        raise refuse("it has no labels")
    if target.labels is None:
        raise refuse(f"'{manifest.target}' is not a label but a {target.kind}")
    if len(target.labels) < 2:
        raise refuse("it has fewer than two classes")
    for split in ("train", "test"):
        if split not in manifest.splits or manifest.splits[split].rows == 0:
            raise refuse(f"it has no rows in the split '{split}'")
    for name, feature in manifest.features.items():
        if name != manifest.target and feature.kind in card.takes:
            return name, feature
    kinds = sorted({feature.kind for feature in manifest.features.values() if feature != target})
    wanted = " or ".join(card.takes)
    raise refuse(f"it holds {', '.join(kinds) or 'nothing'} and the recipe takes {wanted}")


def _implementation(card: RecipeCard) -> Build:
    module, _, function = card.implementation.partition(":")
    return cast(Build, getattr(importlib.import_module(module), function))
