"""Noise at every door and on the links behind them: each request ends, nobody else is hurt, nothing is blamed on us."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import io
import json
import os
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from modelry.core.calls import TaskCall, pack
from modelry.core.errors import ModelryError
from modelry.core.frames import Frame, Kind, Op, Stats, encode_frame
from modelry.core.tensors import Media, encode_payload
from modelry.server.gateway import Reply
from modelry.worker.folder import WorkerFolder
from tests.serving.front import TF, Front, Line
from tests.serving.house import Client, House, pictures

#: 0: as many as a test run has time for.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
ROW = pictures(1)
LENGTH = "inference-header-content-length"


def png() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.zeros((4, 2), np.uint8)).save(out, format="PNG")
    return out.getvalue()


def binary() -> bytes:
    size = ROW.nbytes
    head = {"name": "x", "shape": [1, 4, 2, 1], "datatype": "FP32"}
    text = json.dumps({"inputs": [{**head, "parameters": {"binary_data_size": size}}]}).encode()
    return text + ROW.tobytes()


HEAD_BYTES = len(binary()) - ROW.nbytes
V2_JSON = json.dumps(
    {
        "id": "a",
        "inputs": [
            {"name": "x", "shape": [1, 4, 2, 1], "datatype": "FP32", "data": ROW.ravel().tolist()}
        ],
        "outputs": [{"name": "probabilities", "parameters": {"classification": 2}}],
    }
).encode()
MULTIPART = (
    b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    + png()
    + b"\r\n--b--\r\n"
)
#: Calls that are answered: path, further headers, body.
GOOD: list[tuple[str, tuple[str, ...], bytes]] = [
    (TF, (), json.dumps({"instances": ROW.tolist()}).encode()),
    (TF, (), json.dumps({"inputs": {"x": ROW.tolist()}}).encode()),
    ("/predict/digits", (), json.dumps({"input": ROW[0].tolist()}).encode()),
    ("/predict/digits?top_k=2", ("content-type: image/png",), png()),
    ("/predict/digits", ("content-type: multipart/form-data; boundary=b",), MULTIPART),
    (
        "/predict/digits",
        (),
        json.dumps({"inputs": [{"b64": base64.b64encode(png()).decode()}]}).encode(),
    ),
    ("/v2/models/digits/infer", (), V2_JSON),
    ("/v2/models/digits/infer", (f"{LENGTH}: {HEAD_BYTES}",), binary()),
    ("/v2/models/digits/versions/1/infer", (f"{LENGTH}: 0",), ROW.tobytes()),
    ("/explain/digits?method=occlusion&window=2", (), json.dumps({"input": ROW[0].tolist()}).encode()),
    ("/hf/models/digits", ("content-type: image/png",), png()),
    (
        "/hf/models/digits",
        (),
        json.dumps(
            {"inputs": base64.b64encode(png()).decode(), "parameters": {"top_k": 1}}
        ).encode(),
    ),
    (TF, ("content-encoding: gzip",), gzip.compress(json.dumps({"instances": ROW.tolist()}).encode())),
]  # fmt: skip
#: Calls of doors that this house has no model for.
OTHERS: list[tuple[str, tuple[str, ...], bytes]] = [
    ("/v1/embeddings", (), json.dumps({"model": "digits", "input": ["a", "b"]}).encode()),
    ("/hf/models/digits", (), json.dumps({"inputs": {"question": "a", "context": "b"}}).encode()),
]
#: What is put in place of a piece of a body: numbers and words that begin other things.
PIECES = (
    [b"", b"0", b"-1", b"1e999", b"NaN", b"9" * 400, b"null", b"true", b'"', b"[", b"]", b"{", b"}"]
    + [b",", b":", b"\\ud800", b"\x00", b"\xff", b"[" * 3000, b'"data"', b'"BYTES"', b'"FP16"']
    + [b"-9223372036854775808", b"18446744073709551616", b'"b64"', b'"parameters"', b'{"x":1}']
)


@st.composite
def changed(draw: st.DrawFn) -> tuple[str, tuple[str, ...], bytes]:
    """A call, most often a broken one."""
    path, headers, body = draw(st.sampled_from(GOOD + OTHERS))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(body)))
        until = draw(st.integers(at, min(len(body), at + 12)))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=6))
        body = body[:at] + piece + body[until:]
    if draw(st.integers(0, 5)) == 0:
        body = draw(st.binary(max_size=64))
    if draw(st.integers(0, 3)) == 0:
        extra = st.sampled_from(
            [f"{LENGTH}: {number}" for number in (0, 1, 5, HEAD_BYTES, 10**9, -1)]
            + ["content-encoding: gzip", "content-encoding: deflate", "content-type: image/png"]
            + ["content-type: multipart/form-data", "content-type: application/json"]
            + ["accept-encoding: gzip", "x-request-timeout: 1e-6", "x-request-timeout: 20"]
        )
        headers = (*headers, *draw(st.lists(extra, max_size=2)))
    return path, headers, body


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("fuzzed") / "home")
    made.linear()
    made.started()
    yield made
    made.close()


@pytest.fixture(scope="module", params=["fast", "asgi"])
def front(house: House, request: pytest.FixtureRequest) -> Iterator[Front]:
    with Front(house, fast=request.param == "fast") as front:
        yield front


@pytest.mark.parametrize("call", GOOD, ids=lambda call: f"{call[0]} {' '.join(call[1])}")
def test_the_calls_that_the_noise_is_made_of_are_answered(
    front: Front, call: tuple[str, tuple[str, ...], bytes]
) -> None:
    path, headers, body = call
    with Line(front) as line:
        line.send(front.call(body, *headers, path=path))
        heard = line.answer()
        assert heard.status == 200, heard


@settings(max_examples=EXAMPLES or 400, deadline=None)
@given(call=changed())
def test_every_body_is_answered_or_refused(
    front: Front, call: tuple[str, tuple[str, ...], bytes]
) -> None:
    path, headers, body = call
    with Line(front) as line:
        line.send(front.call(body, *headers, path=path))
        heard = line.answer()
        assert heard.status < 500 or heard.status == 504, heard
        if heard.status >= 400:
            assert heard.json["error"], heard
        elif (
            heard.headers["content-type"] == "application/json"
            and "content-encoding" not in heard.headers
        ):
            assert heard.body


PAYLOADS = [
    encode_payload({"x": ROW}),
    encode_payload({}, [Media(png(), "image/png")]),
    pack(TaskCall(media=png(), media_type="image/png")),
    pack(TaskCall(inputs="text", parameters={"top_k": 2**70 % 2**63})),
    msgspec.msgpack.encode({"method": "occlusion", "payload": encode_payload({"x": ROW})}),
]


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """What may lie in a frame: payloads, some of them broken."""
    data = draw(st.sampled_from(PAYLOADS))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=8)) + data[at + draw(st.integers(0, 8)) :]
    return data


def frames(kinds: list[Kind]) -> st.SearchStrategy[bytes]:
    """Frames in any order, and a little noise between them."""
    whole = st.builds(
        Frame,
        st.sampled_from(kinds),
        st.integers(0, 3) | st.just(2**64 - 1),
        payloads() | st.binary(max_size=40),
        op=st.sampled_from(list(Op)),
        flags=st.integers(0, 3) | st.integers(0, 255),
        deadline_ms=st.sampled_from([0, 1, 1000, 2**32 - 1]),
    ).map(encode_frame)
    return st.lists(whole, max_size=8).flatmap(
        lambda some: st.binary(max_size=3).map(lambda end: b"".join([*some, end]))
    )


class Beside:
    """An event loop in a thread, for tests that go through many examples on one gateway."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def run(self, story: Any, limit_s: float = 20.0) -> Any:
        """What the story returns; it ends within the limit."""
        return asyncio.run_coroutine_threadsafe(
            asyncio.wait_for(story, limit_s), self.loop
        ).result()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def beside() -> Iterator[Beside]:
    running = Beside()
    yield running
    running.close()


