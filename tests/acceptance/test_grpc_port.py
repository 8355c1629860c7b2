"""The gRPC port of a whole service: shared by web processes, kept while they die, and nobody else's."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import threading
from pathlib import Path

import grpc
import psutil
import pytest

from modelry.server.api.grpc.wire.open_inference_pb2 import (
    ModelInferRequest,
    ServerMetadataResponse,
)
from tests.acceptance.shelf import ROW, publish
from tests.acceptance.test_clients_triton_grpc import grpc_target_of, publish_echo, run_client
from tests.api import Api
from tests.service import Service, kill_hard, running_service, wait_until

SERVICE = "/inference.GRPCInferenceService"
WEB = "modelry.server.api.serve"


def connect(service: Service) -> grpc.Channel:
    """A connection of its own."""
    return grpc.insecure_channel(grpc_target_of(service), [("grpc.use_local_subchannel_pool", 1)])


def call(service: Service, channel: grpc.Channel, method: str, data: bytes = b"") -> bytes:
    metadata = (("authorization", f"Bearer {service.key}"),)
    unary = channel.unary_unary(f"{SERVICE}/{method}")
    answer: bytes = unary(data, metadata=metadata, timeout=20, wait_for_ready=True)
    return answer


def ask(service: Service, channel: grpc.Channel) -> bytes:
    """A prediction of the deployment `answers`."""
    message = ModelInferRequest(model_name="answers")
    added = message.inputs.add(name="x", datatype="FP32", shape=[1, len(ROW)])
    added.contents.fp32_contents.extend(ROW)
    return call(service, channel, "ModelInfer", message.SerializeToString())


def ask_again(service: Service, channel: grpc.Channel, tries: int = 5) -> bytes:
    """The same, again where the client's end of a dead connection had not been seen to end."""
    try:
        return ask(service, channel)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017
        assert tries
        return ask_again(service, channel, tries - 1)


def connections(process: psutil.Process, target: str) -> int:
    """How many clients a process has on the port."""
    port = int(target.rpartition(":")[2])
    return sum(
        one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED
        for one in process.net_connections("tcp")
    )


def answers_in_clear(target: str) -> bool:
    """Whether anybody speaks gRPC there, without TLS."""
    with grpc.insecure_channel(target) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=0.5)
        except grpc.FutureTimeoutError:
            return False
    return True


def test_connections_are_spread_over_web_processes_and_outlive_each(tmp_path: Path) -> None:
    with running_service(tmp_path / "home", web="2") as service, Api(service) as api:
        publish(service, "answers")
        api.post("/deployments", {"model": "answers", "name": "answers"})
        api.wait_deployment("answers", "ready")
        target = grpc_target_of(service)
        assert f"gRPC (Open Inference Protocol) at {target}" in service.said
        channels = [connect(service) for _ in range(40)]
        for channel in channels:
            ask(service, channel)
        first, second = service.find(WEB)
        # Fair coins give fewer than 8 of 40 once in 50,000 times.
        assert min(connections(first, target), connections(second, target)) >= 8
        kill_hard(first.pid)
        for channel in channels:
            ask_again(service, channel)
        wait_until(lambda: len(service.find(WEB)) == 2, 30, "another web process")
        for channel in channels:
            channel.close()


def test_a_call_in_flight_is_answered_when_the_service_ends(tmp_path: Path) -> None:
    with running_service(tmp_path / "home") as service, Api(service) as api:
        publish(service, "answers", turns=20_000)
        api.post("/deployments", {"model": "answers", "name": "answers"})
        api.wait_deployment("answers", "ready")
        target = grpc_target_of(service)
        answers: list[bytes] = []
        with connect(service) as channel:
            asking = threading.Thread(target=lambda: answers.append(ask(service, channel)))
            call(service, channel, "ServerMetadata")
            asking.start()
            wait_until(lambda: is_in_flight(api), 20, "a replica has it")
            assert service.stop() == 0
            asking.join(30)
        assert answers
        assert not answers_in_clear(target)


def is_in_flight(api: Api) -> bool:
    page = api.ask("GET", "/metrics").text
    return re.search(r"modelry_requests_in_flight\{.*\} 1(\.0)?\n", page) is not None


def test_a_killed_service_leaves_no_port_taken(tmp_path: Path) -> None:
    with running_service(tmp_path / "home") as service:
        target = grpc_target_of(service)
        service.settings["grpc_port"] = target.rpartition(":")[2]
        for _ in range(2):
            service.kill_everything()
            service.start()
            assert grpc_target_of(service) == target
            with connect(service) as channel:
                data = call(service, channel, "ServerMetadata")
            assert ServerMetadataResponse.FromString(data).name == "modelry"


def test_the_port_belongs_to_one_service(tmp_path: Path) -> None:
    with running_service(tmp_path / "home") as service:
        port = grpc_target_of(service).rpartition(":")[2]
        second = Service(tmp_path / "second", grpc_port=port)
        with pytest.raises(AssertionError, match="MODELRY_GRPC_PORT"):
            second.start()


def test_without_grpc_there_is_no_port(tmp_path: Path) -> None:
    with running_service(tmp_path / "home", grpc="false") as service:
        assert "grpc_url" not in json.loads((service.home / "service.json").read_text())
        (web,) = service.find(WEB)
        ports = {one.laddr.port for one in web.net_connections("tcp") if one.status == "LISTEN"}
        assert ports == {int(service.url.rpartition(":")[2])}
        # Only gRPC needs this library.
        assert "_upb" not in Path(f"/proc/{web.pid}/maps").read_text()


def test_with_a_certificate_grpc_speaks_tls_too(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        + ["-nodes", "-days", "1", "-subj", "/CN=localhost", "-keyout", str(key)]
        + ["-out", str(cert), "-addext", "subjectAltName=IP:127.0.0.1"],
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip("no openssl here to make a certificate")
    service = Service(tmp_path / "home", tls_cert=str(cert), tls_key=str(key))
    service.authority = ssl.create_default_context(cafile=str(cert))
    try:
        service.start()
        assert not answers_in_clear(grpc_target_of(service))
        publish_echo(service)
        found = run_client(service, str(cert))
        assert found["the_server_lives_and_is_ready_without_a_key"] == ""
    finally:
        service.kill_everything()
