"""Jobs that people ask for: what is refused before a worker is bothered, and what may be wished."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from modelry.core.analysis import NOTE
from modelry.core.errors import InvalidParameter, InvalidRequest, NotFound, WrongDataKind
from modelry.core.feeding import plan_feed
from modelry.core.ids import check_name
from modelry.core.jobs import (
    USER_KINDS,
    AnalyzeParams,
    PredictBatchParams,
    SleepParams,
    TrainParams,
    check_train_params,
)
from modelry.core.learning import Lesson, check_scope, plan_lesson
from modelry.core.manifests import DatasetManifest, ModelManifest
from modelry.core.recipes import RecipeCard, get_recipe, list_recipes
from modelry.core.records import DatasetVersion, Job, LogLine, MetricPoint, ModelVersion
from modelry.core.settings import Settings
from modelry.core.states import JobState, JobWish
from modelry.core.texts import STRING
from modelry.server.control.references import read_data_reference, read_model_reference
from modelry.server.store import Store, Transaction, curves, datasets, jobs, models


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a job may use; None takes the service's default (threads) or means no limit."""

    threads: int | None = None
    memory_limit_bytes: int | None = None
    time_limit_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A wish to train, as a person states it."""

    recipe: str
    #: `name` or `name:3`.
    data: str
    #: Name of the model the version will belong to.
    model: str
    params: dict[str, Any]
    preset: str | None = None
    checkpoint_s: float | None = None
    checkpoint_steps: int | None = None
    #: The version whose weights are the beginning: `name`, `name:3` or `name@alias`.
    start: str | None = None
    #: Only the last layer learns.
    freeze: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPrediction:
    """A wish for a model's answers to a whole data set."""

    #: `name` or `name:3`.
    data: str
    #: `name`, `name:3` or `name@alias`.
    model: str
    #: Name of the data set that is made; None: after both.
    name: str | None = None
    #: None: every split.
    split: str | None = None
    max_batch: int = 32
    checkpoint_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """A wish to know what each layer of a network costs."""

    #: A recipe's name; or a model: `name`, `name:3` or `name@alias`.
    target: str
    params: dict[str, Any]
    #: For a recipe: `name` or `name:3`.
    data: str | None = None
    preset: str | None = None
    #: For a recipe: also how descent behaves on the data.
    behaviour: bool = False


def submit_training(
    store: Store, settings: Settings, project: str, wish: Training, resources: Resources
) -> Job:
    """The job that trains; recipe, parameters and data are checked now, against the data's own manifest."""
    card = get_recipe(wish.recipe)
    if wish.freeze and wish.start is None:
        raise InvalidParameter(
            name="freeze",
            value=True,
            expected="a start too: random layers that never learn are of no use",
        )
    check_train_params(card.name, wish.params, wish.preset)
    model = check_name(wish.model, "model")
    threads = check_threads(resources.threads, settings.job_threads)
    name, number = read_data_reference(wish.data)
    with store.write() as tx:
        version = datasets.get_version(tx, project, name, number)
        lesson = check_learnable(card, version)
        complete = _complete(card, lesson, wish.params, wish.preset)
        inputs = {"data": version.id}
        if wish.start is not None:
            start = models.get_version(tx, project, *read_model_reference(wish.start))
            complete |= _structure_of(card, wish, start)
            _check_rows(lesson, version, start)
            inputs["model"] = start.id
        params = TrainParams(
            recipe=card.name,
            params=complete,
            model=model,
            checkpoint_s=wish.checkpoint_s or settings.checkpoint_s,
            checkpoint_steps=wish.checkpoint_steps,
            freeze=wish.freeze,
        )
        return jobs.create(
            tx,
            project=project,
            kind="train",
            makes=params.model,
            params=msgspec.to_builtins(params),
            inputs=inputs,
            threads=threads,
            memory_limit_bytes=resources.memory_limit_bytes,
            time_limit_s=resources.time_limit_s,
        )


