"""Models: aliases move, versions and files stay, and what is deployed cannot be removed."""

from __future__ import annotations

import pytest

from modelry.core.records import ModelVersion
from tests.unit.server.api.nouns import add_deployment, add_model
from tests.unit.server.api.web import Web


@pytest.fixture
def headers(project: str) -> dict[str, str]:
    return {"x-modelry-project": project}


@pytest.fixture
def versions(web: Web, project: str) -> list[ModelVersion]:
    """Two versions of the model `digits`."""
    return [
        add_model(web.store, web.artifacts, project, "digits", job_id=f"job_{number}")
        for number in (1, 2)
    ]


def test_a_version_is_found_by_number_alias_and_latest(
    web: Web, headers: dict[str, str], versions: list[ModelVersion]
) -> None:
    alias = "/api/v1/models/digits/aliases/生产"
    moved = web.value(web.ask("PUT", alias, json={"version": 1}, headers=headers))
    assert moved["aliases"] == {"生产": 1}
    for name, number in (("1", 1), ("2", 2), ("latest", 2), ("生产", 1)):
        found = web.get(f"/models/digits/versions/{name}", headers=headers)
        assert (found["id"], found["version"]) == (versions[number - 1].id, number)
    web.value(web.ask("PUT", alias, json={"version": 2}, headers=headers))
    assert web.get("/models/digits/versions/生产", headers=headers)["version"] == 2
    assert web.ask("DELETE", alias, headers=headers).status_code == 204
    error = web.refused("GET", "/models/digits/versions/生产", headers=headers)
    assert error.code == "not_found"
    assert [one["version"] for one in web.get("/models/digits/versions", headers=headers)] == [2, 1]


@pytest.mark.parametrize(
    ("alias", "body", "code"),
    [
        ("latest", {"version": 1}, "invalid_name"),
        ("12", {"version": 1}, "invalid_name"),
        ("a b", {"version": 1}, "invalid_name"),
        ("good", {"version": 9}, "not_found"),
        ("good", {"version": 0}, "invalid_request"),
        ("good", {"version": "1"}, "invalid_request"),
        ("good", {}, "invalid_request"),
    ],
)
def test_an_alias_is_a_word_for_a_version_that_exists(
    web: Web,
    headers: dict[str, str],
    versions: list[ModelVersion],
    alias: str,
    body: dict[str, object],
    code: str,
) -> None:
    path = f"/models/digits/aliases/{alias}"
    assert web.refused("PUT", path, json=body, headers=headers).code == code


def test_a_file_of_the_package_is_answered_as_it_is(
    web: Web, project: str, headers: dict[str, str], versions: list[ModelVersion]
) -> None:
    url = "/api/v1/models/digits/versions/2/files/forms/模型.onnx"
    answer = web.ask("GET", url, headers=headers)
    assert answer.content == f"weights of {project}/digits".encode()
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert versions[1].files[0].digest in answer.headers["etag"]
    part = web.ask("GET", url, headers={**headers, "range": "bytes=0-6"})
    assert (part.status_code, part.content) == (206, b"weights")
    for path in ("model.onnx", "forms", "%2e%2e/secret", "../../../secret"):
        answer = web.ask("GET", f"/api/v1/models/digits/versions/2/files/{path}", headers=headers)
        assert answer.status_code == 404


def test_what_is_deployed_stays_and_says_where(
    web: Web, project: str, headers: dict[str, str], versions: list[ModelVersion]
) -> None:
    add_deployment(web.store, project, "seven", versions[0])
    for path in ("/models/digits", "/models/digits/versions/1"):
        error = web.refused("DELETE", path, headers=headers)
        assert error.code == "in_use"
        assert "seven" in error.message
    free = "/api/v1/models/digits/versions/2"
    assert web.ask("DELETE", free, headers=headers).status_code == 204
    assert web.get("/models/digits", headers=headers)["latest_version"] == 1
