"""The model package: a folder with `model.json`, weights as safetensors and servable forms.

model.json            what it is, how good, where from, sha256 of every other file
weights.safetensors   the network's weights, named after its layers
model.onnx            the form that is served
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
from safetensors.torch import load_file, save_file

from modelry.core.errors import ModelUnloadable
from modelry.core.manifests import (
    ImageInput,
    ModelManifest,
    Recipe,
    RuntimeForm,
    TensorSpec,
    Verification,
    read_model,
)
from modelry.worker.models.onnx_form import INPUT, OUTPUT
from modelry.worker.recipes.building import build_network
from modelry.worker.recipes.network import Network

MANIFEST, WEIGHTS, ONNX = "model.json", "weights.safetensors", "model.onnx"


def write_weights(network: Network, folder: Path) -> None:
    """Writes the network's weights in plain memory order."""
    tensors = {name: value.detach().contiguous() for name, value in network.state_dict().items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def draft(
    network: Network,
    *,
    task: str,
    recipe: Recipe,
    labels: list[str],
    media: ImageInput | None,
    lineage: dict[str, Any],
    folder: Path,
) -> ModelManifest:
    """The manifest of a folder that holds the weights and the ONNX form; nothing is measured yet."""
    return ModelManifest(
        task=task,
        recipe=recipe,
        inputs=[TensorSpec(name=INPUT, dtype="float32", shape=[None, *network.input_shape])],
        outputs=[TensorSpec(name=OUTPUT, dtype="float32", shape=[None, len(labels)])],
        labels=labels,
        media=media,
        metrics={},
        lineage=lineage,
        runtimes={},
        files=_digests(folder),
    )


def measured(
    manifest: ModelManifest, metrics: dict[str, Any], verification: Verification
) -> ModelManifest:
    """The draft with what was measured: only such a manifest names a form to serve."""
    forms = {"onnxruntime": RuntimeForm(file=ONNX, verification=verification)}
    return msgspec.structs.replace(manifest, metrics=metrics, runtimes=forms)


def write_manifest(manifest: ModelManifest, folder: Path) -> None:
    """Writes `model.json`, indented for people."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / MANIFEST).write_bytes(text)


def load_recipe_model(folder: Path) -> Network:
    """The trained network of a package, ready to predict; raises `ModelUnloadable` where the files do not fit."""
    return load_network(folder, read_model((folder / MANIFEST).read_bytes()))


def load_network(folder: Path, manifest: ModelManifest) -> Network:
    """The same for a folder whose `model.json` is not written yet."""
    if manifest.recipe is None:
        raise ModelUnloadable(reason="it was not trained by a recipe")
    if _digests(folder) != manifest.files:
        raise ModelUnloadable(reason="its files are not those that model.json names")
    # The network's own input shape builds the same network as the data's shape did.
    shape = tuple(size or 0 for size in manifest.inputs[0].shape[1:])
    network = build_network(
        manifest.recipe.name, manifest.recipe.params, shape, len(manifest.labels)
    )
    network.load_state_dict(load_file(folder / WEIGHTS))
    return network.eval()


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
