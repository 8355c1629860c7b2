"""Every route as no key, wrong key, another project's key, too small a scope, and owner; the list is the router's."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Route

from modelry.artifacts import Artifacts
from modelry.core.keys import new_key
from modelry.core.records import SCOPES, Snapshot
from modelry.core.settings import Settings
from modelry.server.api.app import OPEN_PATHS, create_app, scope_of
from modelry.server.api.auth import guarded_router
from modelry.server.gateway import Gateway
from modelry.server.store import Store, jobs
from tests.unit.server.api.nouns import add_dataset, add_deployment, add_model
from tests.unit.server.api.web import Web


@dataclass(frozen=True)
class Nouns:
    """What the paths of one project's calls name."""

    project: str
    values: dict[str, str]

    def path(self, template: str) -> str:
        """The path with this project's names in it; each name stands for the noun before it."""
        noun = template.removeprefix("/api/v1/").partition("/")[0] or "deployments"
        values = {**self.values, "name": self.values.get(f"{noun} name", "house")}
        return re.sub(r"\{(\w+)(:\w+)?\}", lambda found: values[found[1]], template)


def _collect() -> dict[tuple[str, str], BaseRoute]:
    """Every (method, path) of an application, read from its router; no call is ever made to this one."""
    with tempfile.TemporaryDirectory(prefix="modelry-routes-") as folder:
        settings = Settings(home=Path(folder))
        settings.places.secret.write_bytes(b"none")
        gateway = Gateway(lambda: Snapshot(number=0, routes={}, keys={}), b"", settings)
        store = Store(settings.database_address)
        app = create_app(settings, store, Artifacts(settings.artifacts_address), gateway)
    found: dict[tuple[str, str], BaseRoute] = {}
    for route in app.routes:
        assert isinstance(route, Route), f"{route} is no route with a path and methods"
        for method in (route.methods or set()) - {"HEAD"}:
            found[method, route.path] = route
    return found


ROUTES = _collect()
GUARDED = [call for call in sorted(ROUTES) if call[1] not in OPEN_PATHS]
#: Calls that a project's key may make; the others take an instance key, which may name any project.
OF_PROJECTS = [call for call in GUARDED if scope_of(ROUTES[call]) != "admin"]
#: Calls of foreign protocols that only say what this service does not offer.
REFUSED = re.compile(r"/v2/(\w+sharedmemory|trace|logging|.*/trace/setting)|.*:(classify|regress)$")
#: The status of a call that is let in, and finds a deployment that nobody has started.
NOT_READY = re.compile(r"/(v2|hf)/.*/(ready|health)")


@pytest.fixture(scope="module")
def ours(web: Web) -> Nouns:
    return make_nouns(web, web.project("ours"))


@pytest.fixture(scope="module")
def theirs(web: Web) -> Nouns:
    return make_nouns(web, web.project("theirs"))


def make_nouns(web: Web, project: str) -> Nouns:
    """One of everything, its names the same as no other project's."""
    add_dataset(web.store, web.artifacts, project, f"{project}-data")
    version = add_model(web.store, web.artifacts, project, f"{project}-model")
    add_deployment(web.store, project, f"{project}-deployment", version)
    headers = {"x-modelry-project": project}
    web.value(
        web.ask(
            "PUT",
            f"/api/v1/models/{project}-model/aliases/production",
            json={"version": 1},
            headers=headers,
        )
    )
    upload = web.value(web.ask("POST", "/api/v1/uploads", headers=headers))
    with web.store.write() as tx:
        job = jobs.create(
            tx,
            project=project,
            kind="sleep",
            makes="",
            params={},
            inputs={},
            threads=1,
            memory_limit_bytes=None,
            time_limit_s=None,
        )
    values = {
        "datasets name": f"{project}-data",
        "models name": f"{project}-model",
        "deployments name": f"{project}-deployment",
        "projects name": project,
        "upload_id": upload["id"],
        "job_id": job.id,
        "key_id": web.key("read", project=project).split("_")[1],
        "version": "1",
        "alias": "production",
        "label": "production",
        "call": "status",
        "task": "image-classification",
        "path": "forms/模型.onnx",
    }
    return Nouns(project, values)


def call(web: Web, method: str, template: str, nouns: Nouns, key: str | None) -> httpx.Response:
    return web.ask(method, nouns.path(template), key=key)


def code_of(answer: httpx.Response) -> str:
    """The error's code; the TensorFlow Serving door has it in a header."""
    return str(answer.headers.get("x-modelry-error") or answer.json()["error"]["code"])


