"""Packages of recipes' networks, small and untrained."""

from __future__ import annotations

from pathlib import Path

import torch

from modelry.core.manifests import ModelManifest, Recipe
from modelry.core.recipes import get_recipe
from modelry.worker.models import package
from modelry.worker.models.onnx_form import write_onnx
from modelry.worker.recipes.building import build_network
from modelry.worker.recipes.network import Network


def make_recipe_package(folder: Path, recipe: str) -> tuple[ModelManifest, Network]:
    """Weights and ONNX form of an untrained network; `model.json` is not written."""
    torch.manual_seed(0)
    params = get_recipe(recipe).check(
        {"channels": [4], "hidden": [8]} if recipe == "cnn" else {"hidden": 8, "layers": 2}
    )
    network = build_network(recipe, params, shape=(12, 12, 1), classes=3).eval()
    package.write_weights(network, folder)
    write_onnx(network, folder / package.ONNX)
    manifest = package.draft(
        network,
        task=get_recipe(recipe).task,
        recipe=Recipe(name=recipe, params=params),
        labels=["一", "two", "drei"],
        media=None,
        lineage={},
        folder=folder,
    )
    return manifest, network
