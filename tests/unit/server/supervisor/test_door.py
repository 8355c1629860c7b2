"""Where the service listens, what it refuses, and what it warns of."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

import pytest

from modelry.core.errors import InvalidSetting, PortTaken
from modelry.core.settings import Settings
from modelry.server.supervisor.door import (
    answers,
    check_address,
    grpc_target,
    listen,
    local_url,
    share,
)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_this_machine_alone_needs_no_tls(host: str) -> None:
    assert check_address(Settings(host=host)) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "models.example", ""])
def test_plain_http_for_others_is_refused_unless_asked_for(host: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        check_address(Settings(host=host))
    assert "MODELRY_INSECURE_HTTP" in refused.value.remedy
    warning = check_address(Settings(host=host, insecure_http=True))
    assert warning is not None
    assert "can be read" in warning
    tls = Settings(host=host, tls_cert=Path("cert.pem"), tls_key=Path("key.pem"))
    assert check_address(tls) is None


def test_a_port_in_use_is_refused() -> None:
    with listen("127.0.0.1", 0) as door, pytest.raises(PortTaken):
        listen("127.0.0.1", door.getsockname()[1])


def test_a_shared_port_deals_its_connections_out() -> None:
    doors = share("127.0.0.1", 0, 3)
    port = doors[0].getsockname()[1]
    assert {door.getsockname()[1] for door in doors} == {port}
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(90)]
    counts = []
    for door in doors:
        door.setblocking(False)
        counts.append(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                door.accept()[0].close()
                counts[-1] += 1
    assert sum(counts) == 90
    # Fair dice give fewer than 10 of 90 once in 10,000 times.
    assert min(counts) >= 10
    for one in (*clients, *doors):
        one.close()


def test_a_shared_port_is_shared_with_nobody_else() -> None:
    doors = share("127.0.0.1", 0, 2)
    port = doors[0].getsockname()[1]
    with pytest.raises(PortTaken, match=str(port)) as refused:
        share("127.0.0.1", port, 1)
    assert "MODELRY_GRPC_PORT" in refused.value.remedy
    with pytest.raises(PortTaken):
        listen("127.0.0.1", port)
    for door in doors:
        door.close()
    for door in share("127.0.0.1", port, 1):
        door.close()


def test_programs_get_the_address_as_grpc_wants_it() -> None:
    assert grpc_target("0.0.0.0", 8643) == "127.0.0.1:8643"
    assert grpc_target("::", 8643) == "[::1]:8643"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, 8643),
        ({"port": 9000}, 9001),
        ({"port": 0}, 0),
        ({"port": 65535}, 0),
        ({"port": 0, "grpc_port": 7}, 7),
    ],
)
def test_grpc_is_at_the_next_port_unless_told(given: dict[str, int], wanted: int) -> None:
    assert Settings(**given).grpc_address == ("127.0.0.1", wanted)  # type: ignore[arg-type]


def test_patience_outlasts_a_service_that_is_leaving() -> None:
    leaving = listen("127.0.0.1", 0)
    port = leaving.getsockname()[1]
    timer = threading.Timer(0.05, leaving.close)
    timer.start()
    with listen("127.0.0.1", port, patience_s=10) as door:
        assert door.getsockname()[1] == port
    timer.join()


def test_an_address_that_is_not_ours_is_a_wrong_setting() -> None:
    with pytest.raises(InvalidSetting):
        listen("192.0.2.1", 0)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("models.example", "http://models.example:80"),
    ],
)
def test_programs_on_this_machine_get_an_address_that_works(host: str, url: str) -> None:
    assert local_url(Settings(host=host), 80) == url


def test_a_door_that_nobody_answers_at_is_no_service() -> None:
    with listen("127.0.0.1", 0) as door:
        assert not answers(Settings(), door.getsockname()[1], 0.05)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert not answers(Settings(), closed.getsockname()[1], 0.05)
