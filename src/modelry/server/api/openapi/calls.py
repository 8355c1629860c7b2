"""The calls that are no management, one entry each: what they say, take and give. Tests compare it with the routes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from modelry.server.api.openapi.shapes import (
    COUNT,
    FLAG,
    MODEL_OBJECT,
    NESTED,
    NUMBER,
    OUTPUT_WANTED,
    SAMPLE,
    SIGNATURE,
    SIGNED,
    TENSOR_GIVEN,
    TENSOR_TAKEN,
    TEXT,
    TF_STATUS,
    Schema,
    all_of,
    exactly,
    having,
    listing,
)

JSON = "application/json"
BYTES = "application/octet-stream"
_FILE: Schema = {"type": "string", "format": "binary"}


@dataclass(frozen=True, slots=True)
class Described:
    """One call."""

    #: Where the reference lists it.
    tag: str
    says: str
    #: Of the answer's body.
    gives: Schema = field(default_factory=dict)
    #: Media type → schema; empty: it takes no body.
    takes: Mapping[str, Schema] = field(default_factory=dict)
    #: Name → (schema, what it means).
    query: Mapping[str, tuple[Schema, str]] = field(default_factory=dict)
    #: The part that an error's body is.
    error: str = "ErrorText"
    given_as: str = JSON


def _native(says: str, gives: Schema, query: Mapping[str, tuple[Schema, str]]) -> Described:
    takes = {
        JSON: {
            "oneOf": [
                exactly(("input",), input={**SAMPLE, "description": "One input."}),
                exactly(("inputs",), inputs={**listing(SAMPLE, 1), "description": "Several."}),
            ]
        },
        "image/*": _FILE,
        "multipart/form-data": exactly(("file",), file=_FILE),
    }
    return Described("Predictions", says, gives, takes, query, "Error")


_TIMING = all_of(queue_ms=NUMBER, inference_ms=NUMBER, total_ms=NUMBER)
_VERSION = (COUNT, "Ask this version of the model.")

_PREDICT = _native(
    "Numbers in the range and shape of the model's tensor input, or pictures (bytes, base64 as `b64`, an upload in the "
    "field `file`); labels with their scores come back. The headers x-queue-time and x-inference-time (seconds) and "
    "x-model-version say where the time went and who answered.",
    all_of(
        deployment=TEXT,
        model=TEXT,
        version=COUNT,
        predictions=listing(having(label=TEXT, score=NUMBER, scores=listing({"type": "object"}))),
        timing=_TIMING,
    ),
    {
        "top_k": (COUNT, "So many labels with their scores; 10 at most if not given."),
        "version": _VERSION,
    },
)
_EXPLAIN = _native(
    "What each part of one input gave to the score: pixels of a picture, columns of a row. Further query parameters "
    "are the method's own settings.",
    having(
        ("method", "label", "score", "base", "residual", "evaluations"),
        method=TEXT,
        label=TEXT,
        score=NUMBER,
        base=NUMBER,
        residual=NUMBER,
        evaluations=COUNT,
    ),
    {
        "method": (TEXT, "`occlusion` or `kernel-shap`; without it the kind of input decides."),
        "label": (TEXT, "Whose score is explained; without it: the best one."),
        "version": _VERSION,
    },
)

_TF_PREDICT = Described(
    "TensorFlow Serving",
    "By rows: `instances` in, `predictions` out; by columns: `inputs` in, `outputs` out. What comes back is the "
    "network's output as it is.",
    having(predictions=NESTED, outputs=NESTED),
    {
        JSON: {
            "oneOf": [
                exactly(("instances",), instances=listing(NESTED, 1), signature_name=SIGNATURE),
                exactly(("inputs",), inputs=NESTED, signature_name=SIGNATURE),
            ]
        }
    },
)
_TF_STATUS = Described(
    "TensorFlow Serving", "The state of one version.", all_of(model_version_status=TF_STATUS)
)
_TF_METADATA = Described(
    "TensorFlow Serving",
    "The signature, as TensorFlow Serving writes it.",
    all_of(model_spec={"type": "object"}, metadata={"type": "object"}),
)

_OPEN = "Open Inference Protocol"
_INFER = Described(
    _OPEN,
    "Tensors by name, as JSON or as bytes behind it (header Inference-Header-Content-Length); compressed or not.",
    having(
        ("model_name", "model_version", "outputs"),
        model_name=TEXT,
        model_version=TEXT,
        id=TEXT,
        outputs=listing(TENSOR_GIVEN),
    ),
    {
        JSON: exactly(
            ("inputs",),
            id=TEXT,
            inputs=listing(TENSOR_TAKEN, 1),
            outputs=listing(OUTPUT_WANTED),
            parameters=exactly(binary_data_output=FLAG),
        ),
        BYTES: _FILE,
    },
)
_HEALTH = all_of(live=FLAG, ready=FLAG)
_READY = Described(_OPEN, "Whether it answers; 503 if not.", all_of(name=TEXT, ready=FLAG))
_MODEL = Described(
    _OPEN,
    "The tensors it takes and gives; a free dimension is -1.",
    all_of(name=TEXT, versions=listing(TEXT), platform=TEXT, inputs=SIGNED, outputs=SIGNED),
)
_CONFIG = Described(
    _OPEN, "The same in the words of Triton's configuration.", having(("name",), name=TEXT)
)
_STATISTICS = Described(
    _OPEN,
    "What was counted, over all web processes; times are nanoseconds.",
    all_of(model_stats=listing(having(("name", "version"), name=TEXT, version=TEXT))),
)

_HF = "Hugging Face"
_TASK = Described(
    _HF,
    "Whatever the model's task takes: `inputs` and `parameters`, or the bytes of a picture or a recording.",
    {},
    {
        JSON: having(("inputs",), inputs={}, parameters={"type": "object"}),
        BYTES: _FILE,
    },
)
_MODELS = "/v1/models/{name}"
_V2 = "/v2/models/{name}"

#: Method and path → the call.
CALLS: dict[tuple[str, str], Described] = {
    ("POST", "/predict/{name}"): _PREDICT,
    ("POST", "/explain/{name}"): _EXPLAIN,
    ("POST", _MODELS + ":predict"): _TF_PREDICT,
    ("POST", _MODELS + "/versions/{version}:predict"): _TF_PREDICT,
    ("POST", _MODELS + "/labels/{label}:predict"): _TF_PREDICT,
    ("GET", _MODELS + "/versions/{version}"): _TF_STATUS,
    ("GET", _MODELS + "/labels/{label}"): _TF_STATUS,
    ("GET", _MODELS + "/metadata"): _TF_METADATA,
    ("GET", _MODELS + "/versions/{version}/metadata"): _TF_METADATA,
    ("GET", _MODELS + "/labels/{label}/metadata"): _TF_METADATA,
    ("POST", _V2 + "/infer"): _INFER,
    ("POST", _V2 + "/versions/{version}/infer"): _INFER,
    ("GET", "/v2"): Described(
        _OPEN,
        "Who answers, and what it offers.",
        all_of(name=TEXT, version=TEXT, extensions=listing(TEXT)),
    ),
    ("GET", "/v2/health/live"): Described(_OPEN, "The process lives.", _HEALTH),
    ("GET", "/v2/health/ready"): Described(_OPEN, "The process answers; 503 if not.", _HEALTH),
    ("GET", _V2): _MODEL,
    ("GET", _V2 + "/versions/{version}"): _MODEL,
    ("GET", _V2 + "/ready"): _READY,
    ("GET", _V2 + "/versions/{version}/ready"): _READY,
    ("GET", _V2 + "/config"): _CONFIG,
    ("GET", _V2 + "/versions/{version}/config"): _CONFIG,
    ("GET", _V2 + "/stats"): _STATISTICS,
    ("GET", _V2 + "/versions/{version}/stats"): _STATISTICS,
    ("GET", "/v2/models/stats"): _STATISTICS,
    ("POST", "/v2/repository/index"): Described(
        _OPEN,
        "Every deployment and version, and whether it answers.",
        listing(all_of(name=TEXT, version=TEXT, state=TEXT, reason=TEXT)),
        {JSON: exactly(ready=FLAG)},
    ),
    ("POST", "/v2/repository/models/{name}/load"): Described(
        _OPEN,
        "Starts a deployment and waits until it answers. Configurations and files are refused.",
        {"type": "object"},
        {JSON: exactly(parameters=exactly())},
    ),
    ("POST", "/v2/repository/models/{name}/unload"): Described(
        _OPEN,
        "Stops a deployment; it keeps its settings.",
        {"type": "object"},
        {JSON: exactly(parameters=exactly(unload_dependents=FLAG))},
    ),
    ("GET", "/v1/models"): Described(
        "OpenAI",
        "The deployments.",
        all_of(object={"const": "list"}, data=listing(MODEL_OBJECT)),
        error="OpenAIError",
    ),
    ("GET", _MODELS): Described(
        "OpenAI",
        "One deployment, with TensorFlow Serving's `model_version_status`.",
        {
            **MODEL_OBJECT,
            "properties": {**MODEL_OBJECT["properties"], "model_version_status": TF_STATUS},
        },
        error="OpenAIError",
    ),
    ("DELETE", _MODELS): Described(
        "OpenAI",
        "Ends a deployment.",
        all_of(id=TEXT, object={"const": "model"}, deleted={"const": True}),
        error="OpenAIError",
    ),
    ("POST", "/v1/embeddings"): Described(
        "OpenAI",
        "One vector for each text. `model` is `name`, `name:3` or `name@alias`.",
        all_of(
            object={"const": "list"},
            data=listing(all_of(object=TEXT, index={"type": "integer"}, embedding={})),
            model=TEXT,
            usage=all_of(prompt_tokens={"type": "integer"}, total_tokens={"type": "integer"}),
        ),
        {
            JSON: exactly(
                ("model", "input"),
                model=TEXT,
                input={"anyOf": [TEXT, listing(TEXT, 1)]},
                encoding_format={"enum": ["float", "base64"]},
                dimensions={"anyOf": [COUNT, {"type": "null"}]},
            )
        },
        error="OpenAIError",
    ),
    ("POST", "/hf/models/{name}"): _TASK,
    ("POST", "/hf/models/{name}/pipeline/{task}"): _TASK,
    ("GET", "/hf/models/{name}/health"): Described(_HF, "Whether it answers; 503 if not.", {}),
    ("GET", "/hf/models/{name}/info"): Described(
        _HF, "Task and limits of the model.", having(("model_id",), model_id=TEXT)
    ),
    ("GET", "/metrics"): Described(
        "Service",
        "Counters and histograms for Prometheus.",
        TEXT,
        error="Error",
        given_as="text/plain",
    ),
}

#: Parts of the paths that exist only to say, in the protocol's words, that there is no such thing here.
REFUSED = ("sharedmemory/", "/trace/setting", "/v2/logging", ":classify", ":regress")
