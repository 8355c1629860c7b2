"""How many replicas a deployment should have, from how long its requests waited. Pure: looks go in, a number comes out.

Up quickly, down slowly. Waiting is judged over the last two seconds: long waits double the replicas, longish ones add
one, and then nothing is added until what was added had time to help. One is taken away after a minute in which nobody
waited; if that turns out to be wrong, the next try waits twice as long (up to ten minutes), so that a load near the
edge does not make the number swing. Who was not asked for `idle_s` gets none at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from modelry.core.records import Deployment, Load
from modelry.core.states import DeploymentWish

#: Waits are means over so long; looks that are closer together than a quarter of it are not kept.
WINDOW_S = 2.0
#: A mean wait from here on calls for one more replica, and from four times as long on for twice as many.
LONG_WAIT_S = 0.05
VERY_LONG_WAIT_S = 4 * LONG_WAIT_S
#: After a change so long for it to show.
SETTLE_S = 3.0
#: A mean wait up to here means that nobody waits.
SHORT_WAIT_S = LONG_WAIT_S / 5
#: So long nobody must have waited before one replica is taken away; doubles after each mistake.
CALM_S = 60.0
LONGEST_CALM_S = 600.0


@dataclass(frozen=True, slots=True)
class Look:
    """The load at one moment."""

    at: float
    load: Load


@dataclass(frozen=True, slots=True)
class Watch:
    """What is remembered of one deployment between two looks."""

    #: Oldest first, `WINDOW_S` long.
    looks: tuple[Look, ...] = ()
    changed_at: float = 0.0
    #: Since when nobody waits; None while somebody does.
    calm_since: float | None = None
    #: How long it must be calm.
    calm_s: float = CALM_S
    #: When a replica was last taken away; None before the first time.
    lessened_at: float | None = None


def is_scaled(deployment: Deployment) -> bool:
    """Whether its number of replicas depends on its load."""
    return deployment.wish is DeploymentWish.RUN and (
        deployment.idle_s is not None or deployment.min_replicas < deployment.max_replicas
    )


def decide(
    deployment: Deployment, load: Load, watch: Watch, now: float, *, awake_since: float
) -> tuple[int, Watch]:
    """The number of replicas from now on, and what to remember.

    `awake_since`: when the deployment last began to answer, or was changed; all times by the database's clock.
    """
    watch = _look(watch, load, now)
    if not deployment.replicas:
        return 0, watch
    if _is_idle(deployment, load, now, awake_since):
        return 0, Watch()
    wanted = _wanted(deployment.replicas, watch, now)
    number = min(max(wanted, deployment.min_replicas), deployment.max_replicas)
    if number == deployment.replicas:
        return number, watch
    return number, _changed(watch, number < deployment.replicas, now)


def _is_idle(deployment: Deployment, load: Load, now: float, awake_since: float) -> bool:
    if deployment.idle_s is None or load.waiting or load.in_flight:
        return False
    return now - max(load.last_request_at, awake_since) >= deployment.idle_s


def _look(watch: Watch, load: Load, now: float) -> Watch:
    looks = watch.looks
    if looks and load.requests < looks[-1].load.requests:
        # The counters began anew; the difference to before means nothing.
        looks = ()
    if not looks or now - looks[-1].at >= WINDOW_S / 4:
        kept = [index for index, look in enumerate(looks) if now - look.at >= WINDOW_S]
        # The newest look that is old enough stays: from it the window is counted.
        looks = (*looks[kept[-1] if kept else 0 :], Look(now, load))
    is_calm = load.waiting == 0 and _mean_wait_s(looks) <= SHORT_WAIT_S
    return replace(
        watch,
        looks=looks,
        calm_since=(watch.calm_since or now) if is_calm else None,
    )


def _wanted(running: int, watch: Watch, now: float) -> int:
    if now - watch.changed_at >= SETTLE_S:
        wait_s = _mean_wait_s(watch.looks)
        if wait_s >= VERY_LONG_WAIT_S or _is_stuck(running, watch):
            return running * 2
        if wait_s >= LONG_WAIT_S:
            return running + 1
    calm_since = now if watch.calm_since is None else watch.calm_since
    if now - max(calm_since, watch.changed_at) >= watch.calm_s:
        return running - 1
    return running


def _mean_wait_s(looks: tuple[Look, ...]) -> float:
    """Per request that was answered between the first and the last look."""
    if len(looks) < 2:
        return 0.0
    first, last = looks[0].load, looks[-1].load
    answered = last.requests - first.requests
    return (last.queue_us - first.queue_us) / answered / 1e6 if answered > 0 else 0.0


def _is_stuck(running: int, watch: Watch) -> bool:
    """Whether more requests than replicas are under way and for a whole window none came back."""
    first, last = watch.looks[0], watch.looks[-1]
    return (
        last.at - first.at >= WINDOW_S
        and last.load.requests == first.load.requests
        and min(look.load.waiting + look.load.in_flight for look in watch.looks) > running
    )


def _changed(watch: Watch, is_less: bool, now: float) -> Watch:
    """What the change teaches: more, soon after less, was a mistake."""
    fresh = replace(watch, changed_at=now, calm_since=None)
    if is_less:
        return replace(fresh, lessened_at=now)
    if watch.lessened_at is not None and now - watch.lessened_at < 2 * watch.calm_s:
        return replace(fresh, lessened_at=None, calm_s=min(2 * watch.calm_s, LONGEST_CALM_S))
    return replace(fresh, calm_s=CALM_S)
