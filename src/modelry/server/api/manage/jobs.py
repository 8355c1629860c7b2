"""`/api/v1/jobs` and `/api/v1/recipes`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field

from modelry.core.jobs import SleepParams
from modelry.core.recipes import Param, RecipeCard, list_recipes
from modelry.core.records import Job, LogLine, MetricPoint
from modelry.core.states import JobState, JobWish
from modelry.server.api.auth import Call, guarded_router, needs
from modelry.server.api.bodies import LARGEST, Body
from modelry.server.control import jobs

router = guarded_router()


class NewJob(Body):
    """What every kind of job takes."""

    threads: int | None = Field(default=None, description="Compute threads; at most the cores.")
    memory_limit_bytes: int | None = Field(
        default=None,
        ge=1 << 20,
        le=1 << 50,
        description="Resident memory of all its processes at most.",
    )
    time_limit_s: float | None = Field(
        default=None, gt=0, description="Wall-clock seconds of one attempt at most."
    )

    @property
    def resources(self) -> jobs.Resources:
        """The limits as control takes them."""
        return jobs.Resources(
            threads=self.threads,
            memory_limit_bytes=self.memory_limit_bytes,
            time_limit_s=self.time_limit_s,
        )


class NewTraining(NewJob):
    """A model to be trained."""

    kind: Literal["train"]
    recipe: str = Field(description="One of GET /api/v1/recipes.")
    data: str = Field(description="A data set: 'name', or 'name:3' for version 3.")
    model: str = Field(description="The model that the new version will belong to.")
    params: dict[str, Any] = Field(
        default_factory=dict, description="The recipe's parameters; the rest have defaults."
    )
    preset: str | None = Field(default=None, description="A named set of parameters to start from.")
    checkpoint_s: float | None = Field(
        default=None, ge=0.1, le=86400, description="Seconds between checkpoints."
    )
    checkpoint_steps: int | None = Field(
        default=None,
        ge=1,
        le=LARGEST,
        description="Steps between checkpoints, instead of seconds.",
    )
    start: str | None = Field(
        default=None,
        description="Begin with the weights of this version of the same recipe: 'name', 'name:3' or 'name@alias'. "
        "The last layer begins anew where the labels are others.",
    )
    freeze: bool = Field(default=False, description="With `start`: only the last layer learns.")


class NewBatchPrediction(NewJob):
    """A model to be asked about every row of a data set."""

    kind: Literal["predict-batch"]
    data: str = Field(description="A data set: 'name', or 'name:3' for version 3.")
    model: str = Field(description="A model version: 'name', 'name:3' or 'name@alias'.")
    name: str | None = Field(
        default=None,
        description="The data set that the answers become a version of; 'DATA-by-MODEL' if not given.",
    )
    split: str | None = Field(default=None, description="Only this part of the data.")
    max_batch: int = Field(default=32, ge=1, le=65_536, description="Rows per runtime call.")
    checkpoint_s: float | None = Field(
        default=None, ge=0.1, le=86400, description="Seconds between checkpoints."
    )


class NewAnalysis(NewJob):
    """A model or a recipe's network whose cost is to be counted and timed, layer by layer."""

    kind: Literal["analyze"]
    target: str = Field(
        description="A recipe's name, or a model version: 'name', 'name:3' or 'name@alias'."
    )
    data: str | None = Field(
        default=None, description="For a recipe: the data set whose rows the network is for."
    )
    params: dict[str, Any] = Field(default_factory=dict, description="For a recipe: parameters.")
    preset: str | None = Field(default=None, description="For a recipe: a named set of parameters.")
    behaviour: bool = Field(
        default=False,
        description="For a recipe: also train small copies and tell how descent behaves on the data.",
    )


class NewSleep(NewJob):
    """A job that counts steps and does nothing else."""

    kind: Literal["sleep"]
    steps: int = Field(default=10, ge=1, le=1_000_000, description="How many steps.")
    step_s: float = Field(default=0.1, ge=0, le=3600, description="Seconds of each step.")
    checkpoint_steps: int = Field(
        default=1, ge=1, le=LARGEST, description="Steps between checkpoints."
    )


class Again(Body):
    """What is to be different."""

    #: Of a training: parameters with other values than before.
    params: dict[str, Any] = {}


AnyJob = Annotated[
    NewTraining | NewBatchPrediction | NewAnalysis | NewSleep, Field(discriminator="kind")
]


@dataclass(frozen=True, slots=True)
class RecipeParam:
    """One parameter of a recipe."""

    name: str
    type: str
    default: Any
    help: str
    #: The allowed values, for people.
    expected: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    optional: bool


@dataclass(frozen=True, slots=True)
class Recipe:
    """A trainable family of models."""

    name: str
    summary: str
    task: str
    takes: tuple[str, ...]
    params: list[RecipeParam]
    presets: dict[str, dict[str, Any]]
    #: Other defaults for a kind of data (`text`, `table`).
    defaults_for: dict[str, dict[str, Any]]