def submit_batch_prediction(
    store: Store, settings: Settings, project: str, wish: BatchPrediction, resources: Resources
) -> Job:
    """The job that asks a model about every row; whether the two fit is checked now, by their manifests."""
    data_name, data_number = read_data_reference(wish.data)
    model_name, model_version = read_model_reference(wish.model)
    params = PredictBatchParams(
        dataset=check_name(wish.name or f"{data_name}-by-{model_name}", "data set"),
        split=wish.split,
        max_batch=wish.max_batch,
        checkpoint_s=wish.checkpoint_s or settings.checkpoint_s,
    )
    if params.dataset == data_name:
        raise InvalidParameter(
            name="name", value=wish.name, expected="another name than the data's"
        )
    threads = check_threads(resources.threads, settings.job_threads)
    with store.write() as tx:
        data = datasets.get_version(tx, project, data_name, data_number)
        model = models.get_version(tx, project, model_name, model_version)
        _check_feed(data, model, wish.split)
        datasets.ensure(tx, project, params.dataset)
        return jobs.create(
            tx,
            project=project,
            kind="predict-batch",
            makes=params.dataset,
            params=msgspec.to_builtins(params),
            inputs={"data": data.id, "model": model.id},
            threads=threads,
            memory_limit_bytes=resources.memory_limit_bytes,
            time_limit_s=resources.time_limit_s,
        )


def submit_analysis(
    store: Store, settings: Settings, project: str, wish: Analysis, resources: Resources
) -> Job:
    """The job that counts and times; a recipe's name means the recipe, `name:1` always a model."""
    threads = check_threads(resources.threads, settings.job_threads)
    is_recipe = wish.target in {card.name for card in list_recipes()}
    if not is_recipe and (wish.data or wish.params or wish.preset or wish.behaviour):
        raise InvalidRequest(
            f"'{wish.target}' is no recipe, and a model version has its data and parameters already.",
            remedy="Leave out data, params, preset and behaviour; `modelry recipes` lists the recipes.",
        )
    with store.write() as tx:
        params, inputs = (
            _analysis_of_recipe(tx, project, wish)
            if is_recipe
            else _analysis_of_model(tx, project, wish)
        )
        return jobs.create(
            tx,
            project=project,
            kind="analyze",
            makes="",
            params=msgspec.to_builtins(params),
            inputs=inputs,
            threads=threads,
            memory_limit_bytes=resources.memory_limit_bytes,
            time_limit_s=resources.time_limit_s,
        )


def _analysis_of_recipe(
    tx: Transaction, project: str, wish: Analysis
) -> tuple[AnalyzeParams, dict[str, str]]:
    card = get_recipe(wish.target)
    if wish.data is None:
        raise InvalidRequest(
            f"The network of '{card.name}' has a size only for given rows.",
            remedy="Name the data too (--data NAME); a model of that name is written with its version "
            f"('{card.name}:1').",
        )
    check_train_params(card.name, wish.params, wish.preset)
    version = datasets.get_version(tx, project, *read_data_reference(wish.data))
    complete = _complete(card, check_learnable(card, version), wish.params, wish.preset)
    name = f"{card.name} on {version.dataset}:{version.version}"
    params = AnalyzeParams(name=name, recipe=card.name, params=complete, behaviour=wish.behaviour)
    if "learning_rate" in wish.params:
        params = msgspec.structs.replace(params, learning_rate=complete["learning_rate"])
    return params, {"data": version.id}


