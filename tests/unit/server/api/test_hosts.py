"""A web page elsewhere cannot drive a local service: not by a rebound name, not by a request across origins."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers

from modelry.core.settings import Settings
from modelry.server.api.hosts import HostGuard


def is_answered(settings: Settings, **headers: str) -> bool:
    return HostGuard(Starlette(), settings).check(Headers(headers)) is None


@pytest.fixture
def local(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, allowed_hosts=("models.example.org",))


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8642",
        "LOCALHOST:8642",
        "localhost.:8642",
        "127.0.0.1:8642",
        "127.3.2.1",
        "[::1]:8642",
        "models.example.org",
        "Models.Example.Org:443",
    ],
)
def test_our_own_names_are_answered(local: Settings, host: str) -> None:
    assert is_answered(local, host=host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example@localhost",
        "localhost/evil",
        "localhost:port",
        "[::1",
        "192.168.1.5:8642",
        "0.0.0.0",
        "xn--models-.example.org",
    ],
)
def test_other_names_are_refused(local: Settings, host: str) -> None:
    assert not is_answered(local, host=host)


def test_a_missing_or_doubled_host_is_refused(local: Settings) -> None:
    guard = HostGuard(Starlette(), local)
    assert guard.check(Headers({})) is not None
    doubled = Headers(raw=[(b"host", b"localhost"), (b"host", b"evil.example")])
    assert guard.check(doubled) is not None


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:8642", "http://localhost:8642"),
        ("127.0.0.1:8642", "http://127.0.0.1:8642"),
        ("models.example.org", "https://models.example.org"),
        ("models.example.org", "https://models.example.org:443"),
        ("[::1]:8642", "http://[::1]:8642"),
    ],
)
def test_a_page_of_our_own_may_call(local: Settings, host: str, origin: str) -> None:
    assert is_answered(local, host=host, origin=origin)


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://evil.example",
        "http://localhost",
        "http://localhost:3000",
        "https://localhost",
        "file://",
        "chrome-extension://abcdef",
        "http://localhost:8642.evil.example",
        "http://localhost:8642/path",
        "http://127.0.0.1:8642",
    ],
)
def test_a_page_from_elsewhere_may_not(local: Settings, origin: str) -> None:
    assert not is_answered(local, host="localhost:8642", origin=origin)


def test_who_listens_everywhere_answers_to_addresses_but_not_to_unknown_names(
    tmp_path: Path,
) -> None:
    everywhere = Settings(home=tmp_path, host="0.0.0.0")
    assert is_answered(everywhere, host="192.168.1.5:8642")
    assert is_answered(everywhere, host="[fe80::1]:8642")
    assert not is_answered(everywhere, host="evil.example:8642")
