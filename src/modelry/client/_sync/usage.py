# Generated from ../_async/usage.py by scripts/unasync.py; edit that file.
"""Usage: what was used, and by whom."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from modelry.client import wire
from modelry.client._sync.http import Http
from modelry.core.records import Usage


def read_usage(
    http: Http,
    by: str | Sequence[str],
    *,
    since: datetime | float | None,
    until: datetime | float | None,
    all_projects: bool,
) -> list[Usage]:
    """One record for each combination of what it is told apart by."""
    query: dict[str, str | float | None] = {
        "by": by if isinstance(by, str) else ",".join(by),
        "since": _seconds(since),
        "until": _seconds(until),
        "all_projects": "true" if all_projects else None,
    }
    return wire.to_records(Usage, http.get("/api/v1/usage", query))


def _seconds(moment: datetime | float | None) -> float | None:
    return moment.timestamp() if isinstance(moment, datetime) else moment
