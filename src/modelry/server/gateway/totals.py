"""What all processes of one home have counted, read at one moment: for `/metrics`, statistics and the controller."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from modelry.core.records import Load
from modelry.server.gateway import layout
from modelry.server.gateway.past import Past, add_version, open_view, read_past
from modelry.server.gateway.table import Name, Record, table_files


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Everything counted for one version of a deployment, or for several together."""

    answered: int
    #: Admitted, and answered with an error or left by their client.
    failed: int
    #: Not admitted: over a limit.
    refused: int
    #: Of the requests answered well, as all that follows but `failed_us` and `last_at`.
    rows: int
    latency_us: int
    failed_us: int
    #: How long they waited in the replica's queue.
    queue_us: int
    #: How long their batches were in the runtime, and their rows' share of that.
    inference_us: int
    compute_us: int
    #: Rows of their batches, once for each request.
    batch_rows: int
    #: Runtime calls.
    calls: float
    #: When the last one ended, seconds since the epoch; 0.0 before the first.
    last_at: float
    #: Code → count.
    errors: dict[str, int]
    #: Counts per bucket of `layout.TIME_BOUNDS_US` (and over), and of `layout.BATCH_BOUNDS`.
    latencies: tuple[int, ...]
    queues: tuple[int, ...]
    batches: tuple[int, ...]


@dataclass(slots=True)
class Counted:
    """Sums over all processes, ended ones too, but for what is under way now."""

    #: (project, deployment id, its name, model, version) → counters of VERSION.
    versions: dict[Name, list[int]] = field(default_factory=dict)
    #: Deployment id → its load.
    loads: dict[str, Load] = field(default_factory=dict)
    #: Key id → (month, requests, rows) admitted in its latest month.
    months: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def totals(self, deployment_id: str, version: int | None = None) -> Totals:
        """Those of one version of a deployment, or of all its versions."""
        sums = [0] * layout.VERSION_SIZE
        for name, values in self.versions.items():
            if name and name[1] == deployment_id and version in (None, name[4]):
                add_version(sums, values)
        return totals_of(sums)

    def add(self, records: Iterable[Record], *, is_alive: bool) -> None:
        """One process's records."""
        past = Past(months=self.months)
        for record in records:
            values = record.values()
            if record.kind == layout.VERSION:
                sums = self.versions.setdefault(record.name, [0] * layout.VERSION_SIZE)
                add_version(sums, values)
            elif record.kind == layout.DEPLOYMENT and record.name:
                self._add_load(str(record.name[0]), values, is_alive)
            elif record.kind == layout.KEY and record.name and values[layout.MONTH]:
                month, requests, rows = values[layout.MONTH :]
                past.add_month(str(record.name[0]), month, requests, rows)

    def _add_load(self, deployment_id: str, values: list[int], is_alive: bool) -> None:
        known = self.loads.get(deployment_id, Load())
        waiting = values[layout.WAITING] if is_alive else 0
        given = values[layout.UNDER_WAY] - values[layout.WAITING] if is_alive else 0
        self.loads[deployment_id] = Load(
            waiting=known.waiting + waiting,
            in_flight=known.in_flight + given,
            requests=known.requests + values[layout.ENDED],
            queue_us=known.queue_us + values[layout.QUEUE_US],
            last_request_at=max(known.last_request_at, values[layout.LAST_AT_US] / 1e6),
        )


def read_counted(folder: Path) -> Counted:
    """Reads every table in a folder, and the past."""
    views = [view for path in table_files(folder) if (view := open_view(path)) is not None]
    past = read_past(folder)
    counted = Counted(
        versions={tuple(name): values for name, values in past.versions}, months=past.months
    )
    for view in views:
        if view.path.name not in past.folded:
            view.scan()
            counted.add(view.records.values(), is_alive=view.is_alive())
        view.close()
    return counted


def totals_of(values: list[int]) -> Totals:
    """The counters of a VERSION record, by name."""
    codes = values[layout.V_CODES : layout.V_LATENCIES]
    return Totals(
        answered=values[layout.V_ANSWERED],
        failed=values[layout.V_FAILED],
        refused=values[layout.V_REFUSED],
        rows=values[layout.V_ROWS],
        latency_us=values[layout.V_LATENCY_US],
        failed_us=values[layout.V_FAILED_US],
        queue_us=values[layout.V_QUEUE_US],
        inference_us=values[layout.V_INFERENCE_US],
        compute_us=values[layout.V_COMPUTE_US],
        batch_rows=values[layout.V_BATCH_ROWS],
        calls=values[layout.V_CALLS_U] / 1e6,
        last_at=values[layout.V_LAST_AT_US] / 1e6,
        errors={code: count for code, count in zip(layout.CODES, codes, strict=True) if count},
        latencies=tuple(values[layout.V_LATENCIES : layout.V_QUEUES]),
        queues=tuple(values[layout.V_QUEUES : layout.V_BATCHES]),
        batches=tuple(values[layout.V_BATCHES :]),
    )
