"""The inference calls over HTTP, as the application answers them and as the protocol class does: equally."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from modelry.core.keys import new_key
from tests.serving.front import NATIVE, TF, Front, Line
from tests.serving.hostile_runtime import HANG
from tests.serving.house import House, live, pictures, until, wait_until


@pytest.fixture(params=["fast", "asgi"])
def fast(request: pytest.FixtureRequest) -> bool:
    """Both ways."""
    return bool(request.param == "fast")


def tell(house: House, fast: bool, story: Any, **settings: Any) -> None:
    """Runs a story that gets the client."""

    async def run() -> None:
        async with front.asking() as client:
            await story(client)

    with Front(house, fast=fast, **settings) as front:
        live(run())


@pytest.fixture(scope="module")
def visual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house with one replica that takes 4×2 pictures."""
    house = House(tmp_path_factory.mktemp("visual") / "home")
    house.linear()
    house.started()
    yield house
    house.close()


@pytest.fixture
def hanging(house: House) -> House:
    """A house with one replica that hangs when told to."""
    house.hostile()
    house.started()
    return house


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


def test_rows_and_columns_are_answered_alike(visual: House, fast: bool) -> None:
    x = pictures(3)
    expected = visual.packages[1].expect(x)

    async def story(client: httpx.AsyncClient) -> None:
        rows = await client.post(TF, json={"instances": x.tolist()})
        columns = await client.post(
            "/v1/models/digits/versions/1:predict", json={"inputs": x.tolist()}
        )
        np.testing.assert_allclose(rows.json()["predictions"], expected, atol=1e-6)
        np.testing.assert_allclose(columns.json()["outputs"], expected, atol=1e-6)
        assert rows.headers["x-model-version"] == "1"
        assert float(rows.headers["x-inference-time"]) > 0
        assert float(rows.headers["x-queue-time"]) >= 0
        marked = await client.post(
            TF, json={"inputs": x.tolist()}, headers={"x-request-id": "mine-1"}
        )
        assert marked.headers["x-request-id"] == "mine-1"

    tell(visual, fast, story)


def test_an_image_is_answered_however_it_comes(visual: House, fast: bool) -> None:
    pixels = np.arange(0, 160, 20, dtype=np.uint8).reshape(4, 2)
    tensor = (pixels.reshape(1, 4, 2, 1) / 255).astype(np.float32)
    expected = visual.packages[1].expect(tensor)[0]
    image = png(pixels)
    b64 = base64.b64encode(image).decode()

    async def story(client: httpx.AsyncClient) -> None:
        answers = [
            await client.post(NATIVE, content=image, headers={"content-type": "image/png"}),
            await client.post(NATIVE, content=image),
            await client.post(NATIVE, files={"file": ("七.png", image)}),
            await client.post(NATIVE, json={"input": {"b64": b64}}),
            await client.post(NATIVE, json={"inputs": [{"b64": b64}]}),
            await client.post(NATIVE, json={"input": tensor[0].tolist()}),
        ]
        for answer in answers:
            body = answer.raise_for_status().json()
            scores = {s["label"]: s["score"] for s in body["predictions"][0]["scores"]}
            np.testing.assert_allclose([scores[x] for x in ["a", "b", "字"]], expected, atol=1e-6)
            assert body["predictions"][0]["score"] == max(scores.values())
            assert (body["deployment"], body["model"], body["version"]) == ("digits", "mnist", 1)
            assert body["timing"]["total_ms"] >= body["timing"]["inference_ms"] > 0
        best = await client.post(NATIVE + "?top_k=1&version=1", content=image)
        assert len(best.json()["predictions"][0]["scores"]) == 1

    tell(visual, fast, story)


def test_a_broken_image_fails_alone(visual: House, fast: bool) -> None:
    good = png(np.zeros((4, 2), np.uint8))

    async def story(client: httpx.AsyncClient) -> None:
        bodies = [good, b"\x89PNG\r\n\x1a\nbroken", good, good[:-20]]
        answers = await asyncio.gather(*(client.post(NATIVE, content=body) for body in bodies))
        assert [answer.status_code for answer in answers] == [200, 400, 200, 400]
        assert answers[1].json()["error"]["code"] == "invalid_media"

    tell(visual, fast, story)


@pytest.mark.parametrize("path", [TF, NATIVE])
def test_only_a_key_that_may_infer_is_answered(visual: House, path: str, fast: bool) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        for header, code, status in (
            ("", "no_key", 401),
            (f"Bearer {new_key().text}", "invalid_key", 401),
        ):
            answer = await client.post(path, headers={"authorization": header})
            assert answer.status_code == status
            if path == TF:
                assert answer.headers["x-modelry-error"] == code
                assert isinstance(answer.json()["error"], str)
            else:
                assert answer.json()["error"]["code"] == code
        by_name = {"authorization": "", "x-api-key": visual.key.text}
        assert (await client.post(path, json={}, headers=by_name)).status_code == 400
        foreign = await client.post(path, headers={"x-modelry-project": "blue"})
        assert foreign.status_code == 404

    tell(visual, fast, story)


