"""What protocols say of a deployment: shapes, types, states and counts in each one's words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from modelry.core.manifests import RuntimeForm, TensorSpec
from modelry.core.records import Route
from modelry.core.states import DeploymentState
from modelry.server.api.protocols import describing
from modelry.server.gateway.counters import Counters
from tests.unit.server.api.doors.looks import manifest

ROUTE = Route(
    deployment_id="dep_1",
    project="team",
    name="digits",
    state=DeploymentState.READY,
    model="mnist",
    version=2,
    max_batch=8,
    failure=None,
    replicas=(("rep_1", 1, "unix:/1"), ("rep_2", 2, "unix:/2")),
    manifests={},
    created_at=12.75,
)
LOOK = msgspec.structs.replace(
    manifest(
        TensorSpec(name="x", dtype="float32", shape=[None, 2, 3]),
        TensorSpec(name="t", dtype="string", shape=[None, None]),
    ),
    runtimes={"onnxruntime": RuntimeForm(file="model.onnx")},
)


def test_metadata_names_tensors_versions_and_platform() -> None:
    told = describing.model_metadata("team/digits", ROUTE, LOOK)
    assert told == {
        "name": "team/digits",
        "versions": ["1", "2"],
        "platform": "onnx_onnxv1",
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [-1, 2, 3]},
            {"name": "t", "datatype": "BYTES", "shape": [-1, -1]},
        ],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}],
    }


def test_a_configuration_leaves_a_free_batch_dimension_out() -> None:
    told = describing.model_config("digits", ROUTE, LOOK)
    assert told["max_batch_size"] == 8
    assert told["input"][0] == {"name": "x", "data_type": "TYPE_FP32", "dims": [2, 3]}
    assert told["input"][1] == {"name": "t", "data_type": "TYPE_STRING", "dims": [-1]}
    fixed = manifest(TensorSpec(name="x", dtype="int8", shape=[4, 2]))
    told = describing.model_config("digits", ROUTE, fixed)
    assert told["max_batch_size"] == 0
    assert told["input"] == [{"name": "x", "data_type": "TYPE_INT8", "dims": [4, 2]}]


@pytest.mark.parametrize(
    ("changes", "version", "state"),
    [
        ({}, 2, "READY"),
        ({"replicas": ()}, 2, "LOADING"),
        ({"state": DeploymentState.UPDATING, "version": 3}, 3, "LOADING"),
        ({"state": DeploymentState.UPDATING, "version": 3}, 2, "READY"),
        ({"state": DeploymentState.STOPPED}, 2, "UNAVAILABLE"),
        ({"state": DeploymentState.IDLE, "wakes": True, "replicas": ()}, 2, "READY"),
        (
            {"state": DeploymentState.FAILED, "replicas": (), "failure": {"message": "no file"}},
            *(2, "UNAVAILABLE"),
        ),
    ],
)
def test_a_version_is_ready_where_a_request_would_be_answered(
    changes: dict[str, Any], version: int, state: str
) -> None:
    route = replace(ROUTE, **changes)
    entry = describing.index_entry("digits", route, version)
    assert entry["state"] == state
    assert describing.is_ready(route, version) == (state == "READY")
    (told,) = describing.tf_status(route, [version])
    words = {"READY": "AVAILABLE", "LOADING": "LOADING", "UNAVAILABLE": "END"}
    assert told["state"] == words[state]
    if route.failure:
        assert told["status"] == {"error_code": "UNKNOWN", "error_message": "no file"}
        assert entry["reason"] == "no file"


def test_a_canary_may_be_pinned_too() -> None:
    assert describing.served_versions(replace(ROUTE, weights=((2, 90.0), (5, 10.0)))) == [1, 2, 5]


def test_tensorflow_knows_the_signature() -> None:
    told = describing.tf_metadata("digits", 2, LOOK)
    assert told["model_spec"] == {"name": "digits", "signature_name": "", "version": "2"}
    signature = told["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert [one["size"] for one in signature["inputs"]["x"]["tensor_shape"]["dim"]] == [
        *("-1", "2", "3")
    ]
    assert signature["inputs"]["t"]["dtype"] == "DT_STRING"
    assert signature["method_name"] == "tensorflow/serving/predict"


def test_openai_knows_an_object() -> None:
    assert describing.openai_model("digits", ROUTE) == {
        "id": "digits",
        "object": "model",
        "created": 12,
        "owned_by": "team",
    }


def test_statistics_of_what_nobody_asked_are_zero() -> None:
    totals = Counters.private().totals("dep_1", 2)
    told = describing.statistics("digits", 2, totals)
    assert told["inference_count"] == told["execution_count"] == told["last_inference"] == 0
    assert told["inference_stats"]["success"] == {"count": 0, "ns": 0}
