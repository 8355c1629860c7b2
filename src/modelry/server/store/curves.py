"""What a job said, to be read: the points of its curves and the lines of its log."""

from __future__ import annotations

import sqlalchemy as sa

from modelry.core.records import LogLine, MetricPoint
from modelry.server.store import tables
from modelry.server.store.transaction import Transaction

_point = tables.metrics.c
_line = tables.logs.c


def metrics(
    tx: Transaction, job_id: str, *, name: str | None = None, after_step: int | None = None
) -> list[MetricPoint]:
    """By name and step; of one curve, or only what came after a step."""
    statement = sa.select(tables.metrics).where(_point.job_id == job_id)
    if name is not None:
        statement = statement.where(_point.name == name)
    if after_step is not None:
        statement = statement.where(_point.step > after_step)
    rows = tx.execute(statement)
    points = [MetricPoint(name=row.name, step=row.step, value=row.value, at=row.at) for row in rows]
    return sorted(points, key=lambda point: (point.name, point.step))


def logs(tx: Transaction, job_id: str, *, after: int = 0, limit: int = 1000) -> list[LogLine]:
    """The lines after a number, in order."""
    statement = (
        sa.select(tables.logs)
        .where(_line.job_id == job_id, _line.number > after)
        .order_by(_line.number)
        .limit(limit)
    )
    return [
        LogLine(number=row.number, at=row.at, level=row.level, text=row.text, attempt=row.attempt)
        for row in tx.execute(statement)
    ]
