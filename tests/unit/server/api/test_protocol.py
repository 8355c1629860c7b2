"""What comes before a request is one: heads without end, and bytes that are no HTTP."""

from __future__ import annotations

import json
import socket

import pytest

from modelry.server.api.protocol import MAX_HEAD_BYTES
from tests.unit.server.api.web import Web

START = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


def converse(web: Web, *pieces: bytes) -> bytes:
    """All that comes back until the server closes."""
    answer = b""
    with socket.create_connection(("127.0.0.1", web.port), timeout=20) as client:
        try:
            for piece in pieces:
                client.sendall(piece)
            while received := client.recv(65536):
                answer += received
        except (ConnectionResetError, BrokenPipeError):
            pass
    return answer


def refusal(answer: bytes) -> dict[str, str]:
    """The error of the last answer, which has the one shape."""
    head, _, body = answer.rpartition(b"\r\n\r\n")
    last = head[head.rindex(b"HTTP/1.1 ") :]
    assert last.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nx-request-id: req_" in last
    assert b"\r\nconnection: close" in last
    error = json.loads(body)["error"]
    assert set(error) == {"code", "message", "remedy", "retryable"}
    return dict(error)


@pytest.mark.parametrize(
    "start",
    [START, START + b"X-Endless: ", CHUNKED + b"0\r\n", CHUNKED + b"0\r\nX-Endless: "],
    ids=["headers", "one header", "trailers", "one trailer"],
)
def test_a_head_without_end_is_cut_off_before_it_fills_the_memory(web: Web, start: bytes) -> None:
    endless = b"x" * 1000 if start.endswith(b": ") else b"X-More: " + b"x" * 990 + b"\r\n"
    # What the kernel holds on both sides comes on top of the limit.
    assert flood(web, start, endless * 100) < 32 << 20


def flood(web: Web, start: bytes, endless: bytes) -> int:
    """How many bytes could be sent until the server hung up."""
    sent = 0
    with socket.create_connection(("127.0.0.1", web.port), timeout=20) as client:
        client.sendall(start)
        try:
            while sent < 64 << 20:
                sent += client.send(endless)
        except (ConnectionResetError, BrokenPipeError):
            pass
    return sent


def test_a_large_head_is_told_the_limit(web: Web) -> None:
    head = START + b"X-Large: " + b"x" * (MAX_HEAD_BYTES + 1)
    assert str(MAX_HEAD_BYTES) in refusal(converse(web, head))["message"]


def test_a_thousand_headers_are_fine(web: Web) -> None:
    head = START + b"X-Many: yes\r\n" * 1000 + b"Connection: close\r\n\r\n"
    assert converse(web, head).startswith(b"HTTP/1.1 200")


def test_many_requests_on_one_connection_never_add_up(web: Web) -> None:
    one = START + b"X-Some: " + b"x" * 4000 + b"\r\n"
    answers = converse(web, *[one + b"\r\n"] * 50, one + b"Connection: close\r\n\r\n")
    assert answers.count(b"HTTP/1.1 200") == 51


@pytest.mark.parametrize(
    "sent",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        START + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET /手 HTTP/1.1\r\n\r\n".encode(),
    ],
    ids=["HTTP/2", "TLS", "two lengths", "a raw path"],
)
def test_what_is_no_http_is_told_so_in_the_one_shape(web: Web, sent: bytes) -> None:
    assert refusal(converse(web, sent))["code"] == "invalid_request"
