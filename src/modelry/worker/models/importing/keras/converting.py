"""The conversion itself, in a process of its own: check, load with Keras, build the graph, compare."""

from __future__ import annotations

import importlib
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from modelry.core.errors import InvalidParameter, NotConvertible, VerificationFailed
from modelry.core.manifests import ModelManifest, RuntimeForm, TensorSpec, Verification
from modelry.core.preprocessing import image_input, picture_layout
from modelry.core.tensors import Array
from modelry.worker.models.importing.comparing import Case, Run, compare, sliced
from modelry.worker.models.importing.keras.allowed import REMEDY, check_configuration
from modelry.worker.models.importing.keras_config import check_keras
from modelry.worker.models.importing.texts import MAX_JSON_BYTES

MODEL = "model.onnx"
#: Lengths that stand for free dimensions while both are compared.
_LENGTHS = (16, 9)
_KEPT_ROWS = 64
_SCORES = ("softmax", "sigmoid")


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be converted, as plain values."""

    file: str
    out: str
    scratch: str
    #: Where sample rows are left, as `.npz`, for measuring the form.
    samples: str
    task: str | None = None
    labels: list[str] | None = None
    preprocess: dict[str, Any] | str | None = None


def examine(question: Any) -> dict[str, Any]:
    """The draft manifest of what was written to `out`, as plain values; see `base.Convert`."""
    asked = msgspec.convert(question, Question)
    built: dict[str, Any] = msgspec.to_builtins(convert_file(asked))
    return built


def convert_file(asked: Question) -> ModelManifest:
    """Raises `UnsafeFile`, `NotConvertible` and `VerificationFailed`."""
    network = load_network(Path(asked.file), Path(asked.scratch))
    from modelry.worker.models.importing.keras.graph import Graph
    from modelry.worker.models.importing.keras.walking import functional, walk

    inner = functional(network)
    inputs, outputs = _specs(inner)
    graph = Graph()
    last = walk(graph, network, [spec.name for spec in inputs])
    graph.layer = "output"
    out = Path(asked.out)
    try:
        graph.write(out / MODEL, inputs, outputs, last)
    except Exception as error:  # The checker's errors have no common class.
        raise NotConvertible(
            reason=f"its graph is not whole ({_first_line(error)})", remedy=REMEDY
        ) from None
    draft = _describe(asked, inner, inputs, outputs)
    verification = _verify(draft, network, out, Path(asked.samples))
    forms = {"onnxruntime": RuntimeForm(file=MODEL, verification=verification)}
    return msgspec.structs.replace(draft, runtimes=forms)


def load_network(file: Path, scratch: Path) -> Any:
    """The network, after its configuration and its weights were looked at; Keras' safe mode stays on."""
    from modelry.worker.models.importing.keras.walking import LAYER_NAMES
    from modelry.worker.models.importing.keras.weights import check_weights

    check_keras(file.name, file)
    with zipfile.ZipFile(file) as archive, archive.open("config.json") as content:
        config = msgspec.json.decode(content.read(MAX_JSON_BYTES))
    check_configuration(file.name, config, LAYER_NAMES)
    check_weights(file.name, file, scratch)
    keras = _import_keras(scratch)
    try:
        return keras.saving.load_model(str(file), compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever its layers do.
        raise NotConvertible(
            reason=f"Keras {keras.__version__} cannot load it ({_first_line(error)})",
            remedy=REMEDY,
        ) from None


def _import_keras(scratch: Path) -> Any:
    """Keras on torch. It reads its settings now; those in somebody's home must not change a conversion."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    known = os.environ.get("KERAS_HOME")
    with tempfile.TemporaryDirectory(dir=scratch) as home:
        os.environ["KERAS_HOME"] = home
        try:
            return importlib.import_module("keras")
        finally:
            os.environ.pop("KERAS_HOME")
            if known is not None:
                os.environ["KERAS_HOME"] = known


def _specs(inner: Any) -> tuple[list[TensorSpec], list[TensorSpec]]:
    inputs = [_spec(tensor.name, tensor) for tensor in inner.inputs]
    # A layer may give several outputs, and an output may be an input.
    taken = {spec.name for spec in inputs}
    outputs = []
    for tensor in inner.outputs:
        called = str(tensor._keras_history.operation.name)
        name = next(
            name
            for name in (called, *(f"{called}_{number}" for number in range(1, len(taken) + 2)))
            if name not in taken
        )
        taken.add(name)
        outputs.append(_spec(name, tensor))
    return inputs, outputs


def _spec(name: str, tensor: Any) -> TensorSpec:
    dtype = str(tensor.dtype)
    if dtype not in ("float32", "int32", "int64", "uint8", "bool"):
        raise NotConvertible(reason=f"its input or output '{name}' is {dtype}", remedy=REMEDY)
    shape: list[int | None] = [None, *tensor.shape[1:]]
    is_free = None in shape[1:]
    example = [_LENGTHS[0] if length is None else length for length in shape[1:]]
    return TensorSpec(name=name, dtype=dtype, shape=shape, example=example if is_free else None)


def _describe(
    asked: Question, inner: Any, inputs: list[TensorSpec], outputs: list[TensorSpec]
) -> ModelManifest:
    import keras

    ending = _ending(inner)
    task = asked.task or _task(inputs, outputs, ending)
    pictures = [spec for spec in inputs if picture_layout(spec) is not None]
    media = (
        None if asked.preprocess is None else image_input(asked.preprocess, (pictures or inputs)[0])
    )
    return ModelManifest(
        task=task,
        framework="keras",
        recipe=None,
        inputs=inputs,
        outputs=outputs,
        labels=_labels(asked.labels, task, outputs[0]),
        media=media,
        activation=_activation(task, ending),
        metrics={},
        lineage={},
        source={
            "layers": len(inner.layers),
            "parameters": int(inner.count_params()),
            "converted_with": f"keras {keras.__version__}",
        },
        runtimes={"onnxruntime": RuntimeForm(file=MODEL)},
        files={},
    )


def _ending(inner: Any) -> str:
    """The name of what the first output went through last."""
    layer = inner.outputs[0]._keras_history.operation
    if type(layer).__name__ == "Softmax":
        return "softmax"
    return str(getattr(getattr(layer, "activation", None), "__name__", ""))


def _classes(output: TensorSpec) -> int | None:
    """How many scores a row has, where it has several."""
    is_scores = output.dtype == "float32" and len(output.shape) == 2 and (output.shape[1] or 0) >= 2
    return output.shape[1] if is_scores else None


def _task(inputs: list[TensorSpec], outputs: list[TensorSpec], ending: str) -> str:
    """`image-classification` for a picture in and scores out; the tensor's own words for everything else."""
    if len(inputs) != 1 or _classes(outputs[0]) is None:
        return "tensor"
    if picture_layout(inputs[0]) is not None and inputs[0].dtype == "float32":
        return "image-classification"
    is_row = len(inputs[0].shape) == 2 and inputs[0].dtype == "float32"
    return "tabular-classification" if is_row and ending in _SCORES else "tensor"


def _labels(given: list[str] | None, task: str, output: TensorSpec) -> list[str]:
    count = _classes(output)
    if given is None:
        return [str(number) for number in range(count or 0)] if task != "tensor" else []
    if len(given) != (count or 0):
        raise InvalidParameter(
            f"There are {len(given)} labels, and the output '{output.name}' has {count or 'no'} classes.",
            remedy="Give one label for each class, in the order of the output.",
        )
    return given


def _activation(task: str, ending: str) -> Literal["none", "softmax"]:
    """Scores that the network did not finish itself are finished by a softmax."""
    is_open = task.endswith("classification") and ending in ("", "linear")
    return "softmax" if is_open else "none"


def _verify(draft: ModelManifest, network: Any, out: Path, samples: Path) -> Verification:
    """The graph beside Keras on random rows, three sizes of batch, two lengths of what is free."""
    from modelry.worker.models.runtimes.onnxruntime import load

    form = load(out / MODEL, draft, 1)
    indices = _indices(network)
    cases = [_case(draft, indices, rows, length) for rows, length in ((1, 16), (3, 9), (8, 16))]
    try:
        verification = compare(form.run, _original(draft, network), cases)
    except VerificationFailed as error:
        raise NotConvertible(
            reason=f"its ONNX form does not answer as Keras does ({error.message.rstrip('.')})",
            remedy=REMEDY,
        ) from None
    kept = _case(draft, indices, _KEPT_ROWS, _LENGTHS[0]).inputs
    arrays = {f"i{number}": kept[spec.name] for number, spec in enumerate(draft.inputs)}
    np.savez(samples, **arrays)  # type: ignore[arg-type]
    return verification


def _original(draft: ModelManifest, network: Any) -> Run:
    import keras

    def run(inputs: Any) -> dict[str, Array]:
        tensors = [keras.ops.convert_to_tensor(inputs[spec.name]) for spec in draft.inputs]
        answer = network(tensors if len(tensors) > 1 else tensors[0], training=False)
        values = keras.tree.flatten(answer)
        return {
            spec.name: np.asarray(keras.ops.convert_to_numpy(value))
            for spec, value in zip(draft.outputs, values, strict=True)
        }

    return run


def _indices(network: Any) -> dict[str, int]:
    """Inputs that are indices into a table → the length of the table."""
    from modelry.worker.models.importing.keras.walking import functional

    inner = functional(network)
    names = {id(tensor): str(tensor.name) for tensor in inner.inputs}
    found: dict[str, int] = {}
    for nodes in inner._nodes_by_depth.values():
        for node in nodes:
            for tensor in node.arguments.keras_tensors:
                if type(node.operation).__name__ == "Embedding" and id(tensor) in names:
                    found[names[id(tensor)]] = int(node.operation.input_dim)
    return found


def _case(draft: ModelManifest, indices: dict[str, int], rows: int, length: int) -> Case:
    random = np.random.default_rng(rows)
    arrays = {}
    for spec in draft.inputs:
        shape = [rows, *(length if size is None else size for size in spec.shape[1:])]
        if spec.dtype == "float32" and spec.name not in indices:
            values: Array = random.uniform(-1.0, 1.0, shape)
        else:
            values = random.integers(0, indices.get(spec.name, 2), shape)
        arrays[spec.name] = values.astype(spec.dtype)
    return sliced(arrays)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0].rstrip(".")[:300]
