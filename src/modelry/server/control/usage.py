"""Usage: from the web processes' journals into the store, and what is asked of it.

Only the leading controller reads journals. Rows and the place up to which they were read are one transaction, so
nothing is counted twice, whenever it dies; a file is removed once it is read to its end and nobody writes it any more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from modelry.core.durable import sync_folder, take_lock
from modelry.core.errors import InvalidParameter, InvalidRequest
from modelry.core.home import Home
from modelry.core.records import USAGE_BY, Usage
from modelry.server.gateway.journal import Line, finish, journals, read_lines
from modelry.server.gateway.limits import month_begins, month_of
from modelry.server.gateway.past import fold, open_view, read_past, write_past
from modelry.server.gateway.table import is_left, table_files
from modelry.server.gateway.totals import read_counted
from modelry.server.store import Store, keys, usage

log = logging.getLogger(__name__)

#: Between two looks at the journals.
LOOK_S = 1.0
#: Keeps a controller that has lost its lease without knowing from folding beside the new one.
_LOCK = ".lock"


class UsageLoop:
    """Ingests what was written, and finishes for processes that have ended."""

    def __init__(self, store: Store, home: Home) -> None:
        self._store = store
        self._home = home
        self._looked_at = -LOOK_S

    def step(self, epoch: int) -> None:
        """One look, at most once a second. Raises `StaleEpoch`."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_S or not self._home.counters.is_dir():
            return
        self._looked_at = now
        lock = take_lock(self._home.counters / _LOCK)
        if lock is None:
            return
        try:
            # Listed first: the journal of a process that begins meanwhile is none of an ended one.
            found = journals(self._home.usage)
            self._ingest_all(epoch, found, self._finish_ended())
            self._correct_months()
        except OSError as error:
            log.error("usage not read; the next look has it: %s", error)
        finally:
            os.close(lock)

    def _finish_ended(self) -> set[str]:
        """Writes down what ended processes did not, and adds their counts to the past; returns those that live."""
        living, ended = set(), []
        for path in table_files(self._home.counters):
            view = open_view(path)
            if view is None:
                if is_left(path):
                    _drop(path)
                else:
                    living.add(path.name)
                continue
            if view.is_alive():
                living.add(path.name)
            else:
                finish(self._home.usage, path)
                ended.append(path.name)
            view.close()
        fold(self._home.counters, ended)
        return living

    def _ingest_all(self, epoch: int, found: dict[str, list[Path]], living: set[str]) -> None:
        with self._store.read() as tx:
            offsets = usage.offsets(tx)
        done = []
        for process, paths in found.items():
            for path in paths:
                is_over = process not in living or path != paths[-1]
                self._ingest(epoch, path, offsets.get(path.name, 0))
                if is_over:
                    done.append(path)
        self._remove(epoch, done, set(offsets))

    def _ingest(self, epoch: int, path: Path, offset: int) -> None:
        """Reads a file to its present end."""
        while True:
            lines, end = read_lines(path, offset)
            if end == offset:
                return
            with self._store.lead(epoch) as tx:
                usage.add(tx, _rows_of(lines))
                usage.set_offset(tx, path.name, end)
            offset = end

    def _remove(self, epoch: int, done: Sequence[Path], known: set[str]) -> None:
        """The files first: one that came back without its place would be read twice."""
        for path in done:
            path.unlink(missing_ok=True)
        if done:
            sync_folder(self._home.usage)
        gone = {name for name in known if not (self._home.usage / name).exists()}
        gone |= {path.name for path in done}
        if gone:
            with self._store.lead(epoch) as tx:
                usage.forget_journals(tx, gone)

    def _correct_months(self) -> None:
        """A quota counts what the store knows where that is more than the tables do: they may have been lost."""
        with self._store.read() as tx:
            month = month_of(tx.now())
            limited = [row.key.id for row in keys.list_living(tx) if _has_quota(row.key.limits)]
            if not limited:
                return
            stored = usage.since(tx, limited, int(month_begins(month) // usage.HOUR_S))
        counted = read_counted(self._home.counters).months
        past = read_past(self._home.counters)
        for key_id, (requests, rows) in stored.items():
            known = counted.get(key_id, (month, 0, 0))
            if known[0] != month:
                known = (month, 0, 0)
            missing = max(0, requests - known[1]), max(0, rows - known[2])
            if any(missing):
                past.add_month(key_id, month, *missing)
                write_past(self._home.counters, past)


def _drop(path: Path) -> None:
    """Another version's table, or what was one: its journal has all but perhaps the last second of it."""
    log.warning("counters of another version, or damaged, are removed: %s", path.name)
    with contextlib.suppress(OSError):
        path.unlink()


def total(
    store: Store,
    by: Sequence[str],
    *,
    project: str | None,
    since: float | None = None,
    until: float | None = None,
) -> list[Usage]:
    """What was used, told apart by some of `USAGE_BY`; `project` None: of every project, told apart too."""
    unknown = [one for one in by if one not in USAGE_BY]
    if unknown:
        raise InvalidParameter(
            name="by", value=unknown[0], expected=f"one of {', '.join(USAGE_BY)}"
        )
    if since is not None and until is not None and until <= since:
        raise InvalidRequest(reason="'until' must be later than 'since'")
    with store.read() as tx:
        told = list(by) if project is not None else ["project", *by]
        return usage.total(tx, told, project=project, since=since, until=until)


def _rows_of(lines: Iterable[Line]) -> list[dict[str, Any]]:
    """The lines' rows as the store takes them, each hour and name once."""
    sums: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(usage.AMOUNTS))
    for line in lines:
        hour = int(line.at // usage.HOUR_S)
        for row in line.rows:
            amounts = sums[(hour, *row[:6])]
            for place, value in enumerate(row[6:]):
                amounts[place] += value
    return [
        {
            "hour": hour,
            "project": project,
            "key_id": key,
            "deployment_id": deployment_id,
            "deployment": deployment,
            "model": model,
            "version": version,
            **dict(zip(usage.AMOUNTS, amounts, strict=True)),
        }
        for (hour, project, key, deployment_id, deployment, model, version), amounts in sums.items()
    ]


def _has_quota(limits: Any) -> bool:
    return limits.requests_per_month is not None or limits.rows_per_month is not None
