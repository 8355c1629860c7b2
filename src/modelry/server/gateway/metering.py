"""One key's limits over all web processes: buckets that subtract what the others let in, and months that add it.

Each process keeps buckets of its own and publishes how full it saw them. It takes off what the others' counters say
they let in since it last looked; where it has not looked for a while, it takes over the freshest view of the others,
which was looked at more often. Two processes that let in requests within the same microseconds see each other's only
afterwards, and both are then paid off. So all together let in at most one request for each further process more than
one process alone would have.
"""

from __future__ import annotations

from datetime import UTC, datetime

from modelry.core.errors import QuotaExceeded, RateLimited
from modelry.core.records import KeyLimits
from modelry.server.gateway import layout
from modelry.server.gateway.counters import Counters
from modelry.server.gateway.limits import Bucket, month_begins, month_of
from modelry.server.gateway.table import Record

NO_LIMITS = KeyLimits()
#: After a pause of this length the others' view of a bucket is fresher than one's own.
PAUSE_S = 0.02
#: A view older than this says nothing: every bucket is full again, or the machine was started anew.
STALE_S = 600.0


class _Other:
    """The same key in another process's table."""

    __slots__ = ("admitted", "record", "rows")

    def __init__(self, record: Record) -> None:
        self.record = record
        #: What it had let in when last looked at.
        self.admitted = 0
        self.rows = 0


