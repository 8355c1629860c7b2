"""ONNX Runtime on the processor: what serves every model that has an ONNX form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as states

from modelry.core.errors import InvalidInput, ModelUnloadable
from modelry.core.manifests import ModelManifest, TensorSpec
from modelry.core.texts import STRING
from modelry.worker.models.runtimes.base import Tensors

_LEVELS = {
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
}
_DTYPES = {
    "tensor(bool)": "bool",
    "tensor(double)": "float64",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(string)": STRING,
    **{f"tensor({name})": name for name in ("int8", "int16", "int32", "int64")},
    **{f"tensor({name})": name for name in ("uint8", "uint16", "uint32", "uint64")},
}


class OnnxModel:
    """One session; it holds the weights until it is dropped."""

    def __init__(self, session: Any, outputs: list[str]) -> None:
        self._session = session
        self._outputs = outputs

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        try:
            values = self._session.run(self._outputs, dict(inputs))
        except states.InvalidArgument as error:
            reason = " ".join(str(error).split())
            raise InvalidInput(reason=reason, expected="values it was made for") from None
        return dict(zip(self._outputs, values, strict=True))


def load(file: Path, manifest: ModelManifest, threads: int) -> OnnxModel:
    """The session; raises `ModelUnloadable` where the file is none or is not what the manifest says."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = _level(manifest)
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads sleep: spinning would take the cores from those who parse and write.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(file), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's errors have no common class but this one.
        said = str(error).replace(str(file), file.name)
        reason = " ".join(said.split()) or type(error).__name__
        raise ModelUnloadable(reason=f"{file.name}: {reason}") from None
    _compare("input", manifest.inputs, session.get_inputs())
    _compare("output", manifest.outputs, session.get_outputs())
    return OnnxModel(session, [spec.name for spec in manifest.outputs])


def _level(manifest: ModelManifest) -> Any:
    """How far the graph is rewritten when it is loaded: as it was found fastest, else as far as possible."""
    form = manifest.runtimes.get("onnxruntime")
    wanted = str(form.options.get("graph_optimization", "all")) if form else "all"
    if wanted not in _LEVELS:
        known = ", ".join(_LEVELS)
        raise ModelUnloadable(reason=f"'{wanted}' is no graph optimisation (known: {known})")
    return _LEVELS[wanted]


def _compare(noun: str, declared: list[TensorSpec], found: Any) -> None:
    """The manifest and the graph must name the same tensors of the same types."""
    graph = {tensor.name: _DTYPES.get(tensor.type, tensor.type) for tensor in found}
    for spec in declared:
        if graph.get(spec.name) != spec.dtype:
            actual = graph.get(spec.name, "absent")
            raise ModelUnloadable(
                reason=f"model.json has the {noun} '{spec.name}' as {spec.dtype}, the graph as {actual}"
            )
    if noun == "input" and len(graph) != len(declared):
        missing = ", ".join(sorted(set(graph) - {spec.name for spec in declared}))
        raise ModelUnloadable(reason=f"model.json does not name the inputs {missing}")
