"""A model that needs exactly so long for each request, put straight into a running service, and crowds that ask it."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
import pytest

from modelry.artifacts import Artifacts
from modelry.core.manifests import ModelManifest, RuntimeForm, TensorSpec
from modelry.server.store import Store, models
from tests.api import Api
from tests.service import Service, running_service

NAME = "pausing"
PATH = f"/v1/models/{NAME}:predict"


@contextmanager
def service_with_pausing(
    home: Path, pause_s: float, **settings: str
) -> Iterator[tuple[Service, Path]]:
    """A service that knows the runtime and has the model, and where the record of its rows is."""
    plugin = home.parent / "plugin"
    info = plugin / "pausing_runtime-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("pausing_runtime.py"), plugin)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pausing-runtime\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[modelry.runtimes]\npausing = pausing_runtime:load\n")
    record = home.parent / "record"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(plugin))
        with running_service(home, **settings) as service:
            publish(service, pause_s, record)
            yield service, record


def publish(service: Service, pause_s: float, record: Path) -> None:
    """A version of the model `pausing`."""
    record.touch()
    manifest = ModelManifest(
        task="tabular-classification",
        recipe=None,
        inputs=[TensorSpec(name="x", dtype="float32", shape=[None, 2])],
        outputs=[TensorSpec(name="probabilities", dtype="float32", shape=[None, 2])],
        labels=["yes", "no"],
        media=None,
        metrics={},
        lineage={},
        runtimes={"pausing": RuntimeForm(file="model.json5")},
        files={},
    )
    wished = json.dumps({"pause_s": pause_s, "record": str(record)}).encode()
    artifacts = Artifacts(str(service.home / "blobs"))
    files = [
        artifacts.put_bytes(msgspec.json.encode(manifest), "model.json"),
        artifacts.put_bytes(wished, "model.json5"),
    ]
    store = Store(f"sqlite:///{service.home / 'modelry.db'}")
    try:
        with store.write() as tx:
            models.ensure(tx, "default", NAME)
            plain = msgspec.to_builtins(manifest)
            models.add_version(tx, "default", NAME, plain, files, None, None)
    finally:
        store.close()


def deploy(api: Api, **serving: object) -> None:
    """Puts it to work, one request at a time."""
    api.post("/deployments", {"model": NAME, "name": NAME, "max_batch": 1, **serving})
    api.wait_deployment(NAME, "ready")


def body_of(number: float, rows: int = 1) -> bytes:
    """A request that the record knows by its number."""
    return json.dumps({"instances": [[number, 0.0]] * rows}).encode()


@dataclass(frozen=True)
class Asked:
    """One request and what became of it, by the monotonic clock."""

    number: int
    sent_at: float
    answered_at: float
    #: 0 where the connection broke.
    status: int
    retry_after_ms: int | None

    @property
    def took_s(self) -> float:
        return self.answered_at - self.sent_at


class Crowd:
    """Clients that do not wait for each other: an open loop, as the world is."""

    def __init__(self, url: str, key: str, *, timeout_s: float | None = None) -> None:
        self._path = url + PATH
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        if timeout_s is not None:
            self._headers["x-request-timeout"] = f"{timeout_s:g}"
        self.asked: list[Asked] = []

    async def come(self, rate: float, duration_s: float, *, rows: int = 1) -> list[Asked]:
        """Sends `rate` requests a second on a fixed plan, however slowly they are answered."""
        limits = httpx.Limits(max_connections=512, max_keepalive_connections=512)
        async with httpx.AsyncClient(limits=limits, timeout=30.0) as http:
            tasks = []
            began = time.monotonic()
            for number in range(int(rate * duration_s)):
                delay_s = began + number / rate - time.monotonic()
                if delay_s > 0:
                    await asyncio.sleep(delay_s)
                tasks.append(asyncio.create_task(self._ask(http, number, rows)))
            await asyncio.gather(*tasks)
        return self.asked

    async def _ask(self, http: httpx.AsyncClient, number: int, rows: int) -> None:
        sent_at = time.monotonic()
        status, retry_after_ms = 0, None
        try:
            answer = await http.post(
                self._path, content=body_of(number, rows), headers=self._headers
            )
            status = answer.status_code
            if "retry-after-ms" in answer.headers:
                retry_after_ms = int(answer.headers["retry-after-ms"])
        except httpx.TransportError:
            pass
        self.asked.append(Asked(number, sent_at, time.monotonic(), status, retry_after_ms))


def run_at(record: Path) -> dict[int, list[float]]:
    """Request's number → when the model worked on it."""
    found: dict[int, list[float]] = {}
    for line in record.read_text().splitlines():
        moment, number = line.split()
        found.setdefault(int(float(number)), []).append(float(moment))
    return found