class Meter:
    """The limits of one key, as this process applies them."""

    __slots__ = (
        "_admitted_at",
        "_counters",
        "_generation",
        "_key_id",
        "_looked_at",
        "_month",
        "_month_ends",
        "_others",
        "_requests",
        "_rows",
        "_words",
        "limits",
    )

    def __init__(self, counters: Counters, key_id: str, limits: KeyLimits, now: float) -> None:
        self.limits = limits
        self._counters = counters
        self._key_id = key_id
        record = counters.record(layout.KEY, (key_id,))
        # A nameless record is shared with other keys, and says nothing about this one.
        self._words = record.words if record.name else memoryview(bytearray(64)).cast("q")
        self._admitted_at = record.at if record.name else 0
        self._requests = _bucket(limits.requests_per_s, limits.burst_s, now)
        self._rows = _bucket(limits.rows_per_s, limits.burst_s, now)
        self._looked_at = -1e9
        self._month, self._month_ends = 0, -1e9
        self._others: list[_Other] = []
        self._generation = -1
        self._link()
        # What they let in so far belongs to the level that is taken over; only what comes now is taken off.
        self._let_in_elsewhere()
        self._take_over(self._looked_at, now)

    def admit(self, rows: int, now: float, wall: float) -> None:
        """Counts a request in, or raises `RateLimited` or `QuotaExceeded`.

        `now` on the monotonic clock, which all processes of a machine share; `wall` since the epoch.
        """
        if self._generation != self._counters.generation:
            self._link()
        self._refill(now)
        try:
            self._check_rates(rows)
            self._check_month(rows, wall)
            self._count(rows)
        finally:
            self._publish(now)

    def _refill(self, now: float) -> None:
        requests, rows = self._let_in_elsewhere() if self._others else (0, 0)
        if self._requests is not None:
            self._requests.refill(now, requests)
        if self._rows is not None:
            self._rows.refill(now, rows)
        if self._others and now - self._looked_at > PAUSE_S:
            self._take_over(self._looked_at, now)
        self._looked_at = now

    def _let_in_elsewhere(self) -> tuple[int, int]:
        """Requests and rows that the others let in since the last call."""
        requests = rows = 0
        for other in self._others:
            words, at = other.record.words, other.record.at
            admitted = words[at + layout.ADMITTED]
            if admitted != other.admitted:
                admitted_rows = words[at + layout.ADMITTED_ROWS]
                requests += admitted - other.admitted
                rows += admitted_rows - other.rows
                other.admitted, other.rows = admitted, admitted_rows
        return requests, rows

    def _take_over(self, since: float, now: float) -> None:
        """Takes the freshest view that another published after `since`, if there is one."""
        freshest = max((_seen_at(other.record) for other in self._others), default=since)
        if freshest <= since or not 0 <= now - freshest <= STALE_S:
            return
        # Of two that looked in the same moment, the one that looked last saw less.
        views = [o.record for o in self._others if _seen_at(o.record) >= freshest]
        for bucket, place in ((self._requests, layout.LEVEL), (self._rows, layout.ROWS_LEVEL)):
            if bucket is not None:
                bucket.level = min(view.words[view.at + place] for view in views) / 1e6
                bucket.at = freshest
                bucket.refill(now)

    def _check_rates(self, rows: int) -> None:
        for bucket, amount, unit in ((self._requests, 1, "requests"), (self._rows, rows, "rows")):
            if bucket is not None:
                wait_s = bucket.wait_s(amount)
                if wait_s > 0.0:
                    raise RateLimited(limit=bucket.rate, unit=unit, retry_after_s=wait_s)

    def _check_month(self, rows: int, wall: float) -> None:
        if wall >= self._month_ends:
            self._begin_month(wall)
        limits = self.limits
        if limits.requests_per_month is None and limits.rows_per_month is None:
            return
        used, used_rows = self._used()
        for limit, after, unit in (
            (limits.requests_per_month, used + 1, "requests"),
            (limits.rows_per_month, used_rows + rows, "rows"),
        ):
            if limit is not None and after > limit:
                raise QuotaExceeded(
                    limit=limit,
                    unit=unit,
                    renews=datetime.fromtimestamp(self._month_ends, UTC).strftime("%d %B (UTC)"),
                    retry_after_s=self._month_ends - wall,
                )

    def _used(self) -> tuple[int, int]:
        """Requests and rows of this month, in all processes and before them."""
        used, used_rows = self._counters.past.month(self._key_id, self._month)
        at = self._admitted_at
        used += self._words[at + layout.MONTH_REQUESTS]
        used_rows += self._words[at + layout.MONTH_ROWS]
        for other in self._others:
            words, at = other.record.words, other.record.at
            if words[at + layout.MONTH] == self._month:
                used += words[at + layout.MONTH_REQUESTS]
                used_rows += words[at + layout.MONTH_ROWS]
        return used, used_rows

    def _begin_month(self, wall: float) -> None:
        self._month = month_of(wall)
        self._month_ends = month_begins(self._month + 1)
        words, at = self._words, self._admitted_at
        if words[at + layout.MONTH] != self._month:
            words[at + layout.MONTH_REQUESTS] = words[at + layout.MONTH_ROWS] = 0
            words[at + layout.MONTH] = self._month

    def _count(self, rows: int) -> None:
        words, at = self._words, self._admitted_at
        words[at + layout.ADMITTED_ROWS] += rows
        words[at + layout.ADMITTED] += 1
        words[at + layout.MONTH_ROWS] += rows
        words[at + layout.MONTH_REQUESTS] += 1
        if self._requests is not None:
            self._requests.take(1)
        if self._rows is not None:
            self._rows.take(rows)

    def _publish(self, now: float) -> None:
        words, at = self._words, self._admitted_at
        if self._requests is not None:
            words[at + layout.LEVEL] = int(self._requests.level * 1e6)
        if self._rows is not None:
            words[at + layout.ROWS_LEVEL] = int(self._rows.level * 1e6)
        words[at + layout.SEEN_NS] = int(now * 1e9)

    def _link(self) -> None:
        """Finds the key in the tables of the others; what is known of one stays known."""
        self._generation = self._counters.generation
        records = self._counters.others_of(layout.KEY, (self._key_id,))
        known = {(id(o.record.words), o.record.at): o for o in self._others}
        self._others = [
            known.get((id(record.words), record.at)) or _Other(record) for record in records
        ]


def _bucket(rate: float | None, burst_s: float, now: float) -> Bucket | None:
    return None if rate is None else Bucket(rate, burst_s, now)


def _seen_at(record: Record) -> float:
    return float(record.words[record.at + layout.SEEN_NS]) / 1e9
