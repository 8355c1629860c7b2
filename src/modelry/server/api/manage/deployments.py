"""`/api/v1/deployments`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

from pydantic import Field

from modelry.core.records import Deployment, Replica
from modelry.server.api.auth import Call, guarded_router, needs
from modelry.server.api.bodies import Body
from modelry.server.control import deployments
from modelry.server.control.deployments import Shape

router = guarded_router()

Replicas = Annotated[int, Field(ge=0, le=64)]
MaxBatch = Annotated[int, Field(ge=1, le=1024)]

MODEL = "A model version: 'name' (the newest), 'name:3' or 'name@alias'."
REPLICAS = "Copies that answer, each a process; 0 stops the deployment."
MAX_BATCH = "Rows that a replica computes at once, at most."
THREADS = "Compute threads of each replica; at most the cores."


class NewDeployment(Body):
    """A deployment to make."""

    name: str = Field(description="The name that predictions call.")
    model: str = Field(description=MODEL)
    replicas: Replicas | None = Field(default=None, description=f"{REPLICAS} One if not given.")
    max_batch: MaxBatch | None = Field(default=None, description=f"{MAX_BATCH} 32 if not given.")
    threads: int | None = Field(default=None, description=f"{THREADS} One if not given.")


class DeploymentChange(Body):
    """What is to change; the rest stays."""

    model: str | None = Field(default=None, description=MODEL)
    replicas: Replicas | None = Field(default=None, description=REPLICAS)
    max_batch: MaxBatch | None = Field(default=None, description=MAX_BATCH)
    threads: int | None = Field(default=None, description=THREADS)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentWithReplicas(Deployment):
    """A deployment and its processes."""

    #: Those that live, and the last few that ended.
    replicas_list: list[Replica]


@router.post("/api/v1/deployments", status_code=202)
def create_deployment(call: Annotated[Call, needs("deploy")], body: NewDeployment) -> Deployment:
    """A new deployment; the first prediction may be sent at once and waits for the first replica."""
    shape = Shape(replicas=body.replicas, max_batch=body.max_batch, threads=body.threads)
    return deployments.create_deployment(
        call.service.store, call.project, body.name, body.model, shape
    )


@router.get("/api/v1/deployments")
def list_deployments(call: Annotated[Call, needs("read")]) -> list[Deployment]:
    """The project's deployments."""
    return deployments.list_deployments(call.service.store, call.project)


@router.get("/api/v1/deployments/{name}")
def get_deployment(call: Annotated[Call, needs("read")], name: str) -> DeploymentWithReplicas:
    """One deployment and its replicas."""
    found, replicas = deployments.get_deployment(call.service.store, call.project, name)
    plain = {field.name: getattr(found, field.name) for field in fields(found)}
    return DeploymentWithReplicas(**plain, replicas_list=replicas)


@router.patch("/api/v1/deployments/{name}", status_code=202)
def update_deployment(
    call: Annotated[Call, needs("deploy")], name: str, body: DeploymentChange
) -> Deployment:
    """Changes what is wished; another version rolls out without one failed request."""
    shape = Shape(**body.model_dump())
    return deployments.update_deployment(call.service.store, call.project, name, shape)


@router.delete("/api/v1/deployments/{name}", status_code=202)
def delete_deployment(call: Annotated[Call, needs("deploy")], name: str) -> None:
    """Ends a deployment; its replicas finish what they have accepted."""
    deployments.delete_deployment(call.service.store, call.project, name)
