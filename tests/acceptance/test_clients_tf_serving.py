"""TensorFlow Serving's REST calls, made with curl as its documentation makes them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.acceptance.echoes import publish_echoes
from tests.acceptance.shelf import LABELS, ROW, publish
from tests.api import Api
from tests.service import Service, running_service

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@dataclass
class House:
    """A running service with two versions of a model, the first of them in production."""

    service: Service

    def curl(self, path: str, *options: str, key: str | None = None) -> tuple[int, Any]:
        """Status and JSON."""
        done = subprocess.run(
            [
                *("curl", "-sS", "-w", "\n%{http_code}"),
                *("-H", f"Authorization: Bearer {key or self.service.key}"),
                *options,
                self.service.url + path,
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        body, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(body)

    def get(self, path: str) -> Any:
        status, body = self.curl(path)
        assert status == 200, body
        return body

    def post(self, path: str, body: Any) -> Any:
        status, answer = self.curl(path, "-d", json.dumps(body))
        assert status == 200, answer
        return answer

    def refused(self, path: str, *options: str) -> tuple[int, str]:
        status, body = self.curl(path, *options)
        assert list(body) == ["error"]
        return status, body["error"]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    home = tmp_path_factory.mktemp("tensorflow") / "home"
    with running_service(home) as service, Api(service) as api:
        publish_echoes(service)
        for _ in range(2):
            publish(service, "rows")
        api.call("PUT", "/api/v1/models/rows/aliases/production", json={"version": 2})
        api.deploy("rows:2", "rows")
        for name in ("echo", "texts"):
            api.deploy(name, name)
        yield House(service)


def test_rows_and_columns_are_predicted(house: House) -> None:
    rows = house.post("/v1/models/rows:predict", {"instances": [ROW, ROW]})["predictions"]
    columns = house.post("/v1/models/rows:predict", {"inputs": {"x": [ROW]}})["outputs"]
    assert len(rows) == 2
    assert len(rows[0]) == len(LABELS)
    assert columns == [rows[0]]
    named = house.post(
        "/v1/models/rows:predict",
        {"signature_name": "serving_default", "instances": [{"x": ROW}]},
    )
    assert named["predictions"] == [rows[0]]


def test_a_version_or_a_label_may_be_named(house: House) -> None:
    call = {"instances": [ROW]}
    plain = house.post("/v1/models/rows:predict", call)
    for path in ("/versions/2", "/labels/production"):
        assert house.post(f"/v1/models/rows{path}:predict", call) == plain
        assert house.post(f"/v1/models/default/rows{path}:predict", call) == plain
    for path in ("/versions/1", "/labels/staging"):
        status, error = house.refused(f"/v1/models/rows{path}:predict", "-d", json.dumps(call))
        assert status == 404
        assert "does not exist" in error


@pytest.mark.parametrize("path", ["", "/versions/2", "/labels/production"])
def test_status_says_which_version_answers(house: House, path: str) -> None:
    told = house.get(f"/v1/models/rows{path}")
    assert told["model_version_status"] == [
        {
            "version": "2",
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
    ]


@pytest.mark.parametrize("path", ["", "/versions/2", "/labels/production"])
def test_metadata_tells_the_signature(house: House, path: str) -> None:
    told = house.get(f"/v1/models/rows{path}/metadata")
    assert told["model_spec"] == {"name": "rows", "signature_name": "", "version": "2"}
    signature = told["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["x"] == {
        "dtype": "DT_FLOAT",
        "tensor_shape": {
            "dim": [{"size": "-1", "name": ""}, {"size": "8", "name": ""}],
            "unknown_rank": False,
        },
        "name": "x:0",
    }


def test_several_inputs_and_outputs_are_named(house: House) -> None:
    signature = house.get("/v1/models/echo/metadata")["metadata"]["signature_def"]
    names = [*signature["signature_def"]["serving_default"]["inputs"]]
    row = {name: [True, False, True] if name == "in_bool" else [1, 2, 3] for name in names}
    (told,) = house.post("/v1/models/echo:predict", {"instances": [row]})["predictions"]
    assert told == {name.replace("in_", "out_"): values for name, values in row.items()}


def test_texts_go_as_they_are_or_in_base64(house: House) -> None:
    call = {"instances": [["a", {"b64": "5a2X"}, ""]]}
    told = house.post("/v1/models/texts:predict", call)
    assert told == {"predictions": [[{"b64": "YQ=="}, {"b64": "5a2X"}, {"b64": ""}]]}


def test_refusals_are_told(house: House) -> None:
    call = json.dumps({"instances": [ROW]})
    for verb in ("classify", "regress"):
        status, error = house.refused(f"/v1/models/rows:{verb}", "-d", call)
        assert status == 400
        assert ":predict" in error
    both = json.dumps({"instances": [ROW], "inputs": [ROW]})
    assert house.refused("/v1/models/rows:predict", "-d", both)[0] == 400
    assert house.refused("/v1/models/nothing:predict", "-d", call)[0] == 404
    assert house.refused("/v1/models/rows/versions/9")[0] == 404
    assert house.refused("/v1/models/rows/labels/none/metadata")[0] == 404
    status, _ = house.curl("/v1/models/rows/metadata", key="mk_wrong")
    assert status == 401
