"""What a client sees of a bad body and of a database that is locked or gone."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.server.api.web import Web, error_of


def test_a_body_over_the_limit_is_refused_announced_or_not(web: Web) -> None:
    big = b'{"name": "' + b"x" * web.settings.max_body_bytes + b'"}'
    json = {"content-type": "application/json"}
    for content in (big, iter([big])):
        answer = web.ask("POST", "/api/v1/projects", content=content, headers=json)
        assert error_of(answer).code == "body_too_large"


def test_the_key_is_asked_for_before_the_body_is_looked_at(web: Web) -> None:
    answer = web.ask("POST", "/api/v1/projects", key=None, content=b"{" * 100_000)
    assert error_of(answer).code == "no_key"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b'{"name": NaN}'])
def test_a_body_that_is_no_object_of_ours_is_refused(web: Web, content: bytes) -> None:
    json = {"content-type": "application/json"}
    answer = web.ask("POST", "/api/v1/projects", content=content, headers=json)
    assert error_of(answer).code == "invalid_request"


def test_other_hosts_and_origins_are_refused_and_numbered(web: Web) -> None:
    for header in ({"host": "evil.example"}, {"origin": "http://evil.example"}):
        answer = web.ask("GET", "/health", headers=header)
        assert error_of(answer).code == "host_refused"
        assert answer.status_code == 403


def test_the_reference_names_every_call_and_field(web: Web) -> None:
    schema = web.value(web.ask("GET", "/openapi.json"))
    assert "/api/v1/jobs" in schema["paths"]
    page = web.ask("GET", "/docs").text
    assert "POST /api/v1/deployments" in page
    assert "checkpoint_steps (optional): Steps between checkpoints" in page


def test_a_path_with_a_slash_too_many_is_another_path(web: Web) -> None:
    answer = web.ask("GET", "/api/v1/jobs/", key=None)
    assert error_of(answer).code == "not_found"


def test_no_answer_names_the_server(web: Web) -> None:
    answer = web.ask("GET", "/health", key=None)
    assert answer.json()["status"] == "ok"
    assert "server" not in answer.headers


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Web]:
    """A web process that waits a short time only for the database."""
    with Web(tmp_path / "home", busy_timeout_s=0.05) as running:
        yield running


def test_a_locked_database_is_said_and_then_all_is_well(lone: Web) -> None:
    locker = sqlite3.connect(lone.settings.places.database, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    error = lone.refused("POST", "/projects", json={"name": "other"})
    assert error.code == "store_unavailable"
    assert error.retryable
    # Readers are not in a writer's way.
    assert [one["name"] for one in lone.get("/projects")] == ["default"]
    locker.execute("ROLLBACK")
    locker.close()
    assert lone.post("/projects", {"name": "other"})["name"] == "other"


def test_a_database_that_is_gone_leaves_keys_and_routes_in_use(lone: Web) -> None:
    database = lone.settings.places.database
    aside = database.with_name("aside.db")
    database.rename(aside)
    assert lone.refused("GET", "/projects").code == "store_unavailable"
    assert lone.ask("GET", "/api/v1/whoami").is_success
    assert lone.refused("GET", "/whoami", key="mk_unknown_key").code == "invalid_key"
    answer = lone.ask("POST", "/predict/digits", json={"input": 1})
    assert error_of(answer).code == "not_found"
    with pytest.raises(Exception, match="does not answer"):
        asyncio.run(lone.app.state.service.catch_up())
    aside.rename(database)
    assert lone.post("/projects", {"name": "other"})["name"] == "other"
