"""A training from another version's weights: what does not fit is refused when it is asked for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from modelry.core.manifests import ModelManifest, Recipe
from modelry.core.recipes import get_recipe
from modelry.server.store import models
from tests.unit.server.api.nouns import add_dataset, add_model
from tests.unit.server.api.web import Web

ORDER = {"kind": "train", "recipe": "cnn", "data": "digits", "model": "pupil"}


@pytest.fixture
def headers(web: Web, project: str) -> dict[str, str]:
    """The data set `digits`, the imported model `foreign` and the `teacher`, a cnn with channels of its own."""
    add_dataset(web.store, web.artifacts, project, "digits")
    foreign = add_model(web.store, web.artifacts, project, "foreign")
    params = get_recipe("cnn").check({"channels": [4, 8], "epochs": 7})
    manifest = msgspec.structs.replace(
        msgspec.convert(foreign.manifest, ModelManifest), recipe=Recipe(name="cnn", params=params)
    )
    with web.store.write() as tx:
        models.ensure(tx, project, "teacher")
        plain = msgspec.to_builtins(manifest)
        models.add_version(tx, project, "teacher", plain, list(foreign.files), None, None)
    return {"x-modelry-project": project}


def test_the_layers_are_the_teacher_s_and_the_training_one_s_own(
    web: Web, headers: dict[str, str]
) -> None:
    body = {**ORDER, "start": "teacher", "freeze": True, "params": {"epochs": 2, "kernel": "3"}}
    job = web.post("/jobs", body, headers=headers)
    data = web.get("/datasets/digits/versions/1", headers=headers)
    model = web.get("/models/teacher/versions/1", headers=headers)
    assert job["inputs"] == {"data": data["id"], "model": model["id"]}
    assert job["params"]["freeze"] is True
    params = job["params"]["params"]
    assert (params["channels"], params["epochs"]) == ([4, 8], 2)
    # An unfinished job holds what it begins with.
    refused = web.refused("DELETE", "/models/teacher/versions/1", headers=headers)
    assert refused.code == "in_use"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"freeze": True}, "invalid_parameter"),
        ({"start": "nobody"}, "not_found"),
        ({"start": "teacher:9"}, "not_found"),
        ({"start": "foreign"}, "invalid_parameter"),
        ({"start": "teacher", "recipe": "rnn"}, "invalid_parameter"),
        ({"start": "teacher", "params": {"channels": [4]}}, "invalid_parameter"),
        ({"start": "teacher", "params": {"kernel": 5}}, "invalid_parameter"),
    ],
)
def test_what_cannot_begin_so_is_refused_at_once(
    web: Web, headers: dict[str, str], changes: dict[str, Any], code: str
) -> None:
    error = web.refused("POST", "/jobs", json={**ORDER, **changes}, headers=headers)
    assert error.code == code
    assert error.remedy
    assert web.get("/jobs", headers=headers) == []
