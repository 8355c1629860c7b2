"""Who may come in now, and what became of it: asked before a request is sent on its way, told when it has ended.

A request is refused at once where its key is over a limit, where too many are under way already, or where those before
it will take so long that its deadline passes first: work that nobody waits for any more is never begun, so that a
service with ten times too many requests still answers as many as it can.

All of it is arithmetic on this process's own counters and a look at the others'; a few microseconds for each request.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Collection

from modelry.core.errors import ModelryError, Overloaded
from modelry.core.records import KeyLimits, Route
from modelry.server.gateway import layout
from modelry.server.gateway.access import Caller
from modelry.server.gateway.counters import Counters
from modelry.server.gateway.dispatch import Reply
from modelry.server.gateway.metering import NO_LIMITS, Meter
from modelry.server.gateway.table import Record

#: Requests under way of one deployment, where neither it nor its replicas bound them.
MOST_UNDER_WAY = 10_000
#: An answer is expected within this share of its deadline, or it is not begun: the estimate is one.
SHARE_OF_DEADLINE = 0.8
#: Weight of the newest answer in the estimate, where it is slower and where it is quicker. One slow answer says little,
#: and an estimate that is too high refuses those who would have shown it.
SLOWER, QUICKER = 0.1, 0.3
#: A single answer counts as at most so many times slower than the estimate: a long explanation among many predictions
#: must not make those look long.
AT_MOST_TIMES, AT_LEAST_S = 4.0, 0.001
#: Retries are asked for within these.
SHORTEST_RETRY_S, LONGEST_RETRY_S = 0.01, 60.0


class Lane:
    """One deployment, as this process sees it."""

    __slots__ = ("generation", "others", "own", "per_place_s", "records", "under_way")

    def __init__(self, counters: Counters, deployment_id: str) -> None:
        self.own = counters.record(layout.DEPLOYMENT, (deployment_id,))
        #: The same deployment in the living other processes.
        self.others: list[Record] = []
        self.generation = -1
        #: Of this process.
        self.under_way = 0
        #: Seconds in the replicas for each request that was under way when one came, itself included.
        self.per_place_s = 0.0
        #: (key, version) → USAGE and VERSION.
        self.records: dict[tuple[str, int], tuple[Record, Record]] = {}


class Permit:
    """One request that was let in."""

    __slots__ = (
        "_admission",
        "_bytes_in",
        "_caller",
        "_entered_at",
        "_is_over",
        "_is_waiting",
        "_lane",
        "_place",
        "_route",
        "_rows",
        "_version",
    )

    def __init__(
        self,
        admission: Admission,
        lane: Lane,
        caller: Caller,
        route: Route,
        rows: int,
        bytes_in: int,
        place: int,
        entered_at: float,
    ) -> None:
        self._admission = admission
        self._lane = lane
        self._caller = caller
        self._route = route
        self._rows = rows
        self._bytes_in = bytes_in
        #: How many were under way before it.
        self._place = place
        self._entered_at = entered_at
        self._version = 0
        self._is_waiting = False
        self._is_over = False

    def moved(self, version: int | None) -> None:
        """It was given to a replica of this version, or (None) waits for one."""
        if version is not None:
            self._version = version
        is_waiting = version is None
        if is_waiting != self._is_waiting and not self._is_over:
            self._is_waiting = is_waiting
            own = self._lane.own
            own.words[own.at + layout.WAITING] += 1 if is_waiting else -1

    def leave(self, outcome: Reply | ModelryError | None, *, bytes_out: int = 0) -> None:
        """Its end, whatever it was; None means that its client went away. Counts once, however often it is called."""
        if self._is_over:
            return
        self.moved(self._version)
        self._is_over = True
        lane, own = self._lane, self._lane.own
        lane.under_way -= 1
        own.words[own.at] -= 1
        if isinstance(outcome, Reply):
            self._answered(outcome, bytes_out)
        else:
            self._failed(outcome)

    def _answered(self, reply: Reply, bytes_out: int) -> None:
        _, queue_us, inference_us, batch_rows = reply.stats
        rows = self._rows
        part = rows / batch_rows if batch_rows > rows else 1.0
        compute_us = int(inference_us * part)
        lane = self._lane
        sample_s = (queue_us + inference_us) / (self._place + 1) * 1e-6
        known_s = lane.per_place_s
        if sample_s <= known_s:
            lane.per_place_s += QUICKER * (sample_s - known_s)
        elif known_s:
            most_s = max(AT_MOST_TIMES * known_s, AT_LEAST_S)
            lane.per_place_s += SLOWER * (min(sample_s, most_s) - known_s)
        else:
            lane.per_place_s = sample_s

        usage, counted = self._records(reply.version)
        words, at = usage.words, usage.at
        words[at] += 1
        words[at + layout.ROWS] += rows
        words[at + layout.BYTES_IN] += self._bytes_in
        words[at + layout.BYTES_OUT] += bytes_out
        words[at + layout.COMPUTE_US] += compute_us

        admission = self._admission
        latency_us = int((admission.clock() - self._entered_at) * 1e6)
        words, at = counted.words, counted.at
        words[at] += 1
        words[at + layout.V_ROWS] += rows
        words[at + layout.V_LATENCY_US] += latency_us
        words[at + layout.V_QUEUE_US] += queue_us
        words[at + layout.V_INFERENCE_US] += inference_us
        words[at + layout.V_COMPUTE_US] += compute_us
        words[at + layout.V_CALLS_U] += int(part * 1_000_000)
        words[at + layout.V_BATCH_ROWS] += batch_rows
        words[at + layout.V_LAST_AT_US] = int(admission.wall() * 1e6)
        words[at + layout.V_LATENCIES + bisect_left(layout.TIME_BOUNDS_US, latency_us)] += 1
        words[at + layout.V_QUEUES + bisect_left(layout.TIME_BOUNDS_US, queue_us)] += 1
        words[at + layout.V_BATCHES + bisect_left(layout.BATCH_BOUNDS, batch_rows)] += 1

        words, at = lane.own.words, lane.own.at
        words[at + layout.ENDED] += 1
        words[at + layout.QUEUE_US] += queue_us

    def _failed(self, error: ModelryError | None) -> None:
        usage, counted = self._records(self._version)
        words, at = usage.words, usage.at
        words[at] += 1
        words[at + layout.ERRORS] += 1
        words[at + layout.BYTES_IN] += self._bytes_in
        admission = self._admission
        words, at = counted.words, counted.at
        words[at + layout.V_FAILED] += 1
        words[at + layout.V_FAILED_US] += int((admission.clock() - self._entered_at) * 1e6)
        words[at + layout.V_LAST_AT_US] = int(admission.wall() * 1e6)
        code = layout.CLIENT_GONE if error is None else layout.CODE_AT.get(error.code, layout.OTHER)
        words[at + layout.V_CODES + code] += 1

    def _records(self, version: int) -> tuple[Record, Record]:
        admission = self._admission
        key_id = self._caller.key.id
        found = self._lane.records.get((key_id, version))
        if found is None:
            found = admission.records_of(self._lane, key_id, self._route, version)
        admission.counters.touch(found[0])
        return found


class Admission:
    """One per web process, on its event loop. Counts for itself alone where it is given no counters."""

    def __init__(
        self,
        counters: Counters | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.counters = counters or Counters.private()
        self.clock = clock
        self.wall = wall
        self._lanes: dict[str, Lane] = {}
        self._meters: dict[str, Meter] = {}

    def enter(
        self, caller: Caller, route: Route, *, rows: int, bytes_in: int, deadline_s: float
    ) -> Permit:
        """The permit; raises `RateLimited`, `QuotaExceeded` or `Overloaded`, with the fact `retry_after_s`.

        `deadline_s`: how long the answer may take from now.
        """
        now = self.clock()
        self.counters.look(now)
        lane = self._lanes.get(route.deployment_id)
        if lane is None:
            lane = self._lanes[route.deployment_id] = Lane(self.counters, route.deployment_id)
        if lane.generation != self.counters.generation:
            self._link(lane, route.deployment_id)
        wall = self.wall()
        own = lane.own
        own.words[own.at + layout.LAST_AT_US] = int(wall * 1e6)
        place = lane.under_way
        for other in lane.others:
            place += other.words[other.at]
        try:
            _check_room(lane, route, place, deadline_s)
            limits = caller.key.limits
            if limits is not NO_LIMITS and limits != NO_LIMITS:
                self._meter(caller.key.id, limits, now).admit(rows, now, wall)
        except ModelryError as error:
            self._refused(caller, lane, route, error)
            raise
        lane.under_way += 1
        own.words[own.at] += 1
        return Permit(self, lane, caller, route, rows, bytes_in, place, now)

    def records_of(
        self, lane: Lane, key_id: str, route: Route, version: int
    ) -> tuple[Record, Record]:
        """The counters of a key and a version of a deployment."""
        about = (route.deployment_id, route.name, route.model, version)
        usage = self.counters.record(layout.USAGE, (route.project, key_id, *about))
        counted = self.counters.record(layout.VERSION, (route.project, *about))
        if usage.name and counted.name:
            lane.records[key_id, version] = usage, counted
        return usage, counted

    def forget_all_but(self, deployment_ids: Collection[str]) -> None:
        """What was deleted and has nothing under way needs no lane any more."""
        gone = [
            deployment_id
            for deployment_id, lane in self._lanes.items()
            if not lane.under_way and deployment_id not in deployment_ids
        ]
        for deployment_id in gone:
            del self._lanes[deployment_id]

    def _meter(self, key_id: str, limits: KeyLimits, now: float) -> Meter:
        meter = self._meters.get(key_id)
        if meter is None or (meter.limits is not limits and meter.limits != limits):
            meter = self._meters[key_id] = Meter(self.counters, key_id, limits, now)
        return meter

    def _link(self, lane: Lane, deployment_id: str) -> None:
        lane.generation = self.counters.generation
        lane.others = self.counters.others_of(layout.DEPLOYMENT, (deployment_id,), living=True)

    def _refused(self, caller: Caller, lane: Lane, route: Route, error: ModelryError) -> None:
        counted = self.records_of(lane, caller.key.id, route, 0)[1]
        words, at = counted.words, counted.at
        words[at + layout.V_REFUSED] += 1
        words[at + layout.V_CODES + layout.CODE_AT.get(error.code, layout.OTHER)] += 1


def _check_room(lane: Lane, route: Route, place: int, deadline_s: float) -> None:
    """Raises `Overloaded` where `place` requests under way are too many for one more."""
    replicas = len(route.replicas)
    bound = _most_under_way(route, replicas)
    if place >= bound:
        raise _overloaded(route, place, (place + 1 - bound) * lane.per_place_s)
    # One that finds a free replica always runs: its time is how the estimate recovers from a bad moment.
    if place >= replicas > 0:
        late_s = (place + 1) * lane.per_place_s - SHARE_OF_DEADLINE * deadline_s
        if late_s > 0:
            raise _overloaded(route, place, late_s)


def _most_under_way(route: Route, replicas: int) -> int:
    """Requests that may be under way at once: what the replicas work on, and what may wait beside."""
    if route.max_in_flight is None and route.max_queue is None:
        return MOST_UNDER_WAY
    at_work = route.max_in_flight
    if at_work is None:
        at_work = max(1, replicas) * route.max_batch
    return at_work + (route.max_queue or 0)


def _overloaded(route: Route, place: int, retry_after_s: float) -> Overloaded:
    return Overloaded(
        name=route.name,
        queued=place,
        retry_after_s=min(max(retry_after_s, SHORTEST_RETRY_S), LONGEST_RETRY_S),
    )
