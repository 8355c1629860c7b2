"""A small real HTTP server that gives prepared answers, one after the other, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import modelry

#: The connection is cut without an answer.
CUT = None


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answering:
    """The prepared answers, (status, JSON) each; the last one is given again and again."""

    answers: list[tuple[int, Any] | None]
    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    def next_answer(self) -> tuple[int, Any] | None:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def answering(*answers: tuple[int, Any] | None) -> Iterator[Answering]:
    """Serves on a free port for the time of the block."""
    script = Answering(list(answers))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(script))
    script.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def talking(*answers: tuple[int, Any] | None) -> Iterator[tuple[Answering, modelry.Client]]:
    """The server, and a client that speaks to it."""
    with answering(*answers) as server, modelry.Client(server.url, "mk_a_b") as client:
        yield server, client


def _handler(script: Answering) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            script.asked.append(Asked(self.command, self.path, headers, body))
            answer = script.next_answer()
            if answer is CUT:
                self.close_connection = True
                return
            status, value = answer
            content = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.send_header("x-request-id", "req_test")
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

        def log_message(self, format: str, *args: Any) -> None:
            return

    return Handler
