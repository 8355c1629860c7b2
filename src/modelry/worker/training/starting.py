"""A network that begins with what another has learned (transfer learning)."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from modelry.core.errors import WrongDataKind
from modelry.core.manifests import ModelManifest
from modelry.worker.models.package import WEIGHTS
from modelry.worker.recipes.network import Network


@torch.no_grad()
def take_weights(
    network: Network, folder: Path, manifest: ModelManifest, labels: list[str]
) -> bool:
    """Copies the package's weights; False where the last layer begins anew, because the labels are others.

    Raises `WrongDataKind` where the two have not the same layers, such as for rows of another shape.
    """
    weights = load_file(folder / WEIGHTS)
    is_same_task = manifest.labels == labels
    for name, own in network.state_dict().items():
        if name in network.units or (is_in_head(network, name) and not is_same_task):
            continue
        found = weights.get(name)
        if found is None or found.shape != own.shape:
            takes = "×".join(
                "N" if size is None else str(size) for size in manifest.inputs[0].shape[1:]
            )
            row = "×".join("N" if size is None else str(size) for size in network.input_shape)
            raise WrongDataKind(
                f"The model to start from takes rows of {takes}, and the data's are {row}: '{name}' does not fit.",
                remedy="Start from a model of such rows, or from none.",
            )
        own.copy_(found)
    return is_same_task


def freeze(network: Network) -> None:
    """Leaves only the last layer to learn."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(is_in_head(network, name))


def is_in_head(network: Network, name: str) -> bool:
    """Whether a tensor of this name belongs to the last layer."""
    return name.startswith(f"{network.head}.")
