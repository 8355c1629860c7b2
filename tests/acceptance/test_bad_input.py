"""Bad input against a real service: a stable code, a sentence with a remedy, and nothing changed or half-made."""

from __future__ import annotations

import base64
import gzip
import io
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.api import Api
from tests.service import Service, running_service

#: The name of everything here: no ASCII, so that every path below carries it.
NAME = "手写数字"
SIDE = 12
SMALL = {"epochs": 1, "channels": [2], "kernel": 3, "hidden": [4]}
LIMIT = 1 << 20
NATIVE = f"/predict/{NAME}"
TF = f"/v1/models/{NAME}:predict"
JSON = {"content-type": "application/json"}
ROW = [[[0.5]] * SIDE] * SIDE


def picture(label: str, seed: int) -> bytes:
    """A bright upper or lower half, with noise, as a PNG."""
    pixels = np.random.default_rng(seed).integers(0, 60, (SIDE, SIDE), dtype=np.uint8)
    half = slice(0, SIDE // 2) if label == "七" else slice(SIDE // 2, SIDE)
    pixels[half] += 180
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


def npz(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


class House:
    """The service, its API, and the acts that the stories share."""

    def __init__(self, service: Service, api: Api) -> None:
        self.service = service
        self.api = api

    def upload(self, files: dict[str, bytes]) -> str:
        upload = str(self.api.post("/uploads")["id"])
        for path, content in files.items():
            self.api.call("PUT", f"/api/v1/uploads/{upload}/files/{quote(path)}", content=content)
        return upload

    def import_files(self, name: str, files: dict[str, bytes], **options: Any) -> dict[str, Any]:
        """The ended job of an import."""
        body = {"name": name, "source": "upload", "upload": self.upload(files), **options}
        job = self.api.post("/datasets", body)
        return self.api.wait_job(job["id"], "succeeded", "failed")

    def train(self, model: str, **params: Any) -> str:
        return self.api.train(model, NAME, params={**SMALL, **params}, threads=1)

    def nouns(self) -> dict[str, Any]:
        """All that the service has made, with the files on the disk; half-written ones too."""
        get = self.api.get
        blobs = self.service.home / "blobs"
        return {
            "projects": get("/projects"),
            "keys": get("/keys"),
            "datasets": [(one["name"], self.versions(one["name"])) for one in get("/datasets")],
            "models": get("/models"),
            "deployments": [
                (one["name"], one["replicas"], one["version"], one["wish"])
                for one in get("/deployments")
            ],
            "jobs": sorted(job["id"] for job in get("/jobs")),
            "blobs": sorted(
                (str(file.relative_to(blobs)), file.stat().st_size)
                for file in blobs.rglob("*")
                if file.is_file()
            ),
        }

    def versions(self, dataset: str) -> list[str]:
        return [one["id"] for one in self.api.get(f"/datasets/{dataset}/versions")]

    def refuse(
        self, method: str, path: str, status: int, code: str, **options: Any
    ) -> dict[str, str]:
        """Asks for what must be refused; returns the error's message and remedy."""
        before = self.nouns()
        answer = self.api.ask(method, path, patience_s=0, **options)
        told = told_by(answer)
        assert (answer.status_code, told["code"]) == (status, code), answer.text
        assert self.nouns() == before
        return told

    def fail(self, job: dict[str, Any], code: str) -> str:
        """The sentence of a job that must have failed."""
        assert job["state"] == "failed", job
        failure = job["failure"]
        assert failure["code"] == code, failure
        assert is_sentence(failure["message"])
        assert failure["remedy"]
        return str(failure["message"])


def told_by(answer: httpx.Response) -> dict[str, str]:
    """Code, message and remedy of a refusal in either shape."""
    error = answer.json()["error"]
    if isinstance(error, str):
        assert is_sentence(error)
        return {"code": answer.headers["x-modelry-error"], "message": error, "remedy": error}
    assert set(error) == {"code", "message", "remedy", "retryable"}
    assert is_sentence(error["message"])
    assert is_sentence(error["remedy"])
    return dict(error)


def is_sentence(text: str) -> bool:
    return len(text) > 10 and text.endswith(".") and "Traceback" not in text


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A service with one small data set, model and deployment, all named `手写数字`."""
    home = tmp_path_factory.mktemp("bad") / "home"
    with (
        running_service(home, max_body_bytes=str(LIMIT), job_threads="1") as service,
        Api(service) as api,
    ):
        made = House(service, api)
        files = {
            f"{NAME}/{label}/{label}{seed}.png": picture(label, seed)
            for label in "七八"
            for seed in range(20)
        }
        assert made.import_files(NAME, files)["state"] == "succeeded"
        api.wait_job(made.train(NAME))
        api.deploy(NAME, NAME)
        yield made
    assert "Traceback" not in log_of(service)


def log_of(service: Service) -> str:
    logs = (service.home / "logs").glob("*.log")
    return service.said + "".join(file.read_text(errors="replace") for file in logs)


def train_body(**changes: Any) -> dict[str, Any]:
    return {"kind": "train", "recipe": "cnn", "data": NAME, "model": "never", **changes}


@pytest.mark.parametrize(
    ("changes", "status", "code", "word"),
    [
        ({"recipe": "oracle"}, 404, "not_found", "cnn"),
        ({"params": {"chanels": [4]}}, 400, "unknown_parameter", "channels"),
        ({"params": {"epochs": 0}}, 400, "invalid_parameter", "from 1 to"),
        ({"params": {"dropout": 1.0}}, 400, "invalid_parameter", "0.95"),
        ({"params": {"learning_rate": 10**400}}, 400, "invalid_parameter", "from 1e-09"),
        ({"params": {"channels": []}}, 400, "invalid_parameter", "32,64"),
        ({"params": {"pooling": "median"}}, 400, "invalid_parameter", "average"),
        ({"params": {"momentum": 0.9}}, 400, "invalid_parameter", "sgd"),
        ({"preset": "slow"}, 400, "invalid_parameter", "fast"),
        ({"threads": 10_000}, 400, "invalid_parameter", "1 to"),
        ({"memory_limit_bytes": 10**30}, 400, "invalid_request", "/docs"),
        ({"checkpoint_steps": 10**30}, 400, "invalid_request", "/docs"),
        ({"speed": "high"}, 400, "invalid_request", "/docs"),
        ({"data": "nothing"}, 404, "not_found", "name"),
        ({"data": f"{NAME}:9"}, 404, "not_found", "name"),
        ({"data": f"{NAME}:zwei"}, 400, "invalid_request", "name:3"),
        ({"model": "../up"}, 400, "invalid_name", "letters"),
    ],
)
def test_a_job_that_cannot_be_right_is_refused_at_once(
    house: House, changes: dict[str, Any], status: int, code: str, word: str
) -> None:
    body = train_body(**changes)
    told = house.refuse("POST", "/api/v1/jobs", status, code, json=body)
    assert word in told["remedy"]


def test_a_recipe_refuses_data_of_a_kind_it_cannot_learn_from(house: House) -> None:
    table = "\n".join(
        ["a,b,kind", *(f"{n},{n * n},{'odd' if n % 2 else 'even'}" for n in range(40))]
    )
    assert house.import_files("table", {"t.csv": table.encode()}, target="kind")["failure"] is None
    told = house.refuse(
        "POST", "/api/v1/jobs", 400, "wrong_data_kind", json=train_body(data="table")
    )
    assert "number" in told["message"]
    assert "modelry data show" in told["remedy"]


def test_a_kernel_too_large_for_the_picture_fails_with_the_sizes(house: House) -> None:
    job = house.api.wait_job(house.train("never", kernel=15), "failed")
    assert f"{SIDE}×{SIDE} pixels" in house.fail(job, "invalid_parameter")
    assert "never" not in {model["name"] for model in house.api.get("/models")}


def test_data_of_another_project_is_not_there(house: House) -> None:
    api = house.api
    api.post("/projects", {"name": "other"})
    made = api.post("/keys", {"label": "guest", "scopes": ["train", "read"], "project": "other"})
    with Api(house.service, made["text"]) as guest:
        for _ in range(2):
            answer = guest.ask("POST", "/api/v1/jobs", json=train_body(), patience_s=0)
            assert (answer.status_code, told_by(answer)["code"]) == (404, "not_found")
        assert guest.get("/jobs") == guest.get("/datasets") == []
    house.refuse(
        "POST",
        "/api/v1/jobs",
        404,
        "not_found",
        json=train_body(),
        headers={"x-modelry-project": "other"},
    )
    house.refuse(
        "POST", "/api/v1/jobs", 400, "invalid_name", json=train_body(data=f"default/{NAME}")
    )


X = np.random.default_rng(0).random((30, 8, 8)).astype(np.float32)
Y = np.arange(30) % 2


@pytest.mark.parametrize(
    ("file", "content", "word"),
    [
        ("empty.npz", b"", "empty"),
        ("none.npz", npz(x=X[:0], y=Y[:0]), "row"),
        ("nan.npz", npz(x=np.where(X > 0.99, np.nan, X), y=Y), "NaN"),
        ("short.npz", npz(x=X, y=Y[:-1]), "29"),
        ("cut.npz", npz(x=X, y=Y)[:-200], "cut.npz"),
        ("head.csv", b"a,b\n", "row"),
        ("七.png", b"\x89PNG\r\n\x1a\nand no more", "七.png"),
    ],
)
def test_data_that_are_no_data_fail_with_the_file_and_the_reason(
    house: House, file: str, content: bytes, word: str
) -> None:
    before = house.nouns()
    path = f"七/{file}" if file.endswith(".png") else file
    options = {"target": "b"} if file.endswith(".csv") else {}
    job = house.import_files("broken", {path: content}, **options)
    message = house.fail(job, "invalid_data")
    assert file in message
    assert word.lower() in message.lower()
    after = house.nouns()
    assert [pair for pair in after["datasets"] if pair[0] == "broken"] in ([], [("broken", [])])
    new = {name for name, _ in after["blobs"]} - {name for name, _ in before["blobs"]}
    assert len(new) <= 1  # the uploaded file itself
    assert {name for name in new if name.startswith("tmp")} == set()


def test_an_import_of_nothing_is_refused(house: House) -> None:
    upload = house.api.post("/uploads")["id"]
    for status, code, body in (
        (400, "invalid_parameter", {"source": "upload", "upload": upload}),
        (404, "not_found", {"source": "upload", "upload": "upl_nothing"}),
        (404, "not_found", {"source": "builtin", "location": "cats"}),
        (400, "invalid_request", {"source": "upload"}),
        (403, "path_refused", {"source": "path", "location": "/etc"}),
    ):
        house.refuse("POST", "/api/v1/datasets", status, code, json={"name": "none", **body})


WRONG = {
    "a row too short": [[[0.5]] * SIDE] * (SIDE - 1),
    "a dimension too few": [[0.5] * SIDE] * SIDE,
    "ragged": [[[0.5]] * SIDE] * (SIDE - 1) + [[[0.5]]],
    "texts": [[["0.5"]] * SIDE] * SIDE,
    "truths": [[[True]] * SIDE] * SIDE,
    "nothing": None,
    "one number": 0.5,
    "no such input": {"picture": ROW},
}


@pytest.mark.parametrize("case", WRONG)
def test_a_tensor_that_does_not_fit_is_told_what_would(house: House, case: str) -> None:
    value = WRONG[case]
    for path, body in ((TF, {"instances": [value]}), (NATIVE, {"input": value})):
        told = house.refuse("POST", path, 400, "invalid_input", json=body)
        assert f"(N, {SIDE}, {SIDE}, 1)" in told["remedy"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "1e300"])
def test_numbers_that_are_none_get_no_label(house: House, number: str) -> None:
    body = json.dumps({"input": ROW}).replace("0.5", number)
    told = house.refuse("POST", NATIVE, 400, "invalid_input", content=body, headers=JSON)
    assert "finite" in told["remedy"]


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"content": b"no image", "headers": {"content-type": "image/png"}}, 400, "invalid_media"),
        ({"content": picture("七", 0)[:60]}, 400, "invalid_media"),
        ({"json": {"input": {"b64": "no base64"}}}, 400, "invalid_media"),
        (
            {"json": {"input": {"b64": base64.b64encode(b"no image").decode()}}},
            400,
            "invalid_media",
        ),
        ({"files": {"file": ("七.png", b"no image")}}, 400, "invalid_media"),
        ({"files": {"picture": ("七.png", picture("七", 0))}}, 400, "invalid_request"),
        ({"content": b"sound", "headers": {"content-type": "audio/wav"}}, 415, "unsupported_media"),
        ({"content": b"", "headers": JSON}, 400, "invalid_request"),
        ({"json": {"input": ROW, "speed": 1}}, 400, "invalid_request"),
    ],
)
def test_bytes_that_are_no_picture_are_refused(
    house: House, options: dict[str, Any], status: int, code: str
) -> None:
    house.refuse("POST", NATIVE, status, code, **options)


MANGLED = {
    "nothing": b"",
    "half": b'{"kind": "sleep",',
    "twice": b"{}{}",
    "deep": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "invalid UTF-8": b'{"kind": "\xff\xfe"}',
    "half a character": b'{"\\ud800": 1}',
    "a long number": b'{"kind": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("path", ["/api/v1/jobs", NATIVE, TF])
@pytest.mark.parametrize("case", MANGLED)
def test_what_is_not_the_json_of_the_call_is_refused(house: House, path: str, case: str) -> None:
    house.refuse("POST", path, 400, "invalid_request", content=MANGLED[case], headers=JSON)


def test_half_a_character_in_a_name_is_refused(house: House) -> None:
    body = json.dumps({"label": "guest", "scopes": ["read"], "project": "\ud800"})
    house.refuse("POST", "/api/v1/keys", 400, "invalid_request", content=body, headers=JSON)


def test_half_a_character_in_a_parameter_s_name_is_told(house: House) -> None:
    body = json.dumps(train_body(params={"\ud800": 1}))
    told = house.refuse(
        "POST", "/api/v1/jobs", 400, "unknown_parameter", content=body, headers=JSON
    )
    assert r"'\ud800'" in told["message"]


def test_an_answer_never_echoes_a_whole_body(house: House) -> None:
    body = train_body(params={"pooling": "x" * 500_000})
    told = house.refuse("POST", "/api/v1/jobs", 400, "invalid_parameter", json=body)
    assert len(told["message"]) < 2000


@pytest.mark.parametrize("path", ["/api/v1/jobs", NATIVE, TF])
def test_a_body_over_the_limit_is_refused_announced_or_not(house: House, path: str) -> None:
    body = b'{"input": "' + b"x" * LIMIT + b'"}'
    for content in (body, iter([body])):
        told = house.refuse("POST", path, 413, "body_too_large", content=content, headers=JSON)
        assert "MODELRY_MAX_BODY_BYTES" in told["remedy"]


@pytest.mark.parametrize(
    ("path", "encoding"), [("/api/v1/jobs", "gzip"), (NATIVE, "br"), (TF, "zstd")]
)
def test_a_body_in_an_encoding_that_is_not_taken_is_refused_and_never_misread(
    house: House, path: str, encoding: str
) -> None:
    body = gzip.compress(json.dumps({"input": ROW}).encode())
    headers = {**JSON, "content-encoding": encoding}
    told = house.refuse("POST", path, 415, "unsupported_media", content=body, headers=headers)
    assert "as it is" in told["remedy"]


@pytest.mark.parametrize("path", [NATIVE, TF])
def test_a_bomb_is_refused_before_it_fills_the_memory(house: House, path: str) -> None:
    bomb = gzip.compress(bytes(1000 * LIMIT))
    headers = {**JSON, "content-encoding": "gzip"}
    told = house.refuse("POST", path, 413, "body_too_large", content=bomb, headers=headers)
    assert "MODELRY_MAX_BODY_BYTES" in told["remedy"]


def test_a_compressed_upload_is_refused_and_not_kept(house: House) -> None:
    upload = house.api.post("/uploads")["id"]
    house.refuse(
        "PUT",
        f"/api/v1/uploads/{upload}/files/a.csv",
        415,
        "unsupported_media",
        content=gzip.compress(b"a,b"),
        headers={"content-encoding": "gzip"},
    )
    assert house.api.get(f"/uploads/{upload}")["files"] == []


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/predict/nothing", 404, "not_found"),
        ("POST", "/v1/models/nothing:predict", 404, "not_found"),
        ("POST", f"/v1/models/{NAME}/versions/9:predict", 404, "not_found"),
        ("POST", f"/v1/models/{NAME}/versions/{'9' * 5000}:predict", 400, "invalid_request"),
        ("POST", f"{NATIVE}?version={'9' * 5000}", 400, "invalid_request"),
        ("GET", "/api/v1/models/nothing", 404, "not_found"),
        ("GET", f"/api/v1/models/{NAME}/versions/champion", 404, "not_found"),
        ("GET", f"/api/v1/models/{NAME}/versions/1/files/%2e%2e/secret", 404, "not_found"),
        ("GET", "/api/v1/datasets/a%00b", 404, "not_found"),
        ("GET", "/api/v1/jobs/job_nothing", 404, "not_found"),
        ("GET", "/api/v1/jobs?stat=running", 400, "invalid_request"),
        ("GET", f"/api/v1/jobs/job_x/logs?after={10**30}", 400, "invalid_request"),
        ("GET", f"/api/v1/jobs/job_x/metrics?after_step={10**30}", 400, "invalid_request"),
        ("DELETE", "/api/v1/deployments/nothing", 404, "not_found"),
        ("PUT", "/api/v1/jobs", 405, "method_not_allowed"),
    ],
)
def test_what_is_not_there_is_said_and_nothing_else(
    house: House, method: str, path: str, status: int, code: str
) -> None:
    house.refuse(method, path, status, code, json={} if method == "POST" else None)


def test_an_alias_nobody_set_deploys_nothing(house: House) -> None:
    for model, status, code in (
        (f"{NAME}@champion", 404, "not_found"),
        (f"{NAME}:9", 404, "not_found"),
        ("nothing", 404, "not_found"),
        (f"{NAME}@", 400, "invalid_name"),
    ):
        body = {"name": "none", "model": model}
        house.refuse("POST", "/api/v1/deployments", status, code, json=body)
    house.refuse(
        "PUT", f"/api/v1/models/{NAME}/aliases/champion", 404, "not_found", json={"version": 9}
    )
    house.refuse(
        "PUT",
        f"/api/v1/models/{NAME}/aliases/champion",
        400,
        "invalid_request",
        json={"version": 10**30},
    )


def test_a_stopped_deployment_says_so(house: House) -> None:
    api = house.api
    api.post("/deployments", {"model": NAME, "name": "asleep", "replicas": 0})
    api.wait_deployment("asleep", "stopped")
    for path, body in (
        ("/v1/models/asleep:predict", {"instances": [ROW]}),
        ("/predict/asleep", {"input": ROW}),
    ):
        told = house.refuse("POST", path, 503, "no_ready_replica", json=body)
        assert "stopped" in told["message"]
    api.delete("/deployments/asleep")


def test_a_model_whose_bytes_changed_is_never_served(house: House) -> None:
    api = house.api
    api.wait_job(house.train("worn", seed=7))
    files = api.get("/models/worn/versions/1")["files"]
    blobs = {
        file["path"]: house.service.home / "blobs" / file["digest"][:2] / file["digest"]
        for file in files
    }
    blob = blobs["model.onnx"]
    content = bytearray(blob.read_bytes())
    # One weight gets another value: the file loads as if nothing had happened.
    place = content.index(blobs["weights.safetensors"].read_bytes()[-4:])
    content[place + 2] ^= 0x40
    blob.chmod(0o600)
    blob.write_bytes(content)
    api.post("/deployments", {"model": "worn", "name": "worn"})
    failure = api.wait_deployment("worn", "failed")["failure"]
    assert failure["code"] == "model_unloadable"
    assert "model.onnx" in failure["message"]
    told = house.refuse("POST", "/predict/worn", 503, "no_ready_replica", json={"input": ROW})
    assert "model.onnx" in told["message"]
    api.delete("/deployments/worn")


def raw(house: House, head: str, body: bytes, *, ends: bool) -> bytes:
    """An answer to bytes as they are; `ends` closes the sending side after them."""
    port = int(house.service.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        key = f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {house.service.key}\r\n"
        client.sendall(head.replace("\r\n", f"\r\n{key}", 1).encode() + body)
        if ends:
            client.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
        return answer


def test_a_length_that_lies_makes_nothing(house: House) -> None:
    before = house.nouns()
    upload = house.api.post("/uploads")["id"]
    long = f"PUT /api/v1/uploads/{upload}/files/a HTTP/1.1\r\nContent-Length: 1000\r\n\r\n"
    raw(house, long, b"x" * 10, ends=True)
    both = f"PUT /api/v1/uploads/{upload}/files/a HTTP/1.1\r\nContent-Length: 4\r\n"
    smuggled = raw(house, both + "Transfer-Encoding: chunked\r\n\r\n", b"0\r\n\r\n", ends=False)
    assert smuggled.startswith(b"HTTP/1.1 400")
    negative = "POST /api/v1/jobs HTTP/1.1\r\nContent-Length: -1\r\n\r\n"
    assert raw(house, negative, b"", ends=False).startswith(b"HTTP/1.1 400")
    short = f"PUT /api/v1/uploads/{upload}/files/a HTTP/1.1\r\nContent-Length: 2\r\n\r\n"
    assert b"HTTP/1.1 400" in raw(house, short, b"xyz rubbish\r\n\r\n", ends=False)
    files = house.api.get(f"/uploads/{upload}")["files"]
    assert [(file["path"], file["size_bytes"]) for file in files] in ([], [("a", 2)])
    house.api.delete(f"/uploads/{upload}")
    after = house.nouns()
    assert [blob for blob in after["blobs"] if "tmp" in blob[0]] == []
    assert {**after, "blobs": before["blobs"]} == before


def modelry(house: House, *words: str, cwd: Path) -> str:
    """What a command prints."""
    ran = subprocess.run(
        [sys.executable, "-m", "modelry.cli.main", *words],
        env={**house.service.environment, "COLUMNS": "200"},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_names_and_files_of_every_script_survive_every_path(house: House, tmp_path: Path) -> None:
    from modelry.cli.held_out import HeldOut
    from modelry.cli.pictures import draw_answers

    file = tmp_path / "七.png"
    file.write_bytes(picture("七", 99))
    assert "七" in modelry(house, "predict", NAME, "七.png", cwd=tmp_path)
    assert "八" in modelry(house, "data", "show", NAME, cwd=tmp_path)
    modelry(house, "models", "alias", NAME, "生产", "1", cwd=tmp_path)
    assert "生产" in modelry(house, "models", "show", NAME, cwd=tmp_path)
    modelry(house, "models", "export", f"{NAME}@生产", "--to", f"{NAME}.zip", cwd=tmp_path)
    assert (tmp_path / f"{NAME}.zip").stat().st_size > 1000
    house.api.delete(f"/models/{NAME}/aliases/生产")

    with house.service.client() as client:
        deployment = client.deployments.get(NAME)
        answers = [deployment.predict(file), deployment.predict(np.asarray(ROW, np.float32))]
    assert set(answers[0].scores) == {"七", "八"}
    held_out = HeldOut(np.asarray([ROW, ROW], np.float32), ["七", "八"])
    draw_answers(tmp_path / f"{NAME}.png", held_out, answers)
    with Image.open(tmp_path / f"{NAME}.png") as drawn:
        assert drawn.width > 800
