"""`/metrics`: what a Prometheus server reads. Everything is read when it asks; nothing is kept for it.

A project's key (scope `read`) sees its own project, an instance key everything, and so does everybody where the
setting `metrics_open` allows it.
"""

from __future__ import annotations

import asyncio
import logging

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modelry import __version__
from modelry.core.errors import InvalidRequest, ModelryError
from modelry.core.records import Load
from modelry.server.api.auth import authorize
from modelry.server.api.exposition import CONTENT_TYPE, Exposition
from modelry.server.api.service import Service
from modelry.server.control.processes import by_kind
from modelry.server.gateway import layout
from modelry.server.gateway.past import add_version
from modelry.server.gateway.table import Name
from modelry.server.gateway.totals import Counted, totals_of
from modelry.server.store import standing

log = logging.getLogger(__name__)

#: Versions of deployments that are told of, the last used first; each makes some sixty lines.
MOST_VERSIONS = 500
_BOUNDS_S = tuple(bound / 1e6 for bound in layout.TIME_BOUNDS_US)


class MetricsRoute(Route):
    """A route that declares its scope."""

    scope = "read"


async def read_metrics(request: Request) -> Response:
    """The page."""
    service: Service = request.app.state.service
    project = None
    if not service.settings.metrics_open:
        project = (await authorize(service, request, MetricsRoute.scope)).key.project
    if request.url.query:
        raise InvalidRequest(reason="this call takes no query parameters")
    page = await asyncio.to_thread(write_page, service, project)
    return Response(page, media_type=CONTENT_TYPE)


router = APIRouter()
router.routes.append(MetricsRoute("/metrics", read_metrics, methods=["GET"]))


def write_page(service: Service, project: str | None) -> bytes:
    """Everything, or what one project may see."""
    page = Exposition()
    page.family("modelry_info", "gauge", "The version that answers.").add(
        {"version": __version__}, 1
    )
    counted = service.gateway.admission.counters.count()
    _add_versions(page, counted, project)
    _add_loads(page, counted, service, project)
    _add_states(page, service, project)
    if project is None:
        _add_processes(page, service)
    return page.encode()


def _add_versions(page: Exposition, counted: Counted, project: str | None) -> None:
    requests = page.family(
        "modelry_requests_total", "counter", "Requests that were let in and have ended."
    )
    refused = page.family("modelry_refused_total", "counter", "Requests that were not let in.")
    errors = page.family(
        "modelry_errors_total", "counter", "Requests without a good answer, by code."
    )
    rows = page.family("modelry_rows_total", "counter", "Rows that were answered.")
    compute = page.family(
        "modelry_compute_seconds_total", "counter", "The rows' share of the time in the runtime."
    )
    latency = page.family(
        "modelry_request_seconds", "histogram", "From a request's entry to its good answer."
    )
    queue = page.family("modelry_queue_seconds", "histogram", "Of these, in the replica's queue.")
    batches = page.family(
        "modelry_batch_rows", "histogram", "Rows of the batch a request was answered in."
    )
    left_off = page.family(
        "modelry_versions_left_off", "gauge", "Versions that this page does not tell of."
    )
    found = _versions(counted, project)
    left_off.add({}, max(0, len(found) - MOST_VERSIONS))
    for name, values in found[:MOST_VERSIONS]:
        about = dict(zip(("project", "deployment", "model", "version"), name, strict=True))
        totals = totals_of(values)
        requests.add(about, totals.answered + totals.failed)
        refused.add(about, totals.refused)
        rows.add(about, totals.rows)
        compute.add(about, totals.compute_us / 1e6)
        latency.add_histogram(about, _BOUNDS_S, totals.latencies, totals.latency_us / 1e6)
        queue.add_histogram(about, _BOUNDS_S, totals.queues, totals.queue_us / 1e6)
        batches.add_histogram(about, layout.BATCH_BOUNDS, totals.batches, totals.batch_rows)
        for code, count in totals.errors.items():
            errors.add({**about, "code": code}, count)


def _versions(counted: Counted, project: str | None) -> list[tuple[Name, list[int]]]:
    """(project, deployment, model, version) → counters, the last used first.

    A deployment that was made anew under its old name goes on where that one was.
    """
    sums: dict[Name, list[int]] = {}
    for name, values in counted.versions.items():
        if name and project in (None, name[0]):
            found = sums.setdefault((name[0], *name[2:]), [0] * layout.VERSION_SIZE)
            add_version(found, values)
    return sorted(sums.items(), key=lambda one: -one[1][layout.V_LAST_AT_US])


def _add_loads(page: Exposition, counted: Counted, service: Service, project: str | None) -> None:
    waiting = page.family("modelry_requests_waiting", "gauge", "Requests that wait for a replica.")
    in_flight = page.family("modelry_requests_in_flight", "gauge", "Requests that a replica has.")
    for route in list(service.gateway.snapshot.routes.values()):
        load = counted.loads.get(route.deployment_id, Load())
        if load.last_request_at and project in (None, route.project):
            about = {"project": route.project, "deployment": route.name}
            waiting.add(about, load.waiting)
            in_flight.add(about, load.in_flight)


def _add_states(page: Exposition, service: Service, project: str | None) -> None:
    """What the store knows; left out while it does not answer, so that the rest can still be seen."""
    try:
        with service.store.read() as tx:
            jobs = standing.job_states(tx, project)
            replicas = standing.replica_states(tx, MOST_VERSIONS, project)
    except ModelryError as error:
        log.warning("metrics without jobs and replicas: %s", error)
        return
    states = page.family("modelry_replicas", "gauge", "Replicas that have not ended, by state.")
    for owner, deployment, state, count in replicas:
        states.add({"project": owner, "deployment": deployment, "state": state}, count)
    states = page.family("modelry_jobs", "gauge", "Jobs, by state.")
    for owner, state, count in jobs:
        states.add({"project": owner, "state": state}, count)


def _add_processes(page: Exposition, service: Service) -> None:
    memory = page.family(
        "modelry_memory_bytes", "gauge", "Memory (proportional set size) by kind of process."
    )
    number = page.family("modelry_processes", "gauge", "Processes by kind.")
    for kind, group in sorted(by_kind(service.settings.places).items()):
        memory.add({"process": kind}, group.memory_bytes)
        number.add({"process": kind}, group.count)
