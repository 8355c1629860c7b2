"""The OpenAPI document has every call of the service, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from starlette.routing import Route

from modelry.server.api.openapi import document, template_of
from modelry.server.api.openapi.calls import CALLS, REFUSED
from tests.unit.server.api.web import Web

#: The document itself, in its two forms.
ITSELF = {("GET", "/openapi.json"), ("GET", "/docs")}


@pytest.fixture
def schema(web: Web) -> dict[str, Any]:
    found: dict[str, Any] = web.ask("GET", "/openapi.json").json()
    assert found == document(web.app)
    return found


def calls_of(schema: dict[str, Any]) -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, calls in schema["paths"].items() for method in calls}


def test_every_route_is_described_but_those_that_only_refuse(
    web: Web, schema: dict[str, Any]
) -> None:
    routes = {
        (method, template_of(route.path))
        for route in web.app.routes
        if isinstance(route, Route) and not any(part in route.path for part in REFUSED)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert routes - ITSELF == calls_of(schema)
    assert set(CALLS) <= calls_of(schema)


def test_every_call_says_what_it_does_and_how_it_may_end(schema: dict[str, Any]) -> None:
    names = set()
    for path, calls in schema["paths"].items():
        for call in calls.values():
            assert call.get("description") or path == "/health", path
            assert call["tags"], path
            assert "422" not in call["responses"], path
            assert not call.get("security") or "4XX" in call["responses"], path
            names.add(call["operationId"])
    assert len(names) == len(calls_of(schema))


def test_all_but_health_needs_a_key(schema: dict[str, Any]) -> None:
    without = {
        path
        for path, calls in schema["paths"].items()
        for call in calls.values()
        if not call.get("security")
    }
    assert without == {"/health", "/v2/health/live", "/v2/health/ready"}


def test_programs_that_read_such_documents_understand_it(schema: dict[str, Any]) -> None:
    loaded = schemathesis.openapi.from_dict(schema)
    operations = [result.ok() for result in loaded.get_all_operations()]
    assert len(operations) == len(calls_of(schema))


def test_the_page_tells_of_the_same_calls(web: Web, schema: dict[str, Any]) -> None:
    page = web.ask("GET", "/docs").text
    for method, path in calls_of(schema):
        assert f"{method} {path}\n" in page
    assert "instances:" in page or "instances\n" in page
