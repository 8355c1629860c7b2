"""How busy the deployments are, for the autoscaler: from the web processes' tables, without a database."""

from __future__ import annotations

from modelry.core.home import Home
from modelry.core.records import Load
from modelry.server.gateway.totals import read_counted


def read_loads(home: Home) -> dict[str, Load]:
    """Deployment id → its load, summed over the web processes of this machine; one nobody asked for is missing."""
    return read_counted(home.counters).loads
