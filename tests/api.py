"""The management API in the words of the stories: plain HTTP, so that the SDK is not needed to judge the service."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

import httpx

from tests.service import Service

FINAL = ("succeeded", "failed", "cancelled")


class Api:
    """Calls of the instance key. A service that is just being restarted is asked again."""

    def __init__(self, service: Service, key: str | None = None) -> None:
        self._service = service
        self._key = key or service.key
        self._http = httpx.Client(timeout=30)

    def __enter__(self) -> Api:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def call(self, method: str, path: str, *, patience_s: float = 30.0, **options: Any) -> Any:
        """The JSON answer of a call that must succeed; connection errors are retried for a while."""
        answer = self.ask(method, path, patience_s=patience_s, **options)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def ask(
        self, method: str, path: str, *, patience_s: float = 30.0, **options: Any
    ) -> httpx.Response:
        """The answer, whatever it is."""
        headers = {"authorization": f"Bearer {self._key}", **options.pop("headers", {})}
        deadline = time.monotonic() + patience_s
        while True:
            try:
                answer = self._http.request(
                    method, self._service.url + path, headers=headers, **options
                )
            except (httpx.TransportError, OSError, ValueError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
                continue
            if answer.status_code == 503 and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            return answer

    def get(self, path: str, **options: Any) -> Any:
        return self.call("GET", f"/api/v1{path}", **options)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self.call("POST", f"/api/v1{path}", json=body or {})

    def delete(self, path: str) -> Any:
        return self.call("DELETE", f"/api/v1{path}")

    def submit(self, **body: Any) -> str:
        """Submits a job; returns its id."""
        return str(self.post("/jobs", body)["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.get(f"/jobs/{job_id}"))

    def wait_job(self, job_id: str, *states: str, timeout_s: float = 240.0) -> dict[str, Any]:
        """Waits until the job is in one of the states, by default its end; failing is an error unless asked for."""
        deadline = time.monotonic() + timeout_s
        while True:
            job = self.job(job_id)
            if job["state"] in (states or FINAL):
                assert states or job["state"] == "succeeded", job
                return job
            assert job["state"] not in FINAL, job
            assert time.monotonic() < deadline, f"not {states or FINAL} in time: {job}"
            time.sleep(0.05)

    def metrics(self, job_id: str, name: str) -> list[dict[str, Any]]:
        return list(self.get(f"/jobs/{job_id}/metrics", params={"name": name}))

    def add_digits(self, name: str = "digits") -> dict[str, Any]:
        """Imports the built-in digits; returns the version."""
        job = self.post("/datasets", {"name": name, "source": "builtin", "location": "digits"})
        self.wait_job(job["id"])
        return dict(self.get(f"/datasets/{name}/versions/latest"))

    def train(self, model: str = "digits", data: str = "digits", **more: Any) -> str:
        """Submits a training of the cnn; returns the job's id."""
        params = {"epochs": 1, **more.pop("params", {})}
        return self.submit(
            kind="train",
            recipe=more.pop("recipe", "cnn"),
            data=data,
            model=model,
            params=params,
            **more,
        )

    def deploy(self, model: str, name: str, replicas: int = 1) -> dict[str, Any]:
        """Deploys and waits until it is ready."""
        self.post("/deployments", {"model": model, "name": name, "replicas": replicas})
        return self.wait_deployment(name, "ready")

    def wait_deployment(self, name: str, state: str, timeout_s: float = 60.0) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while True:
            deployment = self.get(f"/deployments/{name}")
            if deployment["state"] == state:
                return dict(deployment)
            assert time.monotonic() < deadline, f"not {state} in time: {deployment}"
            time.sleep(0.05)
