"""What protocols say of deployments: metadata, configuration, status, statistics. Pure: routes in, plain values out.

The Open Inference Protocol's answers are shaped as its JSON is, which is also the JSON of its gRPC messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelry import __version__
from modelry.core.manifests import ModelManifest, TensorSpec
from modelry.core.records import Route
from modelry.core.states import DeploymentState
from modelry.server.api.doors.datatypes import BYTES, DATATYPE_OF
from modelry.server.gateway.choice import why_unloadable
from modelry.server.gateway.totals import Totals

SERVER_NAME = "modelry"
#: What is offered beyond the bare protocol, in its words.
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "statistics",
)
#: Runtime → the protocol's name of the platform, and Triton's name of the backend.
_PLATFORMS = {
    "onnxruntime": ("onnx_onnxv1", "onnxruntime"),
    "openvino": ("openvino_model", "openvino"),
    "torch": ("pytorch_libtorch", "pytorch"),
}
#: The repository's states → TensorFlow Serving's.
_TF_STATES = {"READY": "AVAILABLE", "LOADING": "LOADING", "UNAVAILABLE": "END"}
#: numpy's name → TensorFlow's.
_TENSORFLOW_OF = {
    "bool": "DT_BOOL",
    "uint8": "DT_UINT8",
    "uint16": "DT_UINT16",
    "uint32": "DT_UINT32",
    "uint64": "DT_UINT64",
    "int8": "DT_INT8",
    "int16": "DT_INT16",
    "int32": "DT_INT32",
    "int64": "DT_INT64",
    "float16": "DT_HALF",
    "float32": "DT_FLOAT",
    "float64": "DT_DOUBLE",
    "string": "DT_STRING",
}


def served_versions(route: Route) -> list[int]:
    """The versions that a request may pin, the oldest first."""
    ready = {version for _, version, _ in route.replicas}
    return sorted({route.version, *ready, *(version for version, _ in route.weights)})


def is_ready(route: Route, version: int | None = None) -> bool:
    """Whether a request would be answered: by a replica, or by one that the request wakes."""
    if route.state is DeploymentState.STOPPED:
        return False
    return route.wakes or any(version in (None, one) for _, one, _ in route.replicas)


def state_of(route: Route, version: int) -> tuple[str, str]:
    """One of the repository's states, and what there is to say about it."""
    if route.state is DeploymentState.STOPPED:
        # Its last replicas may still finish what they have accepted.
        return "UNAVAILABLE", "unloaded"
    if any(version == one for _, one, _ in route.replicas):
        return "READY", ""
    if route.wakes:
        return "READY", "it sleeps; the first request wakes it"
    if route.state is DeploymentState.FAILED:
        return "UNAVAILABLE", str((route.failure or {}).get("message") or "it fails to start")
    reason = why_unloadable(route, version)
    return ("LOADING", "") if reason is None else ("UNAVAILABLE", reason)


def server_metadata() -> dict[str, Any]:
    """Who answers."""
    return {"name": SERVER_NAME, "version": __version__, "extensions": list(EXTENSIONS)}


def model_metadata(name: str, route: Route, manifest: ModelManifest) -> dict[str, Any]:
    """The tensors that a deployment takes and gives; free dimensions are -1."""
    return {
        "name": name,
        "versions": [str(version) for version in served_versions(route)],
        "platform": _platform(manifest)[0],
        "inputs": [_tensor(spec) for spec in manifest.inputs],
        "outputs": [_tensor(spec) for spec in manifest.outputs],
    }


def model_config(name: str, route: Route, manifest: ModelManifest) -> dict[str, Any]:
    """The same as Triton's ModelConfig; the batch dimension is left out where it is free."""
    is_batched = all(spec.shape[:1] == [None] for spec in (*manifest.inputs, *manifest.outputs))
    platform, backend = _platform(manifest)
    return {
        "name": name,
        "platform": platform,
        "backend": backend,
        "version_policy": {"specific": {"versions": [str(one) for one in served_versions(route)]}},
        "max_batch_size": route.max_batch if is_batched else 0,
        "input": [_config_tensor(spec, is_batched) for spec in manifest.inputs],
        "output": [_config_tensor(spec, is_batched) for spec in manifest.outputs],
        "instance_group": [
            {"name": name, "kind": "KIND_CPU", "count": max(1, len(route.replicas))}
        ],
    }


