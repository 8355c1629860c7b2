"""Deployments: put a model version to work, ask it, change it, end it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Unpack

from modelry.client import wire
from modelry.client._async.asking import predict_all, predict_one
from modelry.client._async.http import AsyncHttp
from modelry.client.predictions import Prediction
from modelry.client.refs import segment
from modelry.client.serving import Serving
from modelry.client.timing import async_sleep
from modelry.core.errors import DeadlineExceeded, NoReadyReplica, NotFound, from_wire
from modelry.core.records import Deployment, Replica, VersionTraffic
from modelry.core.states import DeploymentState, ReplicaState

#: Seconds between looks at a deployment.
POLL_S = 0.1
#: How long a deployment must be `failed` before that is believed.
_FAILED_S = 1.5


class AsyncDeploymentHandle:
    """One deployment, as it was when last looked at (`record`), and what can be done with it."""

    def __init__(self, http: AsyncHttp, record: Deployment) -> None:
        self._http = http
        #: The newest record; `refresh` fetches another.
        self.record = record

    def __repr__(self) -> str:
        what = f"{self.record.model}:{self.record.version}"
        return f"<{type(self).__name__} {self.name} of {what}: {self.record.state.value}>"

    @property
    def name(self) -> str:
        return self.record.name

    async def predict(
        self,
        x: Any,
        *,
        top_k: int | None = None,
        version: int | None = None,
        timeout_s: float | None = None,
    ) -> Prediction:
        """One answer. `x`: a path, bytes, a PIL image, an array or nested lists of numbers.

        Arrays have the range and shape of the model's tensor input, without the batch dimension.
        """
        options = {"top_k": top_k, "version": version}
        return await predict_one(self._http, self.name, x, timeout_s=timeout_s, **options)

    async def predict_many(
        self,
        xs: Iterable[Any],
        *,
        top_k: int | None = None,
        version: int | None = None,
        timeout_s: float | None = None,
    ) -> list[Prediction]:
        """One answer per input, in order; the inputs travel many at a time."""
        options = {"top_k": top_k, "version": version}
        return await predict_all(self._http, self.name, xs, timeout_s=timeout_s, **options)

    async def wait_ready(self, timeout_s: float = 120.0) -> Deployment:
        """Waits until all replicas of the wished version answer; raises what holds them back."""
        deadline = time.monotonic() + timeout_s
        failed_since: float | None = None
        while not _is_settled(record := await self.refresh()):
            now = time.monotonic()
            # A state of `failed` may be older than what is wished now; one that stays is the answer.
            is_failed = record.state is DeploymentState.FAILED
            failed_since = (failed_since or now) if is_failed else None
            if failed_since is not None and now - failed_since > _FAILED_S:
                raise _failure(record)
            if now > deadline:
                raise DeadlineExceeded(
                    f"The deployment '{self.name}' is {record.state.value} after {timeout_s:g} s.",
                    remedy=f"`modelry deployments show {self.name}` tells what holds it back.",
                )
            await async_sleep(POLL_S)
        return record

    async def refresh(self) -> Deployment:
        """Looks again."""
        value = await self._http.get(_path(self.name))
        return self._keep(value)

    async def replicas(self) -> list[Replica]:
        """The live replicas and the last few that ended."""
        value = await self._http.get(_path(self.name))
        return wire.to_records(Replica, value["replicas_list"])

    async def versions(self) -> list[VersionTraffic]:
        """The version that serves, its canary and those before, side by side."""
        value = await self._http.get(_path(self.name))
        return wire.to_records(VersionTraffic, value["versions"])

    async def update(self, *, model: str | None = None, **serving: Unpack[Serving]) -> Deployment:
        """Rolls to another version (`model="digits:2"`), or changes how it is served."""
        body = _given(model=model, **serving)
        return self._keep(await self._http.patch(_path(self.name), body))

    async def canary(self, model: str | None = None, *, percent: float | None = None) -> Deployment:
        """Gives another version of the model a share of the requests that pin none; None leaves what is there."""
        body = {"canary": _given(model=model, percent=percent)}
        return self._keep(await self._http.patch(_path(self.name), body))

    async def promote(self) -> Deployment:
        """The canary becomes the version that serves; raises `NotFound` where there is none."""
        return self._keep(await self._http.post(f"{_path(self.name)}/promote"))

    async def rollback(self) -> Deployment:
        """Takes the canary away; without one, goes back to the version before."""
        return self._keep(await self._http.post(f"{_path(self.name)}/rollback"))

    async def stop(self) -> Deployment:
        """Ends its replicas; it keeps its settings and answers nothing until it is started."""
        return self._keep(await self._http.post(f"{_path(self.name)}/stop"))

    async def start(self) -> Deployment:
        """Starts it again as it was; wakes one that sleeps."""
        return self._keep(await self._http.post(f"{_path(self.name)}/start"))

    async def wait_canary(self, timeout_s: float = 120.0) -> Deployment:
        """Waits until a replica of the canary answers; raises what holds it back."""
        deadline = time.monotonic() + timeout_s
        while True:
            value = await self._http.get(_path(self.name))
            replicas = wire.to_records(Replica, value["replicas_list"])
            record = self._keep(value)
            canary = record.canary
            if canary is None or any(
                one.version == canary.version and one.state is ReplicaState.READY
                for one in replicas
            ):
                return record
            if record.state is DeploymentState.DEGRADED and record.failure:
                raise from_wire(record.failure)
            if time.monotonic() > deadline:
                raise DeadlineExceeded(
                    f"The canary of '{self.name}' does not answer after {timeout_s:g} s.",
                    remedy=f"`modelry deployments show {self.name}` tells what holds it back.",
                )
            await async_sleep(POLL_S)

    async def delete(self, *, wait: bool = True, timeout_s: float = 60.0) -> None:
        """Ends the deployment: accepted requests are answered, then its replicas stop."""
        await self._http.delete(_path(self.name))
        deadline = time.monotonic() + timeout_s
        while wait:
            try:
                await self._http.get(_path(self.name))
            except NotFound:
                return
            if time.monotonic() > deadline:
                raise DeadlineExceeded(
                    f"The deployment '{self.name}' is still being deleted.",
                    remedy="It goes on; look again in a moment.",
                )
            await async_sleep(POLL_S)

    def _keep(self, value: Any) -> Deployment:
        self.record = wire.to_record(Deployment, value)
        return self.record


class AsyncDeployments:
    """`client.deployments`."""

    def __init__(self, http: AsyncHttp) -> None:
        self._http = http

    async def create(
        self,
        model: str,
        *,
        name: str,
        **serving: Unpack[Serving],
    ) -> AsyncDeploymentHandle:
        """Asks for a deployment and answers at once; `client.deploy` waits until it is ready."""
        body = _given(model=model, name=name, **serving)
        value = await self._http.post("/api/v1/deployments", body)
        return AsyncDeploymentHandle(self._http, wire.to_record(Deployment, value))

    async def list(self) -> list[Deployment]:
        """The project's deployments."""
        return wire.to_records(Deployment, await self._http.get("/api/v1/deployments"))

    async def get(self, name: str) -> AsyncDeploymentHandle:
        """One deployment; raises `NotFound`."""
        value = await self._http.get(_path(name))
        return AsyncDeploymentHandle(self._http, wire.to_record(Deployment, value))


def _given(**wished: Any) -> dict[str, Any]:
    return {name: value for name, value in wished.items() if value is not None}


def _is_settled(record: Deployment) -> bool:
    """Whether what is wished is so; the state may still tell of what was wished before."""
    if record.replicas == 0:
        return record.ready_replicas == 0
    return record.state is DeploymentState.READY and record.ready_replicas >= record.replicas


def _failure(record: Deployment) -> Exception:
    if record.failure:
        return from_wire(record.failure)
    return NoReadyReplica(name=record.name, reason="all of them failed")


def _path(name: str) -> str:
    return f"/api/v1/deployments/{segment(name)}"
