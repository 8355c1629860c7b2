"""The model package: a folder with `model.json`, weights as safetensors and servable forms.

model.json            what it is, how good, where from, sha256 of every other file
weights.safetensors   the network's weights, named after its layers
model.onnx            the form that is served
tokenizer.json        for texts: how they become tokens
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from safetensors.torch import load_file, save_file

from modelry.core.errors import ModelUnloadable
from modelry.core.manifests import (
    MediaInput,
    ModelManifest,
    Recipe,
    RuntimeForm,
    TableInput,
    TensorSpec,
    Verification,
    read_model,
)
from modelry.worker.recipes.building import build_network, sizes_of
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
    media: MediaInput | None,
    lineage: dict[str, Any],
    folder: Path,
    example: Sequence[int] = (),
) -> ModelManifest:
    """The manifest of a folder that holds the weights and the ONNX form; nothing is measured yet.

    `example` are lengths of one row that run.
    """
    free = [None, *network.input_shape]
    return ModelManifest(
        task=task,
        recipe=recipe,
        inputs=[
            TensorSpec(
                name=network.input_name,
                dtype=network.input_dtype,
                shape=free,
                columns=_columns(media),
                example=list(example) if None in network.input_shape else None,
            )
        ],
        outputs=[
            TensorSpec(
                name=network.output_name, dtype="float32", shape=[None, *network.output_shape]
            )
        ],
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
    network = build_network(manifest.recipe.name, manifest.recipe.params, **sizes_of(manifest))
    network.load_state_dict(load_file(folder / WEIGHTS))
    return network.eval()


def _columns(media: MediaInput | None) -> list[str] | None:
    return [one.name for one in media.columns] if isinstance(media, TableInput) else None


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
