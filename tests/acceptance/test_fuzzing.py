"""Every call of the OpenAPI document with bodies, paths and queries that nobody would send; no answer breaks its word.

scripts/fuzz 500    the same for longer, with noise at the sockets
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from modelry.artifacts import Artifacts
from modelry.core.records import Snapshot
from modelry.core.settings import load_settings
from modelry.server.api.app import create_app
from modelry.server.api.openapi import document
from modelry.server.gateway import Gateway
from modelry.server.store import Store
from tests.acceptance.shelf import publish
from tests.acceptance.test_clients_triton_grpc import publish_echo
from tests.api import Api
from tests.service import running_service

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "12"))
#: A healthy service ends with these at worst: a version that is not there yet, a deadline of a microsecond.
EXCUSED = frozenset({"no_ready_replica", "deadline_exceeded"})
#: Calls that would end or change what the others ask.
CHANGES = ("/stop", "/unload", "/load", "/rollback", "/promote")


def operations() -> list[APIOperation[Any, Any, Any, Any]]:
    """Those of an application that serves nothing."""
    with tempfile.TemporaryDirectory() as home:
        configured = load_settings(home=home)
        configured.places.secret.write_bytes(bytes(32))
        gateway = Gateway(lambda: Snapshot(number=0, routes={}, keys={}), b"", configured)
        store = Store(configured.database_address)
        app = create_app(configured, store, Artifacts(configured.artifacts_address), gateway)
        store.close()
    loaded = schemathesis.openapi.from_dict(document(app))
    return [result.ok() for result in loaded.get_all_operations()]


@dataclass(frozen=True)
class Target:
    url: str
    key: str


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A service with two deployments."""
    home = tmp_path_factory.mktemp("fuzzed") / "home"
    with running_service(home) as service, Api(service) as api:
        publish_echo(service)
        publish(service, "answers")
        for name in ("echo", "answers"):
            api.post("/deployments", {"model": name, "name": name})
            api.wait_deployment(name, "ready")
        yield Target(service.url, service.key)
        for name in ("echo", "answers"):
            api.wait_deployment(name, "ready")
        assert "Traceback" not in (Path(home) / "logs" / "web-0.log").read_text()


@pytest.mark.parametrize("operation", operations(), ids=lambda operation: operation.label)
def test_no_call_breaks_its_word(
    operation: APIOperation[Any, Any, Any, Any], target: Target
) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(operation), st.sampled_from(["answers", "echo", None]), st.booleans())
    def ask(case: schemathesis.Case, name: str | None, elsewhere: bool) -> None:
        changes = operation.method in ("delete", "patch") or operation.path.endswith(CHANGES)
        if name and not changes:
            # A name that nobody could guess leads nowhere but to 404.
            if "name" in (case.path_parameters or {}):
                case.path_parameters["name"] = name
            if not elsewhere and case.headers:
                case.headers.pop("x-modelry-project", None)
        headers = {"authorization": f"Bearer {target.key}"}
        check(case, case.call(base_url=target.url, headers=headers, timeout=30))

    ask()


def cases(operation: APIOperation[Any, Any, Any, Any]) -> st.SearchStrategy[schemathesis.Case]:
    """What the document allows, and what it does not."""
    allowed = operation.as_strategy()
    if not (operation.body or operation.query or operation.path_parameters):
        return allowed
    forbidden = operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
    return st.one_of(allowed, forbidden)


def check(case: schemathesis.Case, answer: Any) -> None:
    """The answer is one that the document tells of, and blames nobody for what is no one's fault."""
    assert answer.headers.get("x-request-id"), answer
    if answer.status_code >= 500:
        assert code_of(answer) in EXCUSED, answer.text
    case.validate_response(
        answer,
        checks=[status_code_conformance, content_type_conformance, response_schema_conformance],
    )


def code_of(answer: requests.Response) -> str:
    said = answer.json()["error"]
    return str(said["code"] if isinstance(said, dict) else answer.headers["x-modelry-error"])