@pytest.mark.parametrize(
    ("path", "body", "code", "status"),
    [
        ("/v1/models/nothing:predict", {}, "not_found", 404),
        ("/predict/nothing", {}, "not_found", 404),
        ("/v1/models/digits/versions/9:predict", {}, "not_found", 404),
        ("/predict/digits?version=9", {}, "not_found", 404),
        ("/predict/digits?explain=1", {}, "invalid_request", 400),
        (TF + "?top_k=1", {}, "invalid_request", 400),
        (TF, {"instances": [[1, 2]]}, "invalid_input", 400),
        (NATIVE, {"input": [[1, 2]]}, "invalid_input", 400),
        (NATIVE, [1], "invalid_request", 400),
    ],
)
def test_refusals_have_a_code_and_a_remedy(
    visual: House, path: str, body: Any, code: str, status: int, fast: bool
) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        answer = await client.post(path, json=body)
        assert answer.status_code == status
        if path.startswith("/v1"):
            assert answer.headers["x-modelry-error"] == code
            assert answer.json().keys() == {"error"}
        else:
            assert answer.json()["error"]["code"] == code
            assert answer.json()["error"]["remedy"]

    tell(visual, fast, story)


@pytest.mark.parametrize("is_announced", [True, False])
@pytest.mark.parametrize("path", [TF, NATIVE])
def test_a_body_over_the_limit_is_not_read(
    visual: House, path: str, is_announced: bool, fast: bool
) -> None:
    with Front(visual, fast=fast, max_body_bytes=4096) as front:
        size = "content-length: 1000000" if is_announced else "transfer-encoding: chunked"
        with Line(front) as line:
            line.send(front.call(b"", size, path=path, length=False))
            if not is_announced:
                for _ in range(5):
                    line.send(b"3e8\r\n" + bytes(1000) + b"\r\n")
            refused = line.answer()
        assert refused.status == 413
        assert "MODELRY_MAX_BODY_BYTES" in refused.body.decode()


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf", "99999"])
def test_a_timeout_must_be_seconds(visual: House, text: str, fast: bool) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        answer = await client.post(NATIVE, json={}, headers={"x-request-timeout": text})
        assert answer.status_code == 400

    tell(visual, fast, story)


def test_an_answer_that_is_late_is_a_clear_error(hanging: House, fast: bool) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        late = {"x-request-timeout": "0.1"}
        answer = await client.post(TF, json={"instances": [[HANG, 0]]}, headers=late)
        assert answer.status_code == 504
        assert answer.headers["x-modelry-error"] == "deadline_exceeded"
        assert "0.1 s" in answer.json()["error"]
        hanging.release()

    tell(hanging, fast, story)


def test_a_full_queue_says_when_to_come_again(house: House, fast: bool) -> None:
    house.hostile()
    house.max_queue = 1
    house.started()

    async def story(client: httpx.AsyncClient) -> None:
        first = asyncio.create_task(client.post(TF, json={"instances": [[HANG, 0]]}))
        await until(lambda: len(house.seen) == 2)
        second = asyncio.create_task(client.post(TF, json={"instances": [[0.5, 0]]}))
        await asyncio.sleep(0.05)
        for path, body in ((TF, {"instances": [[0.5, 0]]}), (NATIVE, {"input": [0.5, 0]})):
            refused = await client.post(path, json=body)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
        house.release()
        assert (await first).status_code == (await second).status_code == 200

    tell(house, fast, story)


def test_a_client_that_hangs_up_takes_its_work_with_it(hanging: House, fast: bool) -> None:
    def ask(line: Line, value: float) -> None:
        line.send(front.call(json.dumps({"instances": [[value, 0]]}).encode()))

    with Front(hanging, fast=fast) as front, Line(front) as kept:
        ask(kept, HANG)
        wait_until(lambda: len(hanging.seen) == 2)
        gone = [Line(front) for _ in range(5)]
        for line in gone:
            ask(line, 0.5)
        time.sleep(0.1)
        for line in gone:
            line.hang_up()
        time.sleep(0.2)
        hanging.release()
        assert kept.answer().status == 200
        with Line(front) as last:
            ask(last, 0.25)
            assert last.answer().status == 200
        assert hanging.seen == [1, 1, 1]


def test_a_request_of_many_megabytes_is_answered(visual: House, fast: bool) -> None:
    x = pictures(60_000)

    async def story(client: httpx.AsyncClient) -> None:
        body = json.dumps({"instances": x.tolist()}).encode()
        answer = await client.post(TF, content=body)
        got = np.array(answer.json()["predictions"], np.float32)
        np.testing.assert_allclose(got, visual.packages[1].expect(x), atol=1e-5)

    tell(visual, fast, story)
