"""A model hub on this machine: as much of Hugging Face's HTTP as its own client library asks for."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest import mock
from urllib.parse import unquote, urlsplit

from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Repositories by name, and what was asked of them."""

    url: str = ""
    #: `org/name` → path → bytes.
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    cards: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Branches and tags, all of which point at the one commit.
    revisions: tuple[str, ...] = ("main", "v1.0", COMMIT)
    #: `METHOD path`, in order.
    asked: list[str] = field(default_factory=list)
    #: What is sent instead of a file's true bytes.
    lies: dict[str, bytes] = field(default_factory=dict)
    #: Authorization headers that came.
    tokens: list[str] = field(default_factory=list)

    def describe(self, repository: str) -> dict[str, Any]:
        """What `/api/models/…` says."""
        siblings = [
            {"rfilename": path, "size": len(data), "blobId": _blob(data), **_lfs(path, data)}
            for path, data in self.repositories[repository].items()
        ]
        return {
            "id": repository,
            "modelId": repository,
            "sha": COMMIT,
            "private": False,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "pipeline_tag": "text-classification",
            "cardData": self.cards.get(repository, {}),
            "siblings": siblings,
        }


@contextmanager
def running_hub(hub: Hub) -> Iterator[Hub]:
    """Serves the hub on a free port; all other tests run with hubs switched off (`HF_HUB_OFFLINE`)."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            with (
                mock.patch.dict(os.environ, {"HF_HUB_OFFLINE": "0"}),
                mock.patch.object(constants, "HF_HUB_OFFLINE", False),
            ):
                yield hub
        finally:
            server.shutdown()
            thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: Any) -> None:
        return

    def _answer(self, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        if "authorization" in self.headers:
            self.hub.tokens.append(self.headers["authorization"])
        if path.startswith("/api/models/"):
            self._describe(path.removeprefix("/api/models/"), with_body)
            return
        repository, _, rest = path.strip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        files = self.hub.repositories.get(repository, {})
        if revision not in self.hub.revisions or file not in files:
            self._missing(
                "EntryNotFound" if repository in self.hub.repositories else "RepoNotFound"
            )
            return
        data = self.hub.lies.get(file, files[file])
        self.send_response(200)
        self.send_header("etag", f'"{_blob(data)}"')
        self.send_header("x-repo-commit", COMMIT)
        self.send_header("content-length", str(len(data)))
        self.send_header("content-type", "application/octet-stream")
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def _describe(self, asked: str, with_body: bool) -> None:
        repository, _, revision = asked.partition("/revision/")
        if repository not in self.hub.repositories:
            self._missing("RepoNotFound")
        elif revision and revision not in self.hub.revisions:
            self._missing("RevisionNotFound")
        else:
            data = json.dumps(self.hub.describe(repository)).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            if with_body:
                self.wfile.write(data)

    def _missing(self, code: str) -> None:
        self.send_response(404)
        self.send_header("x-error-code", code)
        self.send_header("x-error-message", "not here")
        self.send_header("content-length", "0")
        self.end_headers()


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _lfs(path: str, data: bytes) -> dict[str, Any]:
    if not path.endswith((".safetensors", ".bin")):
        return {}
    return {
        "lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    }
