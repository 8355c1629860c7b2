"""Calls over a real socket: errors come back as themselves, only harmless calls are repeated."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

import modelry
from modelry.client._sync import http as connection
from modelry.core.errors import (
    DeadlineExceeded,
    InternalError,
    NotFound,
    ScopeTooSmall,
    ServiceUnreachable,
    every_error,
    to_wire,
)
from tests.unit.client.answering import CUT, answering, talking

MISSING = (404, {"error": to_wire(NotFound(noun="model", name="digits"))})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(connection, "RETRY_PAUSES_S", (0.01, 0.01))
    monkeypatch.setenv("MODELRY_HOME", str(tmp_path))
    for name in ("MODELRY_URL", "MODELRY_KEY", "MODELRY_PROJECT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("code", sorted(every_error()))
def test_every_error_comes_back_in_its_own_class(code: str) -> None:
    error = every_error()[code]("What happened.", remedy="What to do.")
    with (
        talking((400, {"error": to_wire(error)})) as (_, client),
        pytest.raises(type(error)) as caught,
    ):
        client.models.get("digits")
    assert type(caught.value) is type(error)
    assert (caught.value.message, caught.value.remedy) == ("What happened.", "What to do.")
    assert caught.value.facts["request_id"] == "req_test"


def test_an_error_of_a_later_service_is_still_an_error() -> None:
    body = {"error": {"code": "not_known_yet", "message": "New.", "remedy": "", "retryable": False}}
    with talking((409, body)) as (_, client), pytest.raises(modelry.ModelryError) as caught:
        client.models.list()
    assert caught.value.code == "not_known_yet"


@pytest.mark.parametrize("body", [b"<html>a proxy</html>", {"error": "a text"}, b""])
def test_an_answer_of_somebody_else_is_told_as_such(body: object) -> None:
    with talking((502, body)) as (_, client), pytest.raises(InternalError, match="502"):
        client.models.list()


def test_a_page_that_is_no_json_is_no_service() -> None:
    with (
        talking((200, b"<html>hello</html>")) as (_, client),
        pytest.raises(InternalError, match="not JSON"),
    ):
        client.models.list()


def test_key_and_project_travel_with_each_call() -> None:
    with answering((200, [])) as server:
        with modelry.Client(server.url, "mk_a_b", project="手写") as client:
            client.models.list()
        headers = server.asked[0].headers
    assert headers["authorization"] == "Bearer mk_a_b"
    assert headers["x-modelry-project"] == "%E6%89%8B%E5%86%99"


def test_a_proxy_in_the_environment_is_passed_by_on_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with talking((200, [])) as (_, client):
        assert client.models.list() == []


def test_a_harmless_call_is_repeated_on_a_broken_connection() -> None:
    with talking(CUT, CUT, (200, [])) as (server, client):
        assert client.jobs.list() == []
        assert len(server.asked) == 3


def test_a_call_that_makes_something_is_never_repeated() -> None:
    with talking(CUT, (200, {})) as (server, client):
        with pytest.raises(ServiceUnreachable):
            client.train("cnn", data="mnist", model="mnist")
        assert len(server.asked) == 1


def test_a_refusal_is_never_repeated() -> None:
    refusal = (403, {"error": to_wire(ScopeTooSmall(scope="read"))})
    with talking(refusal) as (server, client):
        with pytest.raises(ScopeTooSmall):
            client.models.list()
        assert len(server.asked) == 1


def test_a_repeated_delete_that_finds_nothing_has_been_done() -> None:
    with talking(CUT, MISSING) as (server, client):
        client.models.delete("digits")
    with talking(MISSING) as (server, client), pytest.raises(NotFound):
        client.models.delete("digits")


def test_nobody_at_the_address_is_told_with_the_remedy() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with modelry.Client(url) as client, pytest.raises(ServiceUnreachable, match="modelry up"):
        client.status()


def test_a_service_that_hangs_is_left_after_the_time_out() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with modelry.Client(url, timeout_s=0.05) as client, pytest.raises(DeadlineExceeded):
            client.status()


def test_the_async_client_speaks_the_same() -> None:
    async def story(url: str) -> None:
        async with modelry.AsyncClient(url) as client:
            assert await client.models.list() == []
            with pytest.raises(NotFound):
                await client.models.get("digits")

    with answering((200, []), MISSING) as server:
        asyncio.run(story(server.url))
