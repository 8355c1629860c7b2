"""The inference calls over HTTP: both doors, every refusal, and clients that hang up."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from PIL import Image
from starlette.middleware import Middleware

from modelry.core.keys import new_key
from modelry.server.api.envelope import Envelope
from modelry.server.api.errors import add_error_handlers
from modelry.server.api.inference import inference_router
from modelry.server.gateway import Gateway
from tests.serving.hostile_runtime import HANG
from tests.serving.house import House, live, pictures, until

TF = "/v1/models/digits:predict"
NATIVE = "/predict/digits"


class Parts:
    """What the guard of inference calls needs of the service."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    async def catch_up(self) -> bool:
        return False


@asynccontextmanager
async def serving(
    house: House, **settings: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, FastAPI]]:
    """An HTTP client of the house's gateway, with the house's key."""
    gateway = house.gateway(**settings)
    await gateway.start()
    app = FastAPI(middleware=[Middleware(Envelope)])
    app.state.service = Parts(gateway)
    add_error_handlers(app)
    app.router.routes.extend(inference_router(gateway).routes)
    headers = {"authorization": f"Bearer {house.key.text}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://test", headers=headers
    ) as client:
        yield client, app
    await gateway.close()


def tell(house: House, story: Any, **settings: Any) -> None:
    """Runs a story that gets the client."""

    async def run() -> None:
        async with serving(house, **settings) as (client, _):
            await story(client)

    live(run())


@pytest.fixture
def visual(house: House) -> House:
    """A house with one replica that takes 4×2 pictures."""
    house.linear()
    house.started()
    return house


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


def test_rows_and_columns_are_answered_alike(visual: House) -> None:
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

    tell(visual, story)


def test_an_image_is_answered_however_it_comes(visual: House) -> None:
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

    tell(visual, story)


def test_a_broken_image_fails_alone(visual: House) -> None:
    good = png(np.zeros((4, 2), np.uint8))

    async def story(client: httpx.AsyncClient) -> None:
        bodies = [good, b"\x89PNG\r\n\x1a\nbroken", good, good[:-20]]
        answers = await asyncio.gather(*(client.post(NATIVE, content=body) for body in bodies))
        assert [answer.status_code for answer in answers] == [200, 400, 200, 400]
        assert answers[1].json()["error"]["code"] == "invalid_media"

    tell(visual, story)


@pytest.mark.parametrize("path", [TF, NATIVE])
def test_only_a_key_that_may_infer_is_answered(visual: House, path: str) -> None:
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

    tell(visual, story)


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
    visual: House, path: str, body: Any, code: str, status: int
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

    tell(visual, story)


@pytest.mark.parametrize("is_announced", [True, False])
@pytest.mark.parametrize("path", [TF, NATIVE])
def test_a_body_over_the_limit_is_not_read(visual: House, path: str, is_announced: bool) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        read = 0

        async def flood() -> AsyncIterator[bytes]:
            nonlocal read
            for _ in range(1000):
                read += 1000
                yield bytes(1000)

        headers = {"content-length": "1000000"} if is_announced else {}
        answer = await client.post(path, content=flood(), headers=headers)
        assert answer.status_code == 413
        assert read <= (1000 if is_announced else 6000)

    tell(visual, story, max_body_bytes=4096)


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf", "99999"])
def test_a_timeout_must_be_seconds(visual: House, text: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        answer = await client.post(NATIVE, json={}, headers={"x-request-timeout": text})
        assert answer.status_code == 400

    tell(visual, story)


def test_an_answer_that_is_late_is_a_clear_error(hanging: House) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        late = {"x-request-timeout": "0.1"}
        answer = await client.post(TF, json={"instances": [[HANG, 0]]}, headers=late)
        assert answer.status_code == 504
        assert answer.headers["x-modelry-error"] == "deadline_exceeded"
        assert "0.1 s" in answer.json()["error"]
        hanging.release()

    tell(hanging, story)


def test_a_full_queue_says_when_to_come_again(house: House) -> None:
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

    tell(house, story)


def test_a_client_that_hangs_up_takes_its_work_with_it(hanging: House) -> None:
    async def story() -> None:
        async with serving(hanging) as (_, app):
            listening = socket.socket()
            listening.bind(("127.0.0.1", 0))
            server = uvicorn.Server(
                uvicorn.Config(app, http="httptools", log_config=None, lifespan="off")
            )
            running = asyncio.create_task(server.serve(sockets=[listening]))
            await until(lambda: server.started)

            async def send(value: float) -> asyncio.StreamWriter:
                _, writer = await asyncio.open_connection(*listening.getsockname())
                body = json.dumps({"instances": [[value, 0]]}).encode()
                head = (
                    f"POST {TF} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
                    f"authorization: Bearer {hanging.key.text}\r\n\r\n"
                )
                writer.write(head.encode() + body)
                await writer.drain()
                return writer

            kept = await send(HANG)
            await until(lambda: len(hanging.seen) == 2)
            gone = [await send(0.5) for _ in range(5)]
            await asyncio.sleep(0.1)
            for writer in gone:
                writer.close()
            await asyncio.sleep(0.1)
            hanging.release()
            last = await send(0.25)
            await until(lambda: len(hanging.seen) == 3)
            assert hanging.seen == [1, 1, 1]
            kept.close()
            last.close()
            server.should_exit = True
            await running

    live(story())


def test_a_request_of_many_megabytes_is_answered(visual: House) -> None:
    x = pictures(60_000)

    async def story(client: httpx.AsyncClient) -> None:
        body = json.dumps({"instances": x.tolist()}).encode()
        answer = await client.post(TF, content=body)
        got = np.array(answer.json()["predictions"], np.float32)
        np.testing.assert_allclose(got, visual.packages[1].expect(x), atol=1e-5)

    tell(visual, story)
