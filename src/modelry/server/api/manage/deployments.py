"""`/api/v1/deployments`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

from pydantic import Field

from modelry.core.records import Deployment, Replica, VersionTraffic
from modelry.server.api.auth import Call, guarded_router, needs
from modelry.server.api.bodies import Body
from modelry.server.control import deployments
from modelry.server.control.deployments import Shape, Trial
from modelry.server.control.traffic import read_traffic

router = guarded_router()

Replicas = Annotated[int, Field(ge=0, le=64)]
MaxBatch = Annotated[int, Field(ge=1, le=1024)]

Bound = Annotated[int, Field(ge=1, le=64)]
Idle = Annotated[float, Field(ge=0, le=30 * 86400)]
Requests = Annotated[int, Field(ge=0, le=1_000_000)]
Deadline = Annotated[float, Field(ge=0, le=3600)]
Percent = Annotated[float, Field(ge=0, le=100)]

MODEL = "A model version: 'name' (the newest), 'name:3' or 'name@alias'."
REPLICAS = "Copies that answer, each a process: a fixed number; 0 stops the deployment."
MIN_REPLICAS = "The fewest copies while it runs; autoscaling chooses between the two bounds."
MAX_REPLICAS = "The most copies."
IDLE = (
    "Seconds without a request after which it sleeps; the next request wakes it. "
    f"{deployments.SHORTEST_IDLE_S:g} or more; 0: never."
)
MAX_BATCH = "Rows that a replica computes at once, at most."
THREADS = "Compute threads of each replica; at most the cores."
MAX_IN_FLIGHT = (
    "Requests worked on at once; more wait, as `max_queue` lets them, or are refused. 0: no bound."
)
MAX_QUEUE = (
    "Requests that may wait beside `max_in_flight`, or beside what the replicas run. 0: no bound."
)
DEADLINE = "Seconds that a request may take if it does not say. 0: as the service."
CANARY = "Another version of the model that gets a share of the requests."


class Serving(Body):
    """How it is served; what is not given stays, or takes its default."""

    replicas: Replicas | None = Field(default=None, description=f"{REPLICAS} At first: one.")
    min_replicas: Bound | None = Field(default=None, description=MIN_REPLICAS)
    max_replicas: Bound | None = Field(default=None, description=MAX_REPLICAS)
    idle_s: Idle | None = Field(default=None, description=f"{IDLE} At first: never.")
    max_batch: MaxBatch | None = Field(default=None, description=f"{MAX_BATCH} At first: 32.")
    threads: int | None = Field(default=None, description=f"{THREADS} At first: one.")
    max_in_flight: Requests | None = Field(default=None, description=MAX_IN_FLIGHT)
    max_queue: Requests | None = Field(default=None, description=MAX_QUEUE)
    deadline_s: Deadline | None = Field(default=None, description=DEADLINE)


class NewDeployment(Serving):
    """A deployment to make."""

    name: str = Field(description="The name that predictions call.")
    model: str = Field(description=MODEL)


class CanaryWish(Body):
    """A version on trial; what is not given stays."""

    model: str | None = Field(default=None, description=MODEL)
    percent: Percent | None = Field(
        default=None, description="Its share of the requests that pin no version."
    )


class DeploymentChange(Serving):
    """What is to change; the rest stays."""

    model: str | None = Field(default=None, description=MODEL)
    canary: CanaryWish | None = Field(default=None, description=CANARY)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentWithReplicas(Deployment):
    """A deployment, its processes, and what they did."""

    #: Those that live, and the last few that ended.
    replicas_list: list[Replica]
    #: What each version was asked and how it answered.
    versions: list[VersionTraffic]


@router.post("/api/v1/deployments", status_code=202)
def create_deployment(call: Annotated[Call, needs("deploy")], body: NewDeployment) -> Deployment:
    """A new deployment; the first prediction may be sent at once and waits for the first replica."""
    shape = Shape(**body.model_dump(exclude={"name"}))
    return deployments.create_deployment(
        call.service.store, call.project, body.name, body.model, shape
    )


@router.get("/api/v1/deployments")
def list_deployments(call: Annotated[Call, needs("read")]) -> list[Deployment]:
    """The project's deployments."""
    return deployments.list_deployments(call.service.store, call.project)


@router.get("/api/v1/deployments/{name}")
def get_deployment(call: Annotated[Call, needs("read")], name: str) -> DeploymentWithReplicas:
    """One deployment, its replicas, and its versions side by side."""
    found, replicas = deployments.get_deployment(call.service.store, call.project, name)
    versions = read_traffic(call.service.settings.places, found, replicas)
    plain = {field.name: getattr(found, field.name) for field in fields(found)}
    return DeploymentWithReplicas(**plain, replicas_list=replicas, versions=versions)


@router.patch("/api/v1/deployments/{name}", status_code=202)
def update_deployment(
    call: Annotated[Call, needs("deploy")], name: str, body: DeploymentChange
) -> Deployment:
    """Changes what is wished; another version rolls out without one failed request."""
    given = body.model_dump(exclude={"canary"})
    trial = None if body.canary is None else Trial(**body.canary.model_dump())
    shape = Shape(**given, canary=trial)
    return deployments.update_deployment(call.service.store, call.project, name, shape)


@router.post("/api/v1/deployments/{name}/promote", status_code=202)
def promote_canary(call: Annotated[Call, needs("deploy")], name: str) -> Deployment:
    """The canary becomes the version that serves, without one failed request."""
    return deployments.promote_canary(call.service.store, call.project, name)


@router.post("/api/v1/deployments/{name}/rollback", status_code=202)
def roll_back(call: Annotated[Call, needs("deploy")], name: str) -> Deployment:
    """Takes the canary away; without one, the version before serves again."""
    return deployments.roll_back(call.service.store, call.project, name)


@router.post("/api/v1/deployments/{name}/stop", status_code=202)
def stop_deployment(call: Annotated[Call, needs("deploy")], name: str) -> Deployment:
    """Ends the replicas of a deployment; it keeps its settings and answers 503 until it is started."""
    return deployments.stop_deployment(call.service.store, call.project, name)


@router.post("/api/v1/deployments/{name}/start", status_code=202)
def start_deployment(call: Annotated[Call, needs("deploy")], name: str) -> Deployment:
    """Starts a deployment that was stopped, or that sleeps."""
    return deployments.start_deployment(call.service.store, call.project, name)


@router.delete("/api/v1/deployments/{name}", status_code=202)
def delete_deployment(call: Annotated[Call, needs("deploy")], name: str) -> None:
    """Ends a deployment; its replicas finish what they have accepted."""
    deployments.delete_deployment(call.service.store, call.project, name)
