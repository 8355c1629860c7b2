"""From a recipe's name to its network."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Mapping
from typing import Any, cast

from modelry.core.manifests import ModelManifest
from modelry.core.recipes import RecipeCard, get_recipe
from modelry.worker.recipes.network import Build, Network


def build_network(recipe: str, params: Mapping[str, Any], **sizes: Any) -> Network:
    """The untrained network; raises `InvalidParameter` or `WrongDataKind` where parameters and sizes do not fit."""
    return _implementation(get_recipe(recipe))(params, **sizes)


def sizes_of(manifest: ModelManifest) -> dict[str, Any]:
    """What the data decided of a trained model's layers."""
    if manifest.recipe is not None and manifest.recipe.sizes:
        return manifest.recipe.sizes
    # The network's own input shape builds the same network as the data's shape did.
    shape = [size or 0 for size in manifest.inputs[0].shape[1:]]
    return {"shape": shape, "classes": len(manifest.labels)}


def code_digest(recipe: str) -> str:
    """SHA-256 of the source file that implements the recipe."""
    module = importlib.import_module(get_recipe(recipe).implementation.partition(":")[0])
    return hashlib.sha256(inspect.getsource(module).encode()).hexdigest()


def _implementation(card: RecipeCard) -> Build:
    module, _, function = card.implementation.partition(":")
    return cast(Build, getattr(importlib.import_module(module), function))
