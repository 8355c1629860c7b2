"""HTTP as hard as clients can make it, by both ways: every request gets its answer, in order, and holds up nobody."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import resource
import socket
import ssl
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from modelry.server.api.fast import FastCycle
from tests.serving.front import NATIVE, TF, Front, Line
from tests.serving.hostile_runtime import HANG
from tests.serving.house import House, pictures, wait_until

X = pictures(1)
BODY = json.dumps({"instances": X.tolist()}).encode()
#: So many rows in less than a megabyte, and more than a megabyte of answer.
MANY = (
    b'{"instances":[' + b",".join([b"[[[0],[1]],[[2],[3]],[[4],[5]],[[6],[7]]]"] * 20_000) + b"]}"
)


@pytest.fixture(scope="module")
def visual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house with one replica that takes 4×2 pictures."""
    house = House(tmp_path_factory.mktemp("visual") / "home")
    house.linear()
    house.started()
    yield house
    house.close()


@pytest.fixture(scope="module", params=["fast", "asgi"])
def front(visual: House, request: pytest.FixtureRequest) -> Iterator[Front]:
    """The one way and the other."""
    with Front(visual, fast=request.param == "fast") as front:
        yield front


@pytest.fixture(params=["fast", "asgi"])
def way(request: pytest.FixtureRequest) -> bool:
    """The same for tests that need a front of their own."""
    return bool(request.param == "fast")


@pytest.fixture
def hanging(house: House) -> House:
    """A house with one replica that hangs when told to."""
    house.hostile()
    house.started()
    return house


def expected(house: House, x: Any = X) -> Any:
    return house.packages[1].expect(np.asarray(x, np.float32))


def check(front: Front, line: Line, x: Any = X) -> dict[str, str]:
    """The next answer must be the prediction for x; its headers."""
    heard = line.answer()
    assert heard.status == 200, heard
    np.testing.assert_allclose(heard.json["predictions"], expected(front.house, x), atol=1e-5)
    return heard.headers


def numbered(count: int) -> list[Any]:
    """Inputs whose answers all differ."""
    return [pictures(1, seed) for seed in range(count)]


def body_of(x: Any) -> bytes:
    return json.dumps({"instances": x.tolist()}).encode()


# Connections.


def test_a_connection_is_kept_for_the_next_request(front: Front) -> None:
    with Line(front) as line:
        for x in numbered(50):
            line.send(front.call(body_of(x)))
            assert "connection" not in check(front, line, x)


def test_who_asks_for_the_end_gets_it_after_the_answer(front: Front) -> None:
    with Line(front) as line:
        line.send(front.call(BODY, "connection: close"))
        assert check(front, line)["connection"] == "close"
        assert line.ended()


def test_http_of_the_first_version_is_answered_and_ended(front: Front) -> None:
    with Line(front) as line:
        line.send(front.call(BODY, version="1.0"))
        check(front, line)
        assert line.ended()


def test_an_idle_connection_is_closed_after_its_time(visual: House, way: bool) -> None:
    with Front(visual, fast=way, keep_alive_s=1) as front, Line(front) as line, Line(front) as new:
        line.send(front.call(BODY))
        check(front, line)
        began = time.monotonic()
        assert line.ended()
        assert new.ended()
        assert 0.5 < time.monotonic() - began < 5


# Pipelining.


def test_pipelined_requests_are_answered_in_order(front: Front) -> None:
    xs = numbered(200)
    with Line(front) as line:
        threading.Thread(
            target=line.send, args=(b"".join(front.call(body_of(x)) for x in xs),)
        ).start()
        for x in xs:
            check(front, line, x)


def test_requests_of_all_kinds_may_follow_each_other(front: Front) -> None:
    health = f"GET /health HTTP/1.1\r\nhost: 127.0.0.1:{front.port}\r\n\r\n".encode()
    chunked = front.call(b"", "transfer-encoding: chunked", length=False)
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    with Line(front) as line:
        one = front.call(BODY) + health + front.call(b"no json") + chunked + chunks
        line.send((one + front.call(BODY, path="/predict/nothing")) * 20 + health)
        for _ in range(20):
            check(front, line)
            assert line.answer().json["status"] == "ok"
            assert line.answer().status == 400
            check(front, line)
            assert line.answer().status == 404
        assert line.answer().json["status"] == "ok"


def test_a_request_behind_a_slow_one_waits_for_its_turn(hanging: House, way: bool) -> None:
    slow, quick = b'{"instances":[[%d,0]]}' % HANG, b'{"instances":[[0.5,0]]}'
    with Front(hanging, fast=way) as front, Line(front) as line:
        line.send(front.call(slow) + front.call(quick) + front.call(b"{}"))
        wait_until(lambda: len(hanging.seen) == 2)
        line.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            line.answer()
        line.socket.settimeout(20)
        hanging.release()
        assert line.answer().json["predictions"] == [[HANG, 1 - HANG]]
        assert line.answer().json["predictions"] == [[0.5, 0.5]]
        assert line.answer().status == 400


