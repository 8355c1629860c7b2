"""A web process for tests: the real application behind a real server on a free port, in a thread."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import uvicorn

from modelry.artifacts import Artifacts
from modelry.core.errors import ModelryError, from_wire
from modelry.core.records import Snapshot
from modelry.core.settings import Settings
from modelry.server.api.app import create_app
from modelry.server.api.errors import status_of
from modelry.server.api.serve import configure
from modelry.server.control import access, projects
from modelry.server.gateway import Gateway
from modelry.server.store import Store, routes

#: Stands for the admin key's text.
ADMIN = "(admin)"


class Web:
    """Give it to `with`; then `ask` it as a client would."""

    def __init__(self, home: Path, *, busy_timeout_s: float = 5.0, **settings: Any) -> None:
        home.mkdir(mode=0o700)
        # Tests send many wrong keys from one address; what limits them has tests of its own.
        self.settings = Settings(home=home, **{"wrong_keys_per_s": 1e6, **settings})
        self.store = Store(self.settings.database_address, busy_timeout_s=busy_timeout_s)
        self.store.migrate(None)
        self.admin = access.ensure_admin_key(self.store, self.settings).read_text().strip()
        self.artifacts = Artifacts(self.settings.artifacts_address)
        pepper = access.load_pepper(self.settings)
        self.gateway = Gateway(self._read_snapshot, pepper, self.settings)
        self.app = create_app(self.settings, self.store, self.artifacts, self.gateway)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=self.url, timeout=30)
        self._keys: dict[tuple[tuple[str, ...], str | None], str] = {}
        self._server = uvicorn.Server(configure(self.settings, self.app))
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def _read_snapshot(self) -> Snapshot:
        with self.store.read() as tx:
            return routes.snapshot(tx)

    async def _serve(self) -> None:
        await self.gateway.start()
        await self._server.serve(sockets=[self.socket])
        await self.gateway.close()

    def __enter__(self) -> Web:
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started:
            assert time.monotonic() < deadline
            assert self._thread.is_alive()
            time.sleep(0.005)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.http.close()
        self._server.should_exit = True
        self._thread.join(20)
        self.store.close()

    def key(self, *scopes: str, project: str | None = "default") -> str:
        """The text of a key with these rights, made when first asked for, by another process so to say."""
        if (scopes, project) not in self._keys:
            pepper = access.load_pepper(self.settings)
            _, self._keys[scopes, project] = access.create_key(
                self.store, pepper, label="test", scopes=scopes, project=project
            )
        return self._keys[scopes, project]

    def project(self, name: str) -> str:
        """A new project's name."""
        return projects.create_project(self.store, name).name

    def ask(
        self, method: str, path: str, *, key: str | None = ADMIN, **options: Any
    ) -> httpx.Response:
        """The answer; the key is the admin's unless another text, or None, is given."""
        headers = dict(options.pop("headers", {}))
        text = self.admin if key == ADMIN else key
        if text is not None:
            headers["authorization"] = f"Bearer {text}"
        return self.http.request(method, path, headers=headers, **options)

    def get(self, path: str, **options: Any) -> Any:
        """The JSON of a call that must succeed."""
        return self.value(self.ask("GET", f"/api/v1{path}", **options))

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        """The JSON of a call that must succeed."""
        return self.value(self.ask("POST", f"/api/v1{path}", json=body or {}, **options))

    @staticmethod
    def value(answer: httpx.Response) -> Any:
        """The JSON of an answer that is no error."""
        assert answer.is_success, answer.text
        return answer.json()

    def refused(self, method: str, path: str, **options: Any) -> ModelryError:
        """The error of a management call that must be refused."""
        return error_of(self.ask(method, f"/api/v1{path}", **options))


def error_of(answer: httpx.Response) -> ModelryError:
    """The error of an answer, which has the one shape and nothing else."""
    body = answer.json()
    assert set(body) == {"error"}, body
    assert set(body["error"]) == {"code", "message", "remedy", "retryable"}
    assert answer.headers["x-request-id"]
    assert "server" not in answer.headers
    error = from_wire(body["error"])
    assert answer.status_code == status_of(error)
    return error