def _analysis_of_model(
    tx: Transaction, project: str, wish: Analysis
) -> tuple[AnalyzeParams, dict[str, str]]:
    version = models.get_version(tx, project, *read_model_reference(wish.target))
    manifest = msgspec.convert(version.manifest, ModelManifest)
    name = f"{version.model}:{version.version}"
    if "onnxruntime" not in manifest.runtimes:
        raise WrongDataKind(
            f"'{name}' has no ONNX graph, and the cost is counted in that.",
            remedy="Import the model as ONNX, or train it by a recipe.",
        )
    if any(spec.dtype == STRING for spec in manifest.inputs):
        raise WrongDataKind(
            f"'{name}' takes texts inside its graph; what they cost depends on the text.",
            remedy="Analyse a model that takes numbers or tokens.",
        )
    return AnalyzeParams(name=name), {"model": version.id}


def submit_sleep(store: Store, project: str, params: SleepParams, resources: Resources) -> Job:
    """A job that counts steps and makes nothing."""
    threads = check_threads(resources.threads, 1)
    with store.write() as tx:
        return jobs.create(
            tx,
            project=project,
            kind="sleep",
            makes="",
            params=msgspec.to_builtins(params),
            inputs={},
            threads=threads,
            memory_limit_bytes=resources.memory_limit_bytes,
            time_limit_s=resources.time_limit_s,
        )


def submit_again(store: Store, project: str, job_id: str, params: dict[str, Any]) -> Job:
    """The job anew, over the same versions and with the same resources; of a training some parameters may be others."""
    with store.write() as tx:
        old = jobs.get(tx, project, job_id)
        if old.kind not in USER_KINDS:
            raise InvalidRequest(
                f"'{job_id}' is of the kind {old.kind}, whose source is not kept.",
                remedy="Ask for it as you did the first time.",
            )
        if params and old.kind != "train":
            raise InvalidRequest(
                f"'{job_id}' is no training, and so has no parameters that could be others.",
                remedy="Leave the parameters away, or ask for a new job.",
            )
        if old.makes and old.kind == "predict-batch":
            datasets.ensure(tx, project, old.makes)
        return jobs.create(
            tx,
            project=project,
            kind=old.kind,
            makes=old.makes,
            params=_changed(tx, old, params) if params else old.params,
            inputs=old.inputs,
            threads=old.threads,
            memory_limit_bytes=old.memory_limit_bytes,
            time_limit_s=old.time_limit_s,
        )


def _changed(tx: Transaction, old: Job, params: dict[str, Any]) -> dict[str, Any]:
    """A training's parameters with some of them changed; raises `InvalidParameter` as a new one would."""
    order = msgspec.convert(old.params, TrainParams)
    card = get_recipe(order.recipe)
    data = datasets.get_version_by_id(tx, old.inputs["data"])
    check_scope(card, check_learnable(card, data), params)
    complete = card.check({**order.params, **params})
    if "model" in old.inputs:
        for name in card.structure:
            if complete[name] != order.params[name]:
                raise InvalidParameter(
                    name=name,
                    value=params[name],
                    expected=f"{order.params[name]} or nothing: the model it starts from is built so",
                )
    return dict(msgspec.to_builtins(msgspec.structs.replace(order, params=complete)))


def list_jobs(
    store: Store,
    project: str,
    *,
    state: JobState | None,
    kind: str | None,
    limit: int,
    before: str | None,
) -> list[Job]:
    """The newest first, without their analyses; `before` is the last id of the page before."""
    with store.read() as tx:
        found = jobs.list(tx, project, state=state, kind=kind, limit=limit, before=before)
    return [_without_analysis(job) for job in found]


def get_job(store: Store, project: str, job_id: str) -> Job:
    """One job."""
    with store.read() as tx:
        return jobs.get(tx, project, job_id)


def list_metrics(
    store: Store, project: str, job_id: str, *, name: str | None, after_step: int | None
) -> list[MetricPoint]:
    """A job's curves."""
    with store.read() as tx:
        jobs.get(tx, project, job_id)
        return curves.metrics(tx, job_id, name=name, after_step=after_step)


def list_logs(store: Store, project: str, job_id: str, *, after: int, limit: int) -> list[LogLine]:
    """A job's log after a line's number."""
    with store.read() as tx:
        jobs.get(tx, project, job_id)
        return curves.logs(tx, job_id, after=after, limit=limit)