@router.get("/api/v1/recipes")
def list_all_recipes(call: Annotated[Call, needs("read")]) -> list[Recipe]:
    """What can be trained, with every parameter and its bounds."""
    return [_recipe(card) for card in list_recipes()]


@router.post("/api/v1/jobs", status_code=202)
def submit_job(call: Annotated[Call, needs("train")], body: AnyJob) -> Job:
    """A new job; everything that can be refused now is refused now."""
    service = call.service
    if isinstance(body, NewSleep):
        params = SleepParams(
            steps=body.steps, step_s=body.step_s, checkpoint_steps=body.checkpoint_steps
        )
        return jobs.submit_sleep(service.store, call.project, params, body.resources)
    if isinstance(body, NewBatchPrediction):
        asked = jobs.BatchPrediction(
            data=body.data,
            model=body.model,
            name=body.name,
            split=body.split,
            max_batch=body.max_batch,
            checkpoint_s=body.checkpoint_s,
        )
        return jobs.submit_batch_prediction(
            service.store, service.settings, call.project, asked, body.resources
        )
    if isinstance(body, NewAnalysis):
        wanted = jobs.Analysis(
            target=body.target,
            data=body.data,
            params=body.params,
            preset=body.preset,
            behaviour=body.behaviour,
        )
        return jobs.submit_analysis(
            service.store, service.settings, call.project, wanted, body.resources
        )
    wish = jobs.Training(
        recipe=body.recipe,
        data=body.data,
        model=body.model,
        params=body.params,
        preset=body.preset,
        checkpoint_s=body.checkpoint_s,
        checkpoint_steps=body.checkpoint_steps,
        start=body.start,
        freeze=body.freeze,
    )
    return jobs.submit_training(service.store, service.settings, call.project, wish, body.resources)


@router.get("/api/v1/jobs")
def list_jobs(
    call: Annotated[Call, needs("read")],
    state: JobState | None = None,
    kind: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: str | None = None,
) -> list[Job]:
    """The newest first; `before` is the last id of the page before."""
    return jobs.list_jobs(
        call.service.store, call.project, state=state, kind=kind, limit=limit, before=before
    )


@router.get("/api/v1/jobs/{job_id}")
def get_job(call: Annotated[Call, needs("read")], job_id: str) -> Job:
    """One job with its progress."""
    return jobs.get_job(call.service.store, call.project, job_id)


@router.get("/api/v1/jobs/{job_id}/metrics")
def list_metrics(
    call: Annotated[Call, needs("read")],
    job_id: str,
    name: str | None = None,
    after_step: Annotated[int | None, Query(ge=-LARGEST, le=LARGEST)] = None,
) -> list[MetricPoint]:
    """A job's curves, or one of them, or what came after a step."""
    return jobs.list_metrics(
        call.service.store, call.project, job_id, name=name, after_step=after_step
    )


@router.get("/api/v1/jobs/{job_id}/logs")
def list_logs(
    call: Annotated[Call, needs("read")],
    job_id: str,
    after: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> list[LogLine]:
    """A job's log, from the line after number `after`."""
    return jobs.list_logs(call.service.store, call.project, job_id, after=after, limit=limit)


@router.post("/api/v1/jobs/{job_id}/cancel", status_code=202)
def cancel_job(call: Annotated[Call, needs("train")], job_id: str) -> Job:
    """Asks a job to end without a result."""
    return jobs.wish(call.service.store, call.project, job_id, JobWish.CANCEL)


@router.post("/api/v1/jobs/{job_id}/pause", status_code=202)
def pause_job(call: Annotated[Call, needs("train")], job_id: str) -> Job:
    """Asks a job to checkpoint and give its slot to others."""
    return jobs.wish(call.service.store, call.project, job_id, JobWish.PAUSE)


@router.post("/api/v1/jobs/{job_id}/resume", status_code=202)
def resume_job(call: Annotated[Call, needs("train")], job_id: str) -> Job:
    """Asks a paused job to go on from its checkpoint."""
    return jobs.wish(call.service.store, call.project, job_id, JobWish.RUN)


@router.post("/api/v1/jobs/{job_id}/again", status_code=202)
def run_again(call: Annotated[Call, needs("train")], job_id: str, body: Again) -> Job:
    """The same job anew, over the same versions; of a training some parameters may be others."""
    return jobs.submit_again(call.service.store, call.project, job_id, body.params)


@router.delete("/api/v1/jobs/{job_id}", status_code=204)
def delete_job(call: Annotated[Call, needs("train")], job_id: str) -> None:
    """Removes a finished job; what it made stays."""
    jobs.delete_job(call.service.store, call.project, job_id)


def _recipe(card: RecipeCard) -> Recipe:
    params = [_param(param) for param in card.params]
    return Recipe(
        card.name,
        card.summary,
        card.task,
        card.takes,
        params,
        card.presets,
        card.defaults_for,
    )


def _param(param: Param) -> RecipeParam:
    return RecipeParam(
        name=param.name,
        type=param.type,
        default=param.default,
        help=param.help,
        expected=param.expected,
        minimum=param.minimum,
        maximum=param.maximum,
        choices=param.choices,
        optional=param.optional,
    )