def test_every_route_declares_a_scope_and_health_alone_is_open() -> None:
    healths = ["/health", "/v2/health/live", "/v2/health/ready"]
    assert frozenset(healths) == OPEN_PATHS
    undeclared = [path for (_, path), route in ROUTES.items() if scope_of(route) is None]
    assert undeclared == healths
    assert {scope_of(route) for route in ROUTES.values()} - {None} <= set(SCOPES)


def test_a_route_without_a_permission_cannot_be_made() -> None:
    router: APIRouter = guarded_router()
    with pytest.raises(TypeError, match="declares no permission"):
        router.get("/api/v1/forgotten")(lambda: None)


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_nobody_enters_without_a_key(web: Web, ours: Nouns, method: str, path: str) -> None:
    answer = call(web, method, path, ours, None)
    assert (answer.status_code, code_of(answer)) == (401, "no_key")
    assert answer.headers["www-authenticate"] == "Bearer"


def wrong_keys(web: Web) -> Iterator[str]:
    yield new_key().text
    public, secret = web.admin.split("_")[1:]
    yield f"mk_{public}_{secret[:-1]}x"
    yield f"mk_{new_key().id}_{secret}"
    yield "mk_nokey"


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_nobody_enters_with_a_wrong_key(web: Web, ours: Nouns, method: str, path: str) -> None:
    for key in wrong_keys(web):
        answer = call(web, method, path, ours, key)
        assert (answer.status_code, code_of(answer)) == (401, "invalid_key")


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_every_other_scope_is_too_small(web: Web, ours: Nouns, method: str, path: str) -> None:
    needed = scope_of(ROUTES[method, path])
    others = [scope for scope in SCOPES if scope not in (needed, "admin")]
    key = web.key(*others, project=ours.project)
    answer = call(web, method, path, ours, key)
    assert (answer.status_code, code_of(answer)) == (403, "scope_too_small")


@pytest.mark.parametrize(
    ("method", "path"),
    [one for one in OF_PROJECTS if "{" in one[1] and not REFUSED.match(one[1])],
)
def test_what_belongs_to_another_project_does_not_exist(
    web: Web, ours: Nouns, theirs: Nouns, method: str, path: str
) -> None:
    needed = scope_of(ROUTES[method, path])
    assert needed is not None
    key = web.key(needed, project=ours.project)
    route = ROUTES[method, path]
    takes_one = not isinstance(route, APIRoute) or route.body_field is not None
    body = {"json": a_body(path)} if takes_one else {}
    answer = web.ask(method, theirs.path(path), key=key, **body)
    assert (answer.status_code, code_of(answer)) == (404, "not_found"), answer.text


def a_body(path: str) -> dict[str, object]:
    """A body that is good enough to come to the question whose noun it is."""
    return {"version": 1} if "aliases" in path else {}


@pytest.mark.parametrize(("method", "path"), OF_PROJECTS)
def test_naming_another_project_opens_nothing(
    web: Web, ours: Nouns, theirs: Nouns, method: str, path: str
) -> None:
    needed = scope_of(ROUTES[method, path])
    assert needed is not None
    key = web.key(needed, project=ours.project)
    answer = web.ask(
        method, ours.path(path), key=key, headers={"x-modelry-project": theirs.project}
    )
    assert (answer.status_code, code_of(answer)) == (404, "not_found")


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_the_owner_is_let_in(web: Web, ours: Nouns, method: str, path: str) -> None:
    """Into the call, that is: whether it succeeds is another test's; here deletes find nothing to delete."""
    needed = scope_of(ROUTES[method, path])
    assert needed is not None
    key = web.admin if needed == "admin" else web.key(needed, project=ours.project)
    nouns = ours if method == "GET" else nobody(ours)
    answer = call(web, method, path, nouns, key)
    assert answer.status_code not in (401, 403, 405, 500), answer.text
    if REFUSED.match(path):
        assert answer.status_code == 400
    elif method == "GET":
        expected = 404 if path.startswith("/api/v1/datasets") and "files" in path else 200
        expected = 503 if NOT_READY.fullmatch(path) else expected
        assert answer.status_code == expected, answer.text


def nobody(ours: Nouns) -> Nouns:
    """Names that name nothing, so that the calls of a list of tests do not take from each other."""
    values = {name: "1" if name == "version" else "nobody" for name in ours.values}
    return Nouns(ours.project, values)
