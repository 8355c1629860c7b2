"""Every error has a status, and every answer that is an error has the one shape."""

from __future__ import annotations

import asyncio
from typing import Annotated

import httpx
import pytest
from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware import Middleware

from modelry.core.errors import ModelryError, Overloaded, every_error, from_wire
from modelry.server.api.envelope import Envelope
from modelry.server.api.errors import STATUS_OF_CODE, add_error_handlers, status_of


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")
    steps: int = Field(ge=1)
    names: list[str] = []


def app() -> FastAPI:
    made = FastAPI(middleware=[Middleware(Envelope)])
    add_error_handlers(made)

    @made.post("/things")
    def make(body: Thing, limit: Annotated[int, Query(ge=1)] = 1) -> None: ...

    @made.get("/broken")
    def broken() -> None:
        raise ZeroDivisionError("secret detail")

    @made.get("/busy")
    def busy() -> None:
        raise Overloaded(name="digits", queued=1024)

    return made


def ask(method: str, path: str, **options: object) -> httpx.Response:
    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(app())
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **options)  # type: ignore[arg-type]

    return asyncio.run(call())


def error_of(answer: httpx.Response) -> ModelryError:
    """The error of an answer, which has the one shape and nothing else."""
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "remedy", "retryable"}
    assert answer.headers["x-request-id"]
    error = from_wire(body["error"])
    assert answer.status_code == status_of(error)
    return error


def test_every_error_has_a_status_and_no_status_is_for_nothing() -> None:
    assert set(STATUS_OF_CODE) == set(every_error())


@pytest.mark.parametrize("code", sorted(every_error()))
def test_errors_that_may_succeed_later_have_a_status_that_says_so(code: str) -> None:
    is_for_later = STATUS_OF_CODE[code] in (429, 502, 503, 504, 507)
    assert is_for_later == every_error()[code].retryable


def test_an_error_of_a_later_peer_is_a_500() -> None:
    assert status_of(from_wire({"code": "not_yet_invented", "message": "?"})) == 500


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"json": {}}, "'steps': required"),
        ({"json": {"steps": 0}}, "'steps': should be greater than or equal to 1"),
        ({"json": {"steps": 1, "speed": 2}}, "the field 'speed' is not known"),
        ({"json": {"steps": 1, "names": [1]}}, "'names.0': should be a valid string"),
        ({"json": {"steps": 1}, "params": {"limit": 0}}, "'limit' in the query: should be greater"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, "is not JSON"),
        ({"content": b"\xff\xfe{", "headers": {"content-type": "application/json"}}, "body"),
        ({}, "the body required"),
    ],
)
def test_a_malformed_body_names_the_field_and_the_reason(
    options: dict[str, object], reason: str
) -> None:
    error = error_of(ask("POST", "/things", **options))
    assert error.code == "invalid_request"
    assert reason in error.message


def test_an_unknown_path_is_not_found() -> None:
    assert error_of(ask("GET", "/nowhere")).code == "not_found"


def test_a_wrong_method_names_the_right_one() -> None:
    answer = ask("DELETE", "/things")
    assert error_of(answer).code == "method_not_allowed"
    assert answer.headers["allow"] == "POST"


def test_our_own_mistake_tells_its_number_and_nothing_else() -> None:
    error = error_of(ask("GET", "/broken", headers={"x-request-id": "mine-1"}))
    assert error.code == "internal_error"
    assert "mine-1" in error.remedy
    assert "secret detail" not in str(error)


def test_what_may_succeed_later_says_when_to_try_again() -> None:
    answer = ask("GET", "/busy")
    assert error_of(answer).retryable
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("sent", ["", "a b", "x" * 65, "a\x0bb", "é"])
def test_a_request_id_that_is_not_fit_for_a_log_is_replaced(sent: str) -> None:
    answer = ask("GET", "/nowhere", headers={"x-request-id": sent.encode()})
    assert answer.headers["x-request-id"].startswith("req_")
