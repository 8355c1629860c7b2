"""A package that Modelry wrote, here or elsewhere: its own words are checked against its files, and measured anew.

A trained model is built again from its recipe and its weights, and its ONNX form is written here; the form that came
along is not even opened. An imported one has only its form, which is checked like every foreign graph.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import msgspec

from modelry.core.errors import InvalidData, ModelryError, NotConvertible, UnsafeFile
from modelry.core.files import safe_path
from modelry.core.jobs import ImportModelParams
from modelry.core.labels import check_labels
from modelry.core.manifests import (
    AudioInput,
    ImageInput,
    ModelManifest,
    RuntimeForm,
    TableInput,
    TensorSpec,
    TextInput,
    read_model,
)
from modelry.core.recipes import get_recipe
from modelry.worker.context import JobContext
from modelry.worker.models.importing.base import refuse
from modelry.worker.models.importing.onnx import try_graph
from modelry.worker.models.importing.rows import Rows
from modelry.worker.models.importing.safetensors import check_safetensors
from modelry.worker.models.importing.trying import MODEL, Question

_MANIFEST, _WEIGHTS = "model.json", "weights.safetensors"
_AGAIN = "Export it again with `modelry models export` and import that."
#: Rows of random numbers that the network built anew and its form are compared with.
_ROWS = 64
_MAX_SIDE, _MAX_TOKENS, _MAX_SECONDS = 8192, 1 << 20, 3600.0
_MAX_COLUMNS, _MAX_SIZE = 65_536, 1 << 24
#: safetensors' names of the types that recipes use.
_TORCH = {"F32": "torch.float32", "F64": "torch.float64", "I64": "torch.int64"}


def convert(
    folder: Path, params: ImportModelParams, out: Path, context: JobContext
) -> ModelManifest:
    """See `base.Convert`; what the user says of task, labels and preprocessing is the package's own business."""
    manifest = _read(folder)
    if params.task or params.labels or params.preprocess:
        raise NotConvertible(
            reason="a Modelry package says itself what its task, labels and preprocessing are",
            remedy="Leave --task, --labels and --preprocess away.",
        )
    _check_digests(folder, manifest)
    _check_words(folder, manifest)
    if manifest.recipe is not None:
        made = _rebuild(folder, manifest, out, context)
    else:
        made = _adopt(folder, manifest, out, context)
    came = {
        "came_from": manifest.source,
        "told_by_package": ["metrics", "lineage", "privacy", "verification"],
    }
    licence = (manifest.source or {}).get("licence")
    return msgspec.structs.replace(made, source={**came, "licence": licence}, measurements=[])


def _read(folder: Path) -> ModelManifest:
    try:
        return read_model((folder / _MANIFEST).read_bytes())
    except (msgspec.DecodeError, RecursionError) as error:
        raise NotConvertible(
            reason=f"model.json describes no model ({error})", remedy=_AGAIN
        ) from None


def _check_digests(folder: Path, manifest: ModelManifest) -> None:
    found = {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }
    found.pop(_MANIFEST, None)
    strange = sorted(set(found) ^ set(manifest.files))
    if strange:
        word = "is not named in model.json" if strange[0] in found else "is missing"
        raise refuse(strange[0], f"it {word}", _AGAIN)
    for name, path in found.items():
        with path.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != manifest.files[name]:
                raise refuse(
                    name, "it is not the file that model.json names: its SHA-256 differs", _AGAIN
                )


def _check_words(folder: Path, manifest: ModelManifest) -> None:
    """Names and sizes that a replica will believe."""
    names = {spec.name for spec in manifest.inputs}
    media = manifest.media
    if manifest.labels:
        try:
            check_labels(_MANIFEST, manifest.labels)
        except InvalidData as error:
            raise refuse(_MANIFEST, str(error.facts["reason"]), _AGAIN) from None
    is_sound = bool(manifest.inputs) and bool(manifest.outputs)
    if isinstance(media, ImageInput):
        sides = (media.height, media.width, media.resize_to or 1, *media.shape)
        is_sound &= all(0 < side <= _MAX_SIDE for side in sides) and 0.0 not in media.std
        is_sound &= media.input in names and media.channels in (1, 3)
    elif isinstance(media, TextInput):
        is_sound &= _is_here(folder, media.tokenizer) and 0 < media.max_length <= _MAX_TOKENS
        is_sound &= set(media.inputs.values()) <= names
    elif isinstance(media, AudioInput):
        is_sound &= media.input in names and 0 < media.max_seconds <= _MAX_SECONDS
        is_sound &= 0 < media.sample_rate <= 1_000_000
    elif isinstance(media, TableInput):
        steps = [] if media.steps is None else [media.steps]
        is_sound &= media.input in names and all(0 < step <= _MAX_SIDE for step in steps)
        is_sound &= manifest.inputs[0].shape[1:] == [*steps, len(media.columns)]
        told = [column.name for column in media.columns]
        is_sound &= len(set(told)) == len(told) and manifest.inputs[0].columns in (None, told)
        sizes = [
            len(column.categories) for column in media.columns if column.categories is not None
        ]
        known = manifest.recipe.sizes.get("categories") if manifest.recipe else sizes
        # Numbers stand before categories, as the network takes them.
        is_sound &= sizes == known and all(
            column.categories is not None for column in media.columns[len(told) - len(sizes) :]
        )
    if not is_sound:
        raise refuse(_MANIFEST, "what it says of its inputs cannot be", _AGAIN)


def _is_here(folder: Path, path: str) -> bool:
    try:
        return (folder / safe_path(path)).is_file()
    except InvalidData:
        return False


