"""Where the service listens, what it refuses, and what it warns of."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from modelry.core.errors import InvalidSetting, PortTaken
from modelry.core.settings import Settings
from modelry.server.supervisor.door import answers, check_address, listen, local_url


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