def index_entry(name: str, route: Route, version: int) -> dict[str, Any]:
    """One version's line in the repository's index."""
    state, reason = state_of(route, version)
    return {"name": name, "version": str(version), "state": state, "reason": reason}


def statistics(name: str, version: int, totals: Totals) -> dict[str, Any]:
    """What was counted for one version. Times are nanoseconds; what is not measured apart has the count 0."""
    refused = totals.failed + totals.refused
    answered = totals.answered
    return {
        "name": name,
        "version": str(version),
        "last_inference": round(totals.last_at * 1000),
        "inference_count": totals.rows,
        "execution_count": round(totals.calls),
        "inference_stats": {
            "success": _duration(answered, totals.latency_us),
            "fail": _duration(refused, totals.failed_us),
            "queue": _duration(answered, totals.queue_us),
            "compute_input": _duration(0, 0),
            "compute_infer": _duration(answered, totals.inference_us),
            "compute_output": _duration(0, 0),
            "cache_hit": _duration(0, 0),
            "cache_miss": _duration(0, 0),
        },
        "batch_stats": [],
    }


def tf_status(route: Route, versions: Sequence[int]) -> list[dict[str, Any]]:
    """TensorFlow Serving's `model_version_status`."""
    return [_tf_version(route, version) for version in versions]


def tf_metadata(name: str, version: int, manifest: ModelManifest) -> dict[str, Any]:
    """TensorFlow Serving's metadata: one signature, the default."""
    signature = {
        "inputs": {spec.name: _tf_tensor(spec) for spec in manifest.inputs},
        "outputs": {spec.name: _tf_tensor(spec) for spec in manifest.outputs},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version)},
        "metadata": {
            "signature_def": {
                "@type": "type.googleapis.com/tensorflow.serving.SignatureDefMap",
                "signature_def": {"serving_default": signature},
            }
        },
    }


def openai_model(id: str, route: Route) -> dict[str, Any]:
    """OpenAI's model object."""
    return {
        "id": id,
        "object": "model",
        "created": int(route.created_at),
        "owned_by": route.project,
    }


def _platform(manifest: ModelManifest) -> tuple[str, str]:
    runtime = next(iter(manifest.runtimes), "unknown")
    return _PLATFORMS.get(runtime, (f"{runtime}_{runtime}", runtime))


def _datatype(dtype: str) -> str:
    return BYTES if dtype == "string" else DATATYPE_OF[dtype]


def _sizes(shape: Sequence[int | None]) -> list[int]:
    return [-1 if length is None else length for length in shape]


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": _datatype(spec.dtype), "shape": _sizes(spec.shape)}


def _config_tensor(spec: TensorSpec, is_batched: bool) -> dict[str, Any]:
    word = _datatype(spec.dtype)
    return {
        "name": spec.name,
        "data_type": "TYPE_STRING" if word == BYTES else f"TYPE_{word}",
        "dims": _sizes(spec.shape[1:] if is_batched else spec.shape),
    }


def _duration(count: int, us: int) -> dict[str, int]:
    return {"count": count, "ns": us * 1000}


def _tf_version(route: Route, version: int) -> dict[str, Any]:
    state, reason = state_of(route, version)
    is_failed = route.state is DeploymentState.FAILED and state != "READY"
    status = {
        "error_code": "UNKNOWN" if is_failed else "OK",
        "error_message": reason if is_failed else "",
    }
    return {"version": str(version), "state": _TF_STATES[state], "status": status}


def _tf_tensor(spec: TensorSpec) -> dict[str, Any]:
    sizes = [{"size": str(size), "name": ""} for size in _sizes(spec.shape)]
    return {
        "dtype": _TENSORFLOW_OF[spec.dtype],
        "tensor_shape": {"dim": sizes, "unknown_rank": False},
        "name": f"{spec.name}:0",
    }
