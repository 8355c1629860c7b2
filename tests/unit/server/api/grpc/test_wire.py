"""The messages: as the `.proto` files say, as Triton's clients understand them, and beside those in one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from modelry.server.api.grpc.wire.health_pb2 import HealthCheckResponse
from modelry.server.api.grpc.wire.open_inference_pb2 import ModelConfig, ModelInferRequest

ROOT = Path(__file__).parents[5]
#: Both sides in one program, and every message of ours in theirs: the same names, numbers and types.
BOTH = """
from modelry.server.api.grpc.wire import health_pb2, open_inference_pb2 as ours
import tritonclient.grpc
from tritonclient.grpc import model_config_pb2, service_pb2 as theirs

def compare(mine, their, path):
    for field in mine.fields:
        other = their.fields_by_number.get(field.number)
        where = f"{path}.{field.name}"
        if other is None:
            assert where == "ModelMetadataResponse.properties", where
            continue
        assert (field.name, field.type) == (other.name, other.type), where
        assert field.is_repeated == other.is_repeated, where
        if field.message_type is not None:
            compare(field.message_type, other.message_type, where)
        if field.enum_type is not None:
            known = other.enum_type.values_by_name
            assert all(known[name].number == value.number
                       for name, value in field.enum_type.values_by_name.items()), where

count = 0
for name, mine in ours.DESCRIPTOR.message_types_by_name.items():
    their = theirs.DESCRIPTOR.message_types_by_name.get(name)
    compare(mine, their or model_config_pb2.DESCRIPTOR.message_types_by_name[name], name)
    count += 1
print(count)
"""


def test_the_modules_are_made_from_their_sources() -> None:
    pytest.importorskip("grpc_tools")
    script = [sys.executable, "scripts/messages.py", "--check"]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_they_live_beside_those_of_tritons_client_and_mean_the_same() -> None:
    script = [sys.executable, "-c", BOTH]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30


def test_enumerations_have_the_protocols_numbers() -> None:
    assert (HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING) == (1, 2)
    assert (ModelConfig.TYPE_FP32, ModelConfig.TYPE_STRING) == (11, 13)


def test_what_a_message_was_is_what_it_is_after_the_wire() -> None:
    message = ModelInferRequest(model_name="digits", raw_input_contents=[b"\0\xff"])
    message.parameters["a"].int64_param = -(2**63)
    assert ModelInferRequest.FromString(message.SerializeToString()) == message
