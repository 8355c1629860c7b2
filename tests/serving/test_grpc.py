"""The gRPC port over real replicas: keys, deadlines, cancelled calls, limits, streams, and a polite end."""

from __future__ import annotations

import contextlib
import gzip
import queue
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import h2.events
import numpy as np
import pytest

from modelry.core.keys import new_key
from modelry.core.tensors import Array
from modelry.server.api.grpc.wire.health_pb2 import HealthCheckRequest, HealthCheckResponse
from modelry.server.api.grpc.wire.open_inference_pb2 import (
    ModelInferResponse,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    ModelStreamInferResponse,
    RepositoryIndexResponse,
    RepositoryModelLoadRequest,
    ServerReadyResponse,
)
from tests.serving.calls import SERVICE, Calls, Raw, asked, code_in, framed, told
from tests.serving.hostile_runtime import HANG
from tests.serving.house import House, pictures, wait_until

HEALTH = "/grpc.health.v1.Health"
Code = grpc.StatusCode


@pytest.fixture(scope="module")
def visual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house with one replica that takes 4×2 pictures."""
    house = House(tmp_path_factory.mktemp("visual") / "home")
    house.linear()
    house.started()
    yield house
    house.close()


@pytest.fixture(scope="module")
def calls(visual: House) -> Iterator[Calls]:
    with Calls(visual) as calls:
        yield calls


@pytest.fixture
def hanging(house: House) -> House:
    """A house with one replica that hangs when told to."""
    house.hostile()
    house.started()
    return house


def line(first: float) -> Array:
    """A row of the hostile model."""
    return np.array([[first, 0.0]], np.float32)


def test_tensors_go_in_and_come_out_with_where_the_time_went(calls: Calls) -> None:
    x = pictures(3)
    answer, call = calls.call(
        "ModelInfer", asked(x, id="one"), metadata=(*calls.metadata, ("x-request-id", "mine-1"))
    )
    response = ModelInferResponse.FromString(answer)
    np.testing.assert_allclose(told(response), calls.house.packages[1].expect(x), atol=1e-6)
    assert (response.model_name, response.model_version, response.id) == ("digits", "1", "one")
    trailing = dict(call.trailing_metadata())
    assert trailing["x-request-id"] == "mine-1"
    assert trailing["x-model-version"] == "1"
    assert float(trailing["x-inference-time"]) > 0
    assert float(trailing["x-queue-time"]) >= 0


def test_the_model_and_the_server_are_described(calls: Calls) -> None:
    answer, _ = calls.call("ModelMetadata", ModelMetadataRequest(name="digits"))
    found = ModelMetadataResponse.FromString(answer)
    assert [(one.name, one.datatype, list(one.shape)) for one in found.inputs] == [
        ("x", "FP32", [-1, 4, 2, 1])
    ]
    assert list(found.versions) == ["1"]
    answer, _ = calls.call("ModelReady", ModelReadyRequest(name="digits"))
    assert ModelReadyResponse.FromString(answer).ready
    answer, _ = calls.call("RepositoryIndex")
    (model,) = RepositoryIndexResponse.FromString(answer).models
    assert (model.name, model.version, model.state) == ("digits", "1", "READY")


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ((), "no_key"),
        ((("authorization", f"Bearer {new_key().text}"),), "invalid_key"),
        ((("x-api-key", "nonsense"),), "invalid_key"),
    ],
)
def test_without_a_good_key_nothing_is_told(calls: Calls, metadata: Any, code: str) -> None:
    for method in ("ModelInfer", "ModelMetadata", "ServerMetadata", "RepositoryModelLoad"):
        error = calls.refused(method, asked(pictures(1)), metadata=metadata)
        assert error.code() is Code.UNAUTHENTICATED
        assert code_in(error) == code


def test_the_body_of_a_call_without_a_key_is_not_read(calls: Calls) -> None:
    body = asked(np.zeros((1 << 24,), np.float32)).SerializeToString()
    began = time.monotonic()
    error = calls.refused("ModelInfer", body, metadata=())
    assert error.code() is Code.UNAUTHENTICATED
    assert time.monotonic() - began < 5


def test_a_key_for_inference_loads_no_models(calls: Calls) -> None:
    error = calls.refused("RepositoryModelLoad", RepositoryModelLoadRequest(model_name="digits"))
    assert error.code() is Code.PERMISSION_DENIED
    assert code_in(error) == "scope_too_small"


def test_a_key_in_the_other_header_and_the_project_are_read(calls: Calls) -> None:
    mine = (("x-api-key", calls.house.key.text), ("x-modelry-project", "default"))
    assert calls.infer(pictures(1), metadata=mine).model_name == "digits"
    elsewhere = (*calls.metadata, ("x-modelry-project", "%E5%AD%97"))
    error = calls.refused("ModelInfer", asked(pictures(1)), metadata=elsewhere)
    assert error.code() is Code.NOT_FOUND
    assert "字" in error.details()


@pytest.mark.parametrize(
    ("method", "message", "code"),
    [
        ("ModelInfer", asked(pictures(1), model_name="other"), Code.NOT_FOUND),
        ("ModelInfer", asked(pictures(1), model_version="9"), Code.NOT_FOUND),
        ("ModelInfer", asked(pictures(1).astype(np.int64)), Code.INVALID_ARGUMENT),
        ("ModelInfer", b"\xff\xff\xff", Code.INVALID_ARGUMENT),
        ("ModelMetadata", b"\xff", Code.INVALID_ARGUMENT),
        ("ModelMetadata", ModelMetadataRequest(name="other"), Code.NOT_FOUND),
        ("ServerReady", b"\x08\x01", Code.INVALID_ARGUMENT),
        ("TraceSetting", b"", Code.UNIMPLEMENTED),
        ("SystemSharedMemoryStatus", b"", Code.UNIMPLEMENTED),
        ("LogSettings", b"", Code.UNIMPLEMENTED),
        ("/no.Such/Thing", b"", Code.UNIMPLEMENTED),
    ],
)
def test_what_is_wrong_has_a_status_a_sentence_and_a_stable_code(
    calls: Calls, method: str, message: Any, code: grpc.StatusCode
) -> None:
    error = calls.refused(method, message)
    assert error.code() is code
    assert len(error.details()) > 20
    assert code_in(error)


def test_health_is_open_to_all(calls: Calls) -> None:
    for service in ("", "inference.GRPCInferenceService"):
        answer, _ = calls.call(f"{HEALTH}/Check", HealthCheckRequest(service=service), metadata=())
        assert HealthCheckResponse.FromString(answer).status == HealthCheckResponse.SERVING
    error = calls.refused(f"{HEALTH}/Check", HealthCheckRequest(service="other"), metadata=())
    assert error.code() is Code.NOT_FOUND
    answer, _ = calls.call("ServerReady", metadata=())
    assert ServerReadyResponse.FromString(answer).ready


def test_a_message_larger_than_a_body_may_be_is_refused(visual: House) -> None:
    with Calls(visual, max_body_bytes=4096) as calls:
        fits = asked(np.zeros((100, 4, 2, 1), np.float32))
        calls.call("ModelInfer", fits)
        large = asked(np.zeros((200, 4, 2, 1), np.float32))
        assert calls.refused("ModelInfer", large).code() is Code.RESOURCE_EXHAUSTED
        bomb = asked(np.zeros((1 << 20, 4, 2, 1), np.float32))
        for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            calls.call("ModelInfer", fits, compression=compression)
            error = calls.refused("ModelInfer", bomb, compression=compression)
            assert error.code() is Code.RESOURCE_EXHAUSTED


def test_the_deadline_of_the_call_is_the_works(hanging: House) -> None:
    with Calls(hanging) as calls:
        began = time.monotonic()
        error = calls.refused("ModelInfer", asked(line(HANG)), timeout=0.3)
        assert error.code() is Code.DEADLINE_EXCEEDED
        assert time.monotonic() - began < 5
        wait_until(lambda: "0 waiting, 0 in flight" in repr(calls.gateway))


def test_a_call_that_is_cancelled_is_not_worked_on(hanging: House) -> None:
    with Calls(hanging) as calls:
        infer = calls.channel.unary_unary(f"{SERVICE}/ModelInfer")
        futures = [
            infer.future(asked(line(HANG)).SerializeToString(), metadata=calls.metadata)
            for _ in range(3)
        ]
        wait_until(lambda: "3 in flight" in repr(calls.gateway))
        for future in futures:
            future.cancel()
        wait_until(lambda: "0 waiting, 0 in flight" in repr(calls.gateway))
        hanging.release()
        assert calls.infer(line(0.25)).model_name == "digits"


class Talk:
    """A stream, spoken and heard from this side."""

    def __init__(self, calls: Calls) -> None:
        self.said: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        stream = calls.channel.stream_stream(f"{SERVICE}/ModelStreamInfer")
        self.heard = stream(iter(self.said.get, None), metadata=calls.metadata, timeout=30)

    def say(self, x: Array, **fields: Any) -> None:
        self.said.put(asked(x, **fields).SerializeToString())

    def hear(self) -> ModelStreamInferResponse:
        return ModelStreamInferResponse.FromString(next(self.heard))


def test_a_stream_answers_in_the_order_of_its_requests(calls: Calls) -> None:
    talk = Talk(calls)
    many = [pictures(1, seed) for seed in range(50)]
    for number, x in enumerate(many):
        talk.say(x, id=str(number))
    for number, x in enumerate(many):
        response = talk.hear().infer_response
        assert response.id == str(number)
        np.testing.assert_allclose(told(response), calls.house.packages[1].expect(x), atol=1e-6)
    talk.said.put(None)
    assert list(talk.heard) == []
    assert talk.heard.code() is Code.OK


def test_a_bad_request_in_a_stream_ends_nothing_else(calls: Calls) -> None:
    talk = Talk(calls)
    talk.say(pictures(1), model_name="other", id="bad")
    talk.said.put(b"\xff")
    talk.say(pictures(1), id="good")
    bad, broken, good = talk.hear(), talk.hear(), talk.hear()
    assert "'other'" in bad.error_message
    assert bad.infer_response.id == "bad"
    assert "ModelInferRequest" in broken.error_message
    assert not good.error_message
    assert good.infer_response.id == "good"
    talk.said.put(None)


def test_a_stream_that_is_left_leaves_no_work(hanging: House) -> None:
    with Calls(hanging) as calls:
        talk = Talk(calls)
        for _ in range(5):
            talk.say(line(HANG))
        wait_until(lambda: "5 in flight" in repr(calls.gateway))
        talk.heard.cancel()
        wait_until(lambda: "0 waiting, 0 in flight" in repr(calls.gateway))


def test_the_end_answers_what_was_asked_and_asks_clients_to_leave(hanging: House) -> None:
    with Calls(hanging) as calls:
        infer = calls.channel.unary_unary(f"{SERVICE}/ModelInfer")
        watch = calls.channel.unary_stream(f"{HEALTH}/Watch")
        states = watch(HealthCheckRequest().SerializeToString(), timeout=30)
        assert HealthCheckResponse.FromString(next(states)).status == HealthCheckResponse.SERVING
        talk = Talk(calls)
        talk.say(line(HANG), id="streamed")
        waiting = infer.future(asked(line(HANG)).SerializeToString(), metadata=calls.metadata)
        wait_until(lambda: "2 in flight" in repr(calls.gateway))
        calls.end()
        last = HealthCheckResponse.FromString(next(states)).status
        assert last == HealthCheckResponse.NOT_SERVING
        hanging.release()
        assert ModelInferResponse.FromString(waiting.result(20)).model_name == "digits"
        assert talk.hear().infer_response.id == "streamed"
        with pytest.raises(grpc.RpcError) as ended:
            next(talk.heard)
        assert ended.value.code() is Code.UNAVAILABLE


def test_many_at_once_are_each_answered_with_their_own(calls: Calls) -> None:
    wrong: list[int] = []

    def ask(seed: int) -> None:
        for number in range(20):
            x = pictures(2, seed * 100 + number)
            got = told(calls.infer(x))
            if not np.allclose(got, calls.house.packages[1].expect(x), atol=1e-6):
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=[seed]) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_many_megabytes_go_both_ways(calls: Calls) -> None:
    x = pictures(300_000)
    got = told(calls.infer(x))
    np.testing.assert_allclose(got, calls.house.packages[1].expect(x), atol=1e-5)
    packed, _ = calls.call("ModelInfer", asked(x), compression=grpc.Compression.Gzip)
    np.testing.assert_array_equal(told(ModelInferResponse.FromString(packed)), got)


def trailers(raw: Raw) -> dict[str, str]:
    """The status of a call that is refused before it is answered."""
    return dict(raw.heard(h2.events.ResponseReceived).headers)


GOOD = asked(pictures(1)).SerializeToString()


@pytest.mark.parametrize(
    ("body", "more", "status"),
    [
        (b"", (), Code.INVALID_ARGUMENT),
        (framed(GOOD)[:-1], (), Code.INVALID_ARGUMENT),
        (framed(GOOD) * 2, (), Code.INVALID_ARGUMENT),
        (framed(GOOD, 7), (), Code.INVALID_ARGUMENT),
        (framed(GOOD, 1), (), Code.INVALID_ARGUMENT),
        (framed(GOOD, 1), (("grpc-encoding", "gzip"),), Code.INVALID_ARGUMENT),
        (framed(gzip.compress(GOOD), 1), (("grpc-encoding", "snappy"),), Code.INVALID_ARGUMENT),
        (framed(GOOD), (("grpc-timeout", "0n"),), Code.DEADLINE_EXCEEDED),
        (b"\0\xff\xff\xff\xff", (), Code.RESOURCE_EXHAUSTED),
    ],
)
def test_a_body_that_is_not_one_message_is_refused(
    calls: Calls, body: bytes, more: Any, status: grpc.StatusCode
) -> None:
    with Raw(calls) as raw:
        raw.begin(body, end=True, headers=[*raw.headers, *more])
        assert trailers(raw)["grpc-status"] == str(status.value[0])


def test_what_is_http_and_no_grpc_is_told_so(calls: Calls) -> None:
    with Raw(calls) as raw:
        headers = [one for one in raw.headers if one[0] != "content-type"]
        raw.begin(b"{}", end=True, headers=headers)
        assert trailers(raw)[":status"] == "415"
    with socket.create_connection(("127.0.0.1", int(calls.target.rpartition(":")[2]))) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        plain.settimeout(20)
        while plain.recv(1000):
            pass


def test_a_client_that_stops_in_the_middle_is_left(visual: House) -> None:
    with Calls(visual, stall_timeout_s=1.0) as calls, Raw(calls) as raw:
        raw.begin(framed(GOOD)[:20])
        said = trailers(raw)
        assert said["x-modelry-error"] == "too_slow"
        assert raw.heard(h2.events.StreamReset).error_code == 0


def test_a_client_that_reads_nothing_is_left(visual: House) -> None:
    with Calls(visual, stall_timeout_s=1.0) as calls, Raw(calls) as raw:
        body = framed(asked(pictures(1400)).SerializeToString())
        # The connection's window grows with the server's first word.
        raw.flush()
        raw.heard(h2.events.WindowUpdated)
        many = [raw.begin(body[:16_000]) for _ in range(8)]
        for stream_id in many:
            raw.client.send_data(stream_id, body[16_000:32_000])
            raw.client.send_data(stream_id, body[32_000:], end_stream=True)
        raw.flush()
        # 16,800 bytes of each answer fit the connection's window until nothing more does.
        assert raw.heard(h2.events.StreamReset).error_code == 8
        wait_until(lambda: "0 waiting, 0 in flight" in repr(calls.gateway))


def test_an_idle_or_silent_connection_is_closed(visual: House) -> None:
    with Calls(visual, keep_alive_s=1.0, head_timeout_s=1.0) as calls:
        with Raw(calls) as raw:
            raw.flush()
            assert raw.heard(h2.events.ConnectionTerminated).error_code == 0
            assert raw.socket.recv(1) == b""
        with socket.create_connection(("127.0.0.1", int(calls.target.rpartition(":")[2]))) as mute:
            mute.settimeout(20)
            with contextlib.suppress(ConnectionResetError):
                while mute.recv(1000):
                    pass