def wish(store: Store, project: str, job_id: str, wished: JobWish) -> Job:
    """Asks for a job to run, pause or be cancelled; the controller carries it out."""
    with store.write() as tx:
        return jobs.set_wish(tx, project, job_id, wished)


def delete_job(store: Store, project: str, job_id: str) -> None:
    """Removes a finished job with its log and curves; what it made stays."""
    with store.write() as tx:
        jobs.delete(tx, project, job_id)


def _without_analysis(job: Job) -> Job:
    """A large network's has a line for each of a thousand operators."""
    if NOTE not in job.notes:
        return job
    return replace(job, notes={name: value for name, value in job.notes.items() if name != NOTE})


def check_threads(threads: int | None, default: int) -> int:
    """The thread count, never more than the machine has cores."""
    cores = os.cpu_count() or 1
    if threads is None:
        return min(default, cores)
    if not 1 <= threads <= cores:
        raise InvalidParameter(name="threads", value=threads, expected=f"1 to {cores}")
    return threads


def check_learnable(card: RecipeCard, version: DatasetVersion) -> Lesson:
    """What the recipe would learn of this data; raises `WrongDataKind`."""
    manifest = msgspec.convert(version.manifest, DatasetManifest)
    return plan_lesson(card, manifest, f"{version.dataset}:{version.version}")


def _structure_of(card: RecipeCard, wish: Training, start: ModelVersion) -> dict[str, Any]:
    """The start's layers; raises `InvalidParameter` where it has none of this recipe, or others were asked for."""
    name = f"{start.model}:{start.version}"
    recipe = msgspec.convert(start.manifest, ModelManifest).recipe
    if recipe is None or recipe.name != card.name:
        raise InvalidParameter(
            name="start",
            value=name,
            expected=f"a version that the recipe '{card.name}' has trained",
        )
    built = card.check(recipe.params)
    for param in card.structure:
        asked = wish.params.get(param)
        if asked is not None and card.param(param).check(asked) != built[param]:
            raise InvalidParameter(
                name=param, value=asked, expected=f"{built[param]} or nothing: '{name}' is built so"
            )
    return {param: built[param] for param in card.structure}


def _complete(
    card: RecipeCard, lesson: Lesson, given: dict[str, Any], preset: str | None
) -> dict[str, Any]:
    """All parameters, for this kind of data."""
    check_scope(card, lesson, given)
    return check_train_params(card.name, given, preset, lesson.kind)


def _check_rows(lesson: Lesson, data: DatasetVersion, start: ModelVersion) -> None:
    """The numbers of a row must be as many as the start takes; the worker compares the shapes and all else."""
    if lesson.kind != "tensor":
        return
    manifest = msgspec.convert(data.manifest, DatasetManifest)
    feature = manifest.features[lesson.columns[0]]
    takes = msgspec.convert(start.manifest, ModelManifest).inputs[0].shape[1:]
    if math.prod(length or 0 for length in takes) != math.prod(feature.shape):
        row, taken = ("×".join(map(str, shape)) for shape in (feature.shape, takes))
        raise WrongDataKind(
            f"A row of '{data.dataset}:{data.version}' is {row}, and '{start.model}:{start.version}' takes {taken}.",
            remedy="Start from a model of such rows, or from none.",
        )


def _check_feed(data: DatasetVersion, model: ModelVersion, split: str | None) -> None:
    manifest = msgspec.convert(data.manifest, DatasetManifest)
    name = f"{data.dataset}:{data.version}"
    plan_feed(manifest, msgspec.convert(model.manifest, ModelManifest), f"'{name}'")
    if split is not None and split not in manifest.splits:
        known = ", ".join(manifest.splits)
        raise NotFound(noun="split", name=split, remedy=f"'{name}' has: {known}.")