def test_nonsense_behind_a_slow_request_does_not_answer_in_its_place(
    hanging: House, way: bool
) -> None:
    with Front(hanging, fast=way) as front, Line(front) as line:
        line.send(front.call(b'{"instances":[[%d,0]]}' % HANG) + b"\x00\x01 nonsense\r\n\r\n")
        wait_until(lambda: len(hanging.seen) == 2)
        time.sleep(0.1)
        hanging.release()
        assert line.answer().status == 200
        assert line.answer().status == 400
        assert line.ended()


def test_thousands_of_refusals_at_once_are_as_many_answers(front: Front) -> None:
    with Line(front) as line:
        threading.Thread(target=line.send, args=(front.call(b"{") * 3000,)).start()
        assert {line.answer().status for _ in range(3000)} == {400}


def test_a_connection_that_only_asks_is_not_read_without_end(hanging: House, way: bool) -> None:
    with Front(hanging, fast=way) as front, Line(front) as line:
        line.send(front.call(b'{"instances":[[%d,0]]}' % HANG))
        wait_until(lambda: len(hanging.seen) == 2)
        line.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            line.send(front.call(b'{"instances":[[0.5,0]]}') * 1_000_000)
        hanging.release()
        assert line.answer().status == 200


# Bodies.


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_body_in_chunks_is_one_body(front: Front, size: int) -> None:
    pieces = [BODY[at : at + size] for at in range(0, len(BODY), size)]
    chunks = b"".join(b"%x;note=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    with Line(front) as line:
        for _ in range(3):
            line.send(front.call(b"", "transfer-encoding: chunked", length=False))
            line.send(chunks + b"0\r\nx-trailer: 1\r\n\r\n")
            check(front, line)


def raw_deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(body) + stream.flush()


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("gzip", lambda body: gzip.compress(body[:50]) + gzip.compress(body[50:])),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("identity", bytes),
    ],
    ids=["gzip", "gzip twice", "zlib", "raw deflate", "identity"],
)
def test_a_compressed_body_is_read(front: Front, encoding: str, encode: Any) -> None:
    with Line(front) as line:
        line.send(front.call(encode(BODY), f"content-encoding: {encoding}"))
        check(front, line)


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", BODY, 400),
        ("gzip", gzip.compress(BODY)[:-10], 400),
        ("deflate", b"", 400),
        ("br", BODY, 415),
        ("gzip, gzip", gzip.compress(gzip.compress(BODY)), 415),
        ("gzip", gzip.compress(bytes(200 << 20), 9), 413),
        ("gzip", gzip.compress(bytes(1 << 20)) * 200, 413),
    ],
    ids=["none", "cut off", "empty", "brotli", "two layers", "a bomb", "many bombs"],
)
def test_what_cannot_be_unpacked_is_refused(
    front: Front, encoding: str, body: bytes, status: int
) -> None:
    with Line(front) as line:
        line.send(front.call(body, f"content-encoding: {encoding}"))
        assert line.answer().status == status
        line.send(front.call(BODY))
        check(front, line)


def test_who_waits_to_be_told_to_go_on_is_told(front: Front) -> None:
    with Line(front) as line:
        head, body = front.call(BODY, "expect: 100-continue").split(b"\r\n\r\n", 1)
        for _ in range(2):
            line.send(head + b"\r\n\r\n")
            assert line.interim().status == 100
            line.send(body)
            check(front, line)


def test_nobody_is_told_to_send_what_will_be_refused(front: Front) -> None:
    large = front.call(b"", "content-length: 1000000000", "expect: 100-continue", length=False)
    for call, status in (
        (large, 413),
        (large.replace(b"mk_", b"mk_x"), 401),
        (large.replace(b"digits", b"nothing"), 404),
    ):
        with Line(front) as line:
            line.send(call)
            assert line.interim().status == status


def test_a_gigabyte_is_refused_and_held_nowhere(front: Front) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Line(front) as line:
        line.send(front.call(b"", f"content-length: {1 << 30}", length=False))
        piece, sent = bytes(1 << 20), 0
        try:
            while sent < 1 << 30:
                line.send(piece)
                sent += len(piece)
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert line.answer().status == 413
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


@pytest.mark.parametrize("length", ["-1", "+5", "5 5", "0x10", "", "99999999999999999999999"])
def test_a_length_that_is_none_is_no_http(front: Front, length: str) -> None:
    with Line(front) as line:
        line.send(front.call(BODY, f"content-length: {length}", length=False))
        assert line.answer().status in (400, 413)