def _rebuild(
    folder: Path, manifest: ModelManifest, out: Path, context: JobContext
) -> ModelManifest:
    """Network from recipe and weights; a new ONNX form of it, compared on random rows."""
    from modelry.worker.models import package
    from modelry.worker.models.measuring import random_samples
    from modelry.worker.models.onnx_form import write_onnx
    from modelry.worker.models.runtimes.onnxruntime import load
    from modelry.worker.models.verify import original, served, verify

    context.progress("building the network")
    _check_weights(folder, manifest)
    network = package.load_network(folder, manifest)
    for name in manifest.files:
        if name != package.ONNX:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, out / name)
    context.progress("converting")
    write_onnx(network, out / package.ONNX)
    context.progress("verifying")
    samples = random_samples(manifest, _ROWS)[manifest.inputs[0].name]
    form = served(load(out / package.ONNX, manifest, context.spec.threads), manifest)
    verification = verify(form, original(network), samples)
    return package.measured(manifest, manifest.metrics, verification)


def _check_weights(folder: Path, manifest: ModelManifest) -> None:
    """The recipe's parameters, and weights of exactly the shapes they ask for, before any memory is taken for them."""
    import torch

    from modelry.worker.recipes.building import build_network, sizes_of

    assert manifest.recipe is not None
    sizes = sizes_of(manifest)
    try:
        card = get_recipe(manifest.recipe.name)
        params = card.check(manifest.recipe.params)
        _check_sizes(sizes)
        with torch.device("meta"):
            network = build_network(card.name, params, **sizes)
    except NotConvertible:
        raise
    except (ModelryError, RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        reason = error.message if isinstance(error, ModelryError) else str(error)
        raise NotConvertible(
            reason=f"its recipe cannot be built: {reason.rstrip('.')}", remedy=_AGAIN
        ) from None
    takes = manifest.inputs[0]
    if (takes.name, takes.dtype, takes.shape[1:]) != (
        network.input_name,
        network.input_dtype,
        list(network.input_shape),
    ) or sizes.get("classes") != len(manifest.labels):
        raise refuse(_MANIFEST, "what it says of its inputs is not what its recipe takes", _AGAIN)
    gives = [(spec.name, spec.shape[1:]) for spec in manifest.outputs]
    if gives != [(network.output_name, list(network.output_shape))]:
        raise refuse(_MANIFEST, "what it says of its outputs is not what its recipe gives", _AGAIN)
    if not (folder / _WEIGHTS).is_file():
        raise refuse(_WEIGHTS, "it is missing", _AGAIN)
    held = check_safetensors(_WEIGHTS, folder / _WEIGHTS)
    wanted = {
        name: (str(value.dtype), tuple(value.shape)) for name, value in network.state_dict().items()
    }
    if {name: (_TORCH.get(kind, kind), shape) for name, (kind, shape) in held.items()} != wanted:
        raise refuse(_WEIGHTS, f"its weights are not those of the recipe '{card.name}'", _AGAIN)


def _check_sizes(sizes: dict[str, Any]) -> None:
    """Whole numbers, and lists of them, of which a network can be built; before it is."""
    for name, value in sizes.items():
        numbers = value if isinstance(value, list) else [value]
        is_sound = len(numbers) <= _MAX_COLUMNS and all(
            isinstance(number, int) and 0 <= number <= _MAX_SIZE for number in numbers
        )
        if not is_sound or (name == "shape" and not (numbers and min(numbers) > 0)):
            raise NotConvertible(reason=f"rows of {value} cannot be", remedy=_AGAIN)


def _adopt(folder: Path, manifest: ModelManifest, out: Path, context: JobContext) -> ModelManifest:
    """An imported model's form, checked as if it came for the first time; beside it what the task reads."""
    form = manifest.runtimes.get("onnxruntime")
    if form is None or not _is_here(folder, form.file):
        raise NotConvertible(reason="the package has no ONNX form", remedy=_AGAIN)
    graph = folder / safe_path(form.file)
    context.progress("checking and trying the graph")
    tried = try_graph(
        Question(name=form.file, file=str(graph), out=str(out), scratch=str(context.work)), context
    )
    if tried.rows not in (Rows.OWN, Rows.FIXED):
        raise _differs(form.file)
    _check_same(form.file, "input", manifest.inputs, tried.inputs)
    _check_same(form.file, "output", manifest.outputs, tried.outputs)
    for name in manifest.files:
        target = out / name
        if name != form.file and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, target)
    runtimes = {"onnxruntime": RuntimeForm(file=MODEL, verification=form.verification)}
    told: dict[str, Any] = {"runtimes": runtimes, "inputs": _with_examples(manifest, tried.inputs)}
    return msgspec.structs.replace(manifest, **told)


def _check_same(file: str, noun: str, told: list[TensorSpec], found: list[TensorSpec]) -> None:
    graph = {spec.name: spec for spec in found}
    for spec in told:
        other = graph.get(spec.name)
        if other is None or other.dtype != spec.dtype or len(other.shape) != len(spec.shape):
            raise _differs(file)
    if noun == "input" and len(graph) != len(told):
        raise _differs(file)


def _differs(file: str) -> UnsafeFile:
    return refuse(file, "its inputs and outputs are not those that model.json names", _AGAIN)


def _with_examples(manifest: ModelManifest, found: list[TensorSpec]) -> list[TensorSpec]:
    examples = {spec.name: spec.example for spec in found}
    return [
        msgspec.structs.replace(spec, example=spec.example or examples[spec.name])
        for spec in manifest.inputs
    ]
