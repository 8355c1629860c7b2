"""Callers, replies and several processes' admissions over one folder, on a clock that the test turns."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from modelry.core.frames import Stats
from modelry.core.records import Key, KeyLimits, Route
from modelry.core.states import DeploymentState
from modelry.server.gateway.access import Caller
from modelry.server.gateway.admission import Admission
from modelry.server.gateway.counters import Counters
from modelry.server.gateway.dispatch import Reply
from modelry.server.gateway.limits import month_begins, month_of

#: The middle of this month.
WALL = month_begins(month_of(time.time())) + 14 * 86400.0


@dataclass
class Clock:
    """Monotonic, until a test turns it."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return WALL + self.now - 1000.0


@dataclass
class Processes:
    """Web processes of one home, all in this process."""

    folder: Path
    clock: Clock = field(default_factory=Clock)
    number: int = 0

    def start(self) -> Admission:
        """One more. The others see it at once."""
        self.number += 1
        counters = Counters.open(self.folder, f"web{self.number}-test")
        return Admission(counters, clock=self.clock, wall=self.clock.wall)


def look(*admissions: Admission) -> None:
    """Each looks at the others now, however short the time since the last look."""
    for admission in admissions:
        admission.counters._looked_at = admission.counters._asked_at = -1e9
        admission.counters.look(admission.clock())


def caller(key_id: str = "k1", project: str = "default", **limits: float | int) -> Caller:
    key = Key(
        id=key_id,
        label="",
        project=project,
        scopes=("infer",),
        created_at=0.0,
        limits=KeyLimits(**limits),  # type: ignore[arg-type]
    )
    return Caller(project, key)


def route(replicas: int = 1, **more: int | float | None) -> Route:
    return Route(
        deployment_id="dep_1",
        project="default",
        name="digits",
        state=DeploymentState.READY,
        model="mnist",
        version=1,
        max_batch=32,
        failure=None,
        replicas=tuple((f"rep_{n}", 1, "unix:/none") for n in range(replicas)),
        manifests={},
        **more,  # type: ignore[arg-type]
    )


def reply(
    version: int = 1, *, queue_us: int = 100, inference_us: int = 1000, batch_rows: int = 4
) -> Reply:
    stats = Stats(0, queue_us, inference_us, batch_rows)
    return Reply(memoryview(b"0123456789"), stats, "mnist", version, None)  # type: ignore[arg-type]
