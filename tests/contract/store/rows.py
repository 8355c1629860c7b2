"""Rows that tests stand on."""

from __future__ import annotations

from typing import Any

from modelry.core.files import FileRef
from modelry.core.records import DatasetVersion, Deployment, Job, ModelVersion
from modelry.core.states import JobState
from modelry.server.store import Transaction, datasets, deployments, jobs, models

PROJECT = "default"


def file(path: str = "data.bin", digest: str = "d1", size_bytes: int = 3) -> FileRef:
    return FileRef(path=path, digest=digest, size_bytes=size_bytes)


def new_job(tx: Transaction, **given: Any) -> Job:
    values: dict[str, Any] = {
        "project": PROJECT,
        "kind": "sleep",
        "makes": "",
        "params": {"steps": 3},
        "inputs": {},
        "threads": 1,
        "memory_limit_bytes": None,
        "time_limit_s": None,
    }
    return jobs.create(tx, **{**values, **given})


#: How a job comes to each state.
PATHS: dict[JobState, list[JobState]] = {
    JobState.QUEUED: [],
    JobState.STARTING: [JobState.STARTING],
    JobState.RUNNING: [JobState.STARTING, JobState.RUNNING],
    JobState.PAUSED: [JobState.PAUSED],
    JobState.SUCCEEDED: [JobState.STARTING, JobState.RUNNING, JobState.SUCCEEDED],
    JobState.FAILED: [JobState.FAILED],
    JobState.CANCELLED: [JobState.CANCELLED],
}


def job_in(tx: Transaction, state: JobState, **given: Any) -> Job:
    job = new_job(tx, **given)
    for step in PATHS[state]:
        if step is JobState.STARTING:
            jobs.start_attempt(tx, job.id)
        else:
            jobs.set_state(tx, job.id, step)
    return jobs.get_by_id(tx, job.id)


def running_job(tx: Transaction, **given: Any) -> Job:
    return job_in(tx, JobState.RUNNING, **given)


def dataset_version(
    tx: Transaction, name: str = "digits", fingerprint: str = "f1", project: str = PROJECT
) -> DatasetVersion:
    datasets.ensure(tx, project, name)
    manifest = {"fingerprint": fingerprint}
    return datasets.add_version(tx, project, name, manifest, [file(digest=fingerprint)], None)


def model_version(
    tx: Transaction, name: str = "digits", job_id: str | None = None, project: str = PROJECT
) -> ModelVersion:
    models.ensure(tx, project, name)
    return models.add_version(
        tx, project, name, {"task": "image-classification"}, [file("model.onnx")], job_id, None
    )


def deployment(
    tx: Transaction, version: ModelVersion, name: str = "answers", **given: Any
) -> Deployment:
    values: dict[str, Any] = {"replicas": 1, "max_batch": 32, "threads": 1}
    return deployments.create(
        tx, project=PROJECT, name=name, model_version_id=version.id, **{**values, **given}
    )
