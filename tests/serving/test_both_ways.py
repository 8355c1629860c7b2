"""The protocol class and the application answer alike, whatever is sent: the same status, headers and body."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving.front import NATIVE, TF, Front, Line
from tests.serving.house import House, pictures

GOOD = json.dumps({"instances": pictures(2).tolist()}).encode()
NATIVE_GOOD = json.dumps({"input": pictures(1)[0].tolist()}).encode()
#: The Open Inference Protocol's: a head, and the bytes of two pictures behind it.
_TENSOR = {"name": "x", "shape": [2, 4, 2, 1], "datatype": "FP32"}
V2_HEAD = json.dumps({"inputs": [{**_TENSOR, "parameters": {"binary_data_size": 64}}]}).encode()
V2_GOOD = V2_HEAD + pictures(2).tobytes()
V2_PLAIN = json.dumps({"inputs": [{**_TENSOR, "data": pictures(2).tolist()}]}).encode()
#: What differs from request to request: times, and who shared the batch.
VARIABLE = {"date", "x-queue-time", "x-inference-time", "x-batch-rows", "x-request-id"}

numbers = st.one_of(
    st.floats(width=32), st.integers(-(2**70), 2**70), st.booleans(), st.none(), st.text(max_size=3)
)
values = st.recursive(numbers, lambda inner: st.lists(inner, max_size=4), max_leaves=12)
rows = st.lists(
    st.lists(
        st.lists(st.lists(numbers, min_size=1, max_size=1), min_size=2, max_size=2),
        min_size=4,
        max_size=4,
    ),
    min_size=1,
    max_size=3,
)
calls = st.one_of(
    st.dictionaries(
        st.sampled_from(["instances", "inputs", "input", "x"]), values | rows, max_size=2
    ),
    values,
).map(lambda call: json.dumps(call).encode())
bodies = st.one_of(
    st.just(GOOD),
    st.just(NATIVE_GOOD),
    st.sampled_from([V2_GOOD, V2_PLAIN]),
    calls,
    st.binary(max_size=60),
    st.builds(
        lambda body, at, piece: body[:at] + piece + body[at:],
        st.sampled_from([GOOD, NATIVE_GOOD]),
        st.integers(0, 60),
        st.binary(max_size=3),
    ),
    st.builds(lambda at: GOOD[:at], st.integers(0, len(GOOD))),
)
paths = st.one_of(
    st.sampled_from(
        [TF, NATIVE, TF + "?x=1", NATIVE + "?top_k=1", NATIVE + "?version=9", NATIVE + "?top_k=%31"]
        + ["/v1/models/digits/versions/1:predict", "/v1/models/digits/versions/x:predict"]
        + ["/v1/models/digits/labels/none:predict", "/v1/models/nothing:predict", "/predict/"]
        + ["/predict/default/digits", "/predict/blue/digits", "/predict/a/b/c", "/explain/digits"]
        + ["/v1/models/%E6%95%B0:predict", "//predict/digits", "/predict/digits/", "/predict/%2F"]
        + ["/v2/models/digits/infer", "/v2/models/digits/versions/1/infer", "/v1/embeddings"]
        + ["/v2/models/digits/versions/none/infer", "/hf/models/digits", "/hf/models/digits@9"]
        + ["/predict/digits%00", "/predict/digits#part", "/predict/digits?"]
    ),
    st.text("abc/:%3fx?&=#", max_size=12).map(lambda text: "/predict/" + text),
)
headers = st.lists(
    st.sampled_from(
        [
            "content-type: text/plain",
            "content-type: application/json; charset=utf-8",
            "x-request-timeout: 5",
            "x-request-timeout: 0",
            "x-request-timeout: soon",
            "x-modelry-project: default",
            "x-modelry-project: blue",
            "x-api-key: mk_a_b",
            "authorization: Bearer nonsense",
            "origin: http://127.0.0.1",
            "origin: null",
            "host: elsewhere",
            "content-encoding: gzip",
            "content-encoding: identity",
            "accept-encoding: gzip, deflate",
            "x-request-id: one",
            "x-request-id: two words",
            "x-weird: \xe9\xff",
            f"inference-header-content-length: {len(V2_HEAD)}",
            "connection: keep-alive",
            "upgrade: websocket",
            "trailer: x",
        ]
    ),
    max_size=4,
)


@pytest.fixture(scope="module")
def fronts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Front, Front]]:
    """Both ways to one replica."""
    house = House(tmp_path_factory.mktemp("visual") / "home")
    house.linear()
    house.started()
    with Front(house, fast=True) as fast, Front(house, fast=False) as plain:
        yield fast, plain
    house.close()


def ask(front: Front, line: Line, body: bytes, path: str, more: list[str]) -> tuple[Any, ...]:
    """The answer without what differs each time."""
    line.send(front.call(body, *more, path=path))
    heard = line.answer()
    kept = {name: value for name, value in heard.headers.items() if name not in VARIABLE}
    told = re.sub(rb'"(\w+_ms)":[\d.e-]+', rb'"\1":0', heard.body).decode()
    if told != heard.body.decode():
        del kept["content-length"]
    has_id = heard.headers["x-request-id"].startswith("req_") or heard.headers["x-request-id"]
    told = told.replace(f":{front.port}", "")
    return heard.status, kept, told, has_id, VARIABLE & set(heard.headers)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=bodies, path=paths, more=headers, repeats=st.integers(1, 2))
def test_both_ways_answer_alike(
    fronts: tuple[Front, Front], body: bytes, path: str, more: list[str], repeats: int
) -> None:
    fast, plain = fronts
    with Line(fast) as one, Line(plain) as other:
        for _ in range(repeats):
            first = ask(fast, one, body, path, more)
            assert first == ask(plain, other, body, path, more)
            assert first[0] < 500
            if first[1].get("connection") == "close":
                break


@settings(max_examples=150, deadline=None)
@given(
    noise=st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from(
                [b"POST ", TF.encode(), b" HTTP/1.1\r\n", b"\r\n\r\n", b"host: localhost\r\n"]
            ),
            st.sampled_from([b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n", GOOD]),
        ),
        max_size=12,
    )
)
def test_noise_is_refused_alike_and_leaves_both_well(
    fronts: tuple[Front, Front], noise: list[bytes]
) -> None:
    said = []
    for front in fronts:
        with Line(front) as line:
            line.send(b"".join(noise))
            line.half_close()
            said.append(_statuses(line))
    assert said[0] == said[1]
    for front in fronts:
        with Line(front) as line:
            line.send(front.call(GOOD))
            assert line.answer().status == 200


def _statuses(line: Line) -> list[int]:
    found: list[int] = []
    try:
        while True:
            found.append(line.answer().status)
    except (EOFError, ConnectionResetError):
        return found
