# Generated from ../_async/jobs.py by scripts/unasync.py; edit that file.
"""Jobs: list them, watch one, stop it, wait for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from modelry.client import wire
from modelry.client._sync.http import Http
from modelry.client.progress import SHOWN_METRICS, Display, Quiet, make_display
from modelry.client.refs import segment
from modelry.client.timing import sync_sleep
from modelry.core.errors import DeadlineExceeded, JobCancelled, from_wire
from modelry.core.records import Job, LogLine, MetricPoint
from modelry.core.states import JobState

#: Seconds between looks at a job.
POLL_S = 0.5
_LOG_PAGE = 1000
#: How far back the newest values of the curves are looked for.
_STEPS_BACK = 200


class JobHandle:
    """One job, as it was when last looked at (`record`), and what can be done with it."""

    def __init__(self, http: Http, record: Job) -> None:
        self._http = http
        #: The newest record; `refresh` fetches another.
        self.record = record

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.record.kind}: {self.state.value}>"

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def state(self) -> JobState:
        """As of the last look."""
        return self.record.state

    def refresh(self) -> Job:
        """Looks again."""
        return self._keep(self._http.get(self._path))

    def watch(self) -> Job:
        """Shows the progress until the job has ended; raises its failure."""
        with make_display() as display:
            return self.follow(display)

    def wait(self, timeout_s: float | None = None) -> Job:
        """Waits silently until the job has ended; raises its failure, or `DeadlineExceeded`."""
        return self.follow(Quiet(), timeout_s=timeout_s)

    def follow(self, display: Display, timeout_s: float | None = None) -> Job:
        """Waits until the job has ended and tells a display every change; raises its failure."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        curves: dict[str, float] = {}
        for job in self._looks(deadline):
            if display.shows_metrics and job.state is JobState.RUNNING:
                curves.update(self._newest_values())
            display.show_job(job, curves)
        raise_failure(self.record)
        return self.record

    def metrics(self, name: str | None = None, after_step: int | None = None) -> list[MetricPoint]:
        """The points of one curve, or of all."""
        query = {"name": name, "after_step": after_step}
        return wire.to_records(MetricPoint, self._http.get(f"{self._path}/metrics", query))

    def logs(self, after: int = 0) -> list[LogLine]:
        """The lines after a number (the whole log by default)."""
        found: list[LogLine] = []
        while True:
            query = {"after": found[-1].number if found else after, "limit": _LOG_PAGE}
            page = wire.to_records(LogLine, self._http.get(f"{self._path}/logs", query))
            found += page
            if len(page) < _LOG_PAGE:
                return found

    def cancel(self) -> Job:
        """Asks the job to end now, without a checkpoint."""
        return self._keep(self._http.post(f"{self._path}/cancel"))

    def pause(self) -> Job:
        """Asks the job to write a checkpoint and give its place free."""
        return self._keep(self._http.post(f"{self._path}/pause"))

    def resume(self) -> Job:
        """Lets a paused job go on from its checkpoint."""
        return self._keep(self._http.post(f"{self._path}/resume"))

    def delete(self) -> None:
        """Removes the record, curves and log of a job that has ended."""
        self._http.delete(self._path)

    def again(self, **params: Any) -> JobHandle:
        """The same job anew, over the same versions; of a training some parameters may be others."""
        value = self._http.post(f"{self._path}/again", {"params": params})
        return JobHandle(self._http, wire.to_record(Job, value))

    @property
    def _path(self) -> str:
        return f"/api/v1/jobs/{segment(self.id)}"

    def _keep(self, value: Any) -> Job:
        self.record = wire.to_record(Job, value)
        return self.record

    def _looks(self, deadline: float | None) -> Iterator[Job]:
        while True:
            job = self.refresh()
            yield job
            if job.state.is_final:
                return
            if deadline is not None and time.monotonic() > deadline:
                raise DeadlineExceeded(
                    f"The job '{self.id}' has not ended in time; it is {job.state.value}.",
                    remedy="It goes on; wait again, or cancel it.",
                )
            sync_sleep(POLL_S)

    def _newest_values(self) -> dict[str, float]:
        step = int((self.record.progress or {}).get("step") or 0)
        points = self.metrics(after_step=max(0, step - _STEPS_BACK))
        return {point.name: point.value for point in points if point.name in SHOWN_METRICS}


class Jobs:
    """`client.jobs`."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def list(
        self,
        *,
        state: str | None = None,
        kind: str | None = None,
        limit: int | None = None,
        before: str | None = None,
    ) -> list[Job]:
        """The project's jobs, newest first."""
        query = {"state": state, "kind": kind, "limit": limit, "before": before}
        return wire.to_records(Job, self._http.get("/api/v1/jobs", query))

    def get(self, job_id: str) -> JobHandle:
        """One job; raises `NotFound`."""
        value = self._http.get(f"/api/v1/jobs/{segment(job_id)}")
        return JobHandle(self._http, wire.to_record(Job, value))

    def create(self, body: dict[str, Any]) -> JobHandle:
        """Any kind of job, as the reference of `POST /api/v1/jobs` has it."""
        value = self._http.post("/api/v1/jobs", body)
        return JobHandle(self._http, wire.to_record(Job, value))


def raise_failure(job: Job) -> None:
    """The error of a job that did not succeed; nothing for one that did."""
    if job.state is JobState.CANCELLED:
        raise JobCancelled(job=job.id)
    if job.state is JobState.FAILED:
        failure = job.failure or {"message": "The job failed and left no reason."}
        error = from_wire(failure)
        error.facts.update(job=job.id, detail=failure.get("detail", ""))
        raise error