def test_two_lengths_are_no_http(front: Front) -> None:
    with Line(front) as line:
        line.send(front.call(BODY, f"content-length: {len(BODY)}"))
        assert line.answer().status == 400


# Slow clients, and those that leave.


def test_a_request_byte_by_byte_is_a_request(front: Front) -> None:
    with Line(front) as line:
        for _ in range(2):
            line.drip(front.call(BODY))
            check(front, line)


def test_a_head_that_does_not_end_in_time_is_left(visual: House, way: bool) -> None:
    with Front(visual, fast=way, head_timeout_s=1) as front, Line(front) as line:
        line.send(front.call(BODY))
        check(front, line)
        call = front.call(BODY)
        began = time.monotonic()
        threading.Thread(target=drip_for_long, args=(line, call)).start()
        heard = line.answer()
        assert (heard.status, heard.json["error"]["code"]) == (408, "too_slow")
        assert line.ended()
        assert time.monotonic() - began < 6


def drip_for_long(line: Line, data: bytes) -> None:
    """Byte after byte, as long as somebody listens."""
    with contextlib.suppress(OSError):
        line.drip(data, pause_s=0.1)


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_that_comes_by_the_byte_is_left(visual: House, way: bool, is_chunked: bool) -> None:
    with Front(visual, fast=way, stall_timeout_s=1) as front, Line(front) as line:
        how = "transfer-encoding: chunked" if is_chunked else "content-length: 5000"
        line.send(front.call(b"", how, length=False))
        piece = b"1\r\n \r\n" if is_chunked else b" "
        threading.Thread(target=drip_for_long, args=(line, piece * 200)).start()
        heard = line.answer()
        assert (heard.status, heard.json["error"]["code"]) == (408, "too_slow")
        assert line.ended()


def test_a_client_that_sends_no_more_still_gets_its_answers(hanging: House, way: bool) -> None:
    with Front(hanging, fast=way) as front, Line(front) as line:
        line.send(
            front.call(b'{"instances":[[%d,0]]}' % HANG) + front.call(b'{"instances":[[0.5,0]]}')
        )
        line.half_close()
        wait_until(lambda: len(hanging.seen) == 2)
        time.sleep(0.4)
        hanging.release()
        assert line.answer().status == 200
        assert line.answer().json["predictions"] == [[0.5, 0.5]]
        assert line.ended()


def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(front: Front) -> None:
    call = front.call(BODY)
    for at in range(0, len(call), 7):
        with Line(front) as line:
            line.send(call[:at])
    wait_until(lambda: not front.server.server_state.connections)
    with Line(front) as line:
        line.send(call)
        check(front, line)


def test_a_client_that_resets_in_the_middle_leaves_nothing_behind(front: Front) -> None:
    for _ in range(50):
        line = Line(front)
        line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        line.send(front.call(BODY) * 3)
        line.hang_up()
    wait_until(lambda: not front.server.server_state.connections)
    with Line(front) as line:
        line.send(front.call(BODY))
        check(front, line)


def test_a_slow_reader_gets_everything_and_fills_no_memory(front: Front) -> None:
    count = 40
    with Line(front, receive_buffer=4096) as line:
        sender = threading.Thread(target=line.send, args=(front.call(MANY) * count,))
        sender.start()
        time.sleep(1.0)
        (connection,) = front.server.server_state.connections
        # One answer that is being written, and what the parser had in its hands.
        assert connection.transport.get_write_buffer_size() < 8 << 20
        row = expected(front.house, np.arange(8).reshape(1, 4, 2, 1))[0]
        for _ in range(count):
            answer = line.answer().json["predictions"]
            assert len(answer) == 20_000
            np.testing.assert_allclose(answer[-1], row, atol=1e-5)
        sender.join()


def test_a_client_that_never_reads_is_left(visual: House, way: bool) -> None:
    with (
        Front(visual, fast=way, stall_timeout_s=1, keep_alive_s=1) as front,
        Line(front, receive_buffer=4096) as line,
    ):
        line.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(100):
                line.socket.send(front.call(MANY))
        wait_until(lambda: bool(front.server.server_state.connections))
        wait_until(lambda: not front.server.server_state.connections)


# What heads may say.


@pytest.mark.parametrize(
    "path",
    [
        "http://127.0.0.1/v1/models/digits:predict",
        "/v1/models/%64igits:predict",
        "/v1/models/digits/versions/1:predict",
        "/v1/models/default/digits:predict",
    ],
)
def test_a_path_may_be_written_in_other_ways(front: Front, path: str) -> None:
    with Line(front) as line:
        line.send(front.call(BODY, path=path))
        check(front, line)