@pytest.fixture(scope="module")
def client(house: House, beside: Beside) -> Iterator[Client]:
    gateway = house.gateway()
    beside.run(gateway.start())
    yield Client(house, gateway)
    beside.run(gateway.close())


@settings(max_examples=EXAMPLES or 150, deadline=None)
@given(noise=frames([Kind.REQUEST, Kind.CHUNK, Kind.CANCEL, Kind.PING, Kind.CREDIT, Kind.DONE]))
def test_whatever_a_gateway_says_a_replica_goes_on_for_the_others(
    house: House, beside: Beside, client: Client, noise: bytes
) -> None:
    address = (house.replicas[0].address or "").removeprefix("unix:")

    async def story() -> None:
        _, writer = await asyncio.open_unix_connection(address)
        writer.write(noise)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        await client.check(ROW)
        writer.close()

    beside.run(story())
    assert house.replicas[0].popen.poll() is None


ANSWERS = [Kind.DONE, Kind.ERROR, Kind.CHUNK, Kind.STARTED, Kind.CREDIT, Kind.STATS, Kind.DRAIN]


@settings(max_examples=EXAMPLES or 60, deadline=None)
@given(noise=frames([*ANSWERS, Kind.PING]))
def test_whatever_a_replica_says_each_request_ends(
    tmp_path_factory: pytest.TempPathFactory, house: House, beside: Beside, noise: bytes
) -> None:
    ended: list[Reply | BaseException] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encode_frame(Frame(Kind.STATS, 0, Stats().encode())))
        with contextlib.suppress(ConnectionError):
            await reader.read(100)
            writer.write(noise)
            await writer.drain()
            await asyncio.sleep(0.02)
        writer.close()

    async def story() -> None:
        place = tmp_path_factory.mktemp("liar")
        liar = House(place / "home")
        liar.key, liar.packages = house.key, house.packages
        liar.elsewhere = {"rep_liar": 1}
        folder = WorkerFolder.under(liar.home.run, "rep_liar")
        folder.path.mkdir(parents=True)
        folder.write_address(f"unix:{place / 's'}")
        server = await asyncio.start_unix_server(speak, str(place / "s"))
        gateway = liar.gateway()
        await gateway.start()
        caller = Client(liar, gateway).caller
        asked = [gateway.infer(caller, "digits", PAYLOADS[0], deadline_s=0.03) for _ in range(3)]
        ended.extend(await asyncio.gather(*asked, return_exceptions=True))
        await gateway.close()
        server.close()
        liar.close()

    beside.run(story())
    assert len(ended) == 3
    assert all(isinstance(one, Reply | ModelryError) for one in ended), ended