def test_the_clients_own_request_id_comes_back_and_a_bad_one_does_not(front: Front) -> None:
    with Line(front) as line:
        line.send(front.call(BODY, "x-request-id: Mine-1.a"))
        assert check(front, line)["x-request-id"] == "Mine-1.a"
        line.send(front.call(BODY, "x-request-id: {} {}"))
        assert check(front, line)["x-request-id"].startswith("req_")


@pytest.mark.parametrize("header", ["host: elsewhere.example", "origin: http://elsewhere.example"])
def test_other_hosts_and_pages_are_refused(front: Front, header: str) -> None:
    with Line(front) as line:
        line.send(front.call(BODY, header))
        assert line.answer().status == 403


def test_a_key_of_another_shape_is_refused_each_time(front: Front) -> None:
    call = front.call(BODY)
    with Line(front) as line:
        line.send(call + call.replace(b"mk_", b"mk_x") + call + call.replace(b"Bearer", b"Basic"))
        assert [line.answer().status for _ in range(4)] == [200, 401, 200, 401]


def test_a_revoked_key_ends_in_the_middle_of_a_connection(hanging: House, way: bool) -> None:
    call = b'{"instances":[[0.5,0]]}'
    with Front(hanging, fast=way) as front, Line(front) as line:
        line.send(front.call(call))
        assert line.answer().status == 200
        hanging.is_locked = True
        asyncio.run_coroutine_threadsafe(front.gateway.refresh(), front.loop).result(10)
        line.send(front.call(call))
        assert line.answer().status == 401


def test_other_methods_are_refused(front: Front) -> None:
    with Line(front) as line:
        for method in (b"GET", b"PUT", b"DELETE", b"PATCH"):
            line.send(front.call(BODY, path=NATIVE).replace(b"POST", method, 1))
            assert line.answer().status == 405


# Together.


def test_many_clients_of_every_kind_at_once_each_get_their_own(front: Front) -> None:
    failures: list[BaseException] = []

    def talk(seed: int) -> None:
        try:
            with Line(front) as line:
                for x in [pictures(1, seed * 100 + n) for n in range(20)]:
                    call = front.call(body_of(x))
                    line.drip(call, piece=[len(call), 500, 33][seed % 3])
                    check(front, line, x)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=talk, args=(seed,)) for seed in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_request_in_flight_is_answered_when_the_process_ends(hanging: House, way: bool) -> None:
    with (
        Front(hanging, fast=way, is_patient=True) as front,
        Line(front) as line,
        Line(front) as idle,
    ):
        line.send(front.call(b'{"instances":[[%d,0]]}' % HANG))
        wait_until(lambda: len(hanging.seen) == 2)
        front.server.should_exit = True
        wait_until(lambda: front.app.state.is_ending)
        idle.send(front.call(b"{}"))
        assert idle.answer().headers["connection"] == "close"
        time.sleep(1.0)
        hanging.release()
        heard = line.answer()
        assert (heard.status, heard.headers["connection"]) == (200, "close")
        assert line.ended()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        + ["-nodes", "-days", "1", "-subj", "/CN=localhost", "-keyout", str(key)]
        + ["-out", str(cert), "-addext", "subjectAltName=IP:127.0.0.1"],
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip("no openssl here to make a certificate")
    return {"tls_cert": cert, "tls_key": key}


def test_all_this_goes_through_tls(visual: House, way: bool, certificate: dict[str, Path]) -> None:
    context = ssl.create_default_context(cafile=str(certificate["tls_cert"]))
    with Front(visual, fast=way, **certificate) as front:
        with front.client(verify=context) as client:
            for x in numbered(10):
                answer = client.post(TF, content=body_of(x))
                np.testing.assert_allclose(
                    answer.json()["predictions"], expected(visual, x), atol=1e-5
                )
            assert client.post(NATIVE, content=b"{").status_code == 400
            large = client.post(TF, content=MANY)
            assert len(large.json()["predictions"]) == 20_000
        gone = httpx.Client(verify=context, headers=front.headers)
        with pytest.raises(httpx.ReadTimeout):
            gone.post(front.url + TF, content=MANY, timeout=httpx.Timeout(30, read=0.001))
        gone.close()
        wait_until(lambda: not front.server.server_state.connections)


def test_a_plain_call_never_meets_the_application(visual: House) -> None:
    with Front(visual, fast=True) as front, Line(front) as line:
        line.send(front.call(BODY))
        check(front, line)
        (connection,) = front.server.server_state.connections
        assert isinstance(connection.cycle, FastCycle)
        line.send(front.call(BODY, "expect: 100-continue"))
        check(front, line)
        assert not isinstance(connection.cycle, FastCycle)
