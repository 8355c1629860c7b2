"""The choice of a replica: least-loaded, of the right version, and the reason where there is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.core.errors import NoReadyReplica, NotFound
from modelry.core.states import DeploymentState
from modelry.server.gateway.choice import Draws, choose, find_manifest
from tests.unit.server.gateway.pretend import KEY, Desk, PretendLink, route


class Loaded(PretendLink):
    """With so many requests in flight."""

    def __init__(self, version: int, load: int, depth: int, usable: bool) -> None:
        super().__init__(version, is_usable=usable, queue_depth=depth)
        self.load = load

    @property
    def in_flight(self) -> int:
        return self.load


loaded = st.builds(Loaded, st.integers(1, 3), st.integers(0, 5), st.integers(0, 5), st.booleans())


@given(
    st.lists(loaded, max_size=6),
    st.sampled_from(list(DeploymentState)),
    st.one_of(st.none(), st.integers(1, 4)),
)
def test_the_choice_is_the_least_loaded_of_the_right_version(
    options: list[Loaded], state: DeploymentState, pinned: int | None
) -> None:
    it = route(*{option.version for option in options}, wished=2, state=state)
    try:
        chosen = choose(it, pinned, options)
    except (NoReadyReplica, NotFound):
        chosen = None
    is_stopped = state is DeploymentState.STOPPED
    usable = [option for option in options if option.is_usable and not is_stopped]
    right = [option for option in usable if pinned is None or option.version == pinned]
    if right:
        assert chosen in right
        assert chosen.load == min(option.load for option in right)
    else:
        assert chosen is None


@pytest.mark.parametrize(
    "state", [DeploymentState.STARTING, DeploymentState.UPDATING, DeploymentState.DEGRADED]
)
def test_a_request_waits_while_replicas_are_on_their_way(state: DeploymentState) -> None:
    assert choose(route(state=state), None, []) is None


def test_a_failed_deployment_refuses_with_its_reason() -> None:
    failed = route(state=DeploymentState.FAILED, failure={"message": "The model is broken."})
    with pytest.raises(NoReadyReplica, match="The model is broken"):
        choose(failed, None, [])


def test_a_request_waits_for_one_that_sleeps_whatever_it_was_before() -> None:
    failed = route(state=DeploymentState.FAILED, wakes=True)
    assert choose(failed, None, []) is None
    assert choose(route(state=DeploymentState.IDLE, wakes=True), None, []) is None


@pytest.mark.parametrize("state", [DeploymentState.STOPPED, DeploymentState.DELETING])
def test_nothing_waits_for_a_deployment_that_was_ended(state: DeploymentState) -> None:
    with pytest.raises(NoReadyReplica):
        choose(route(state=state), None, [])


@pytest.mark.parametrize("pinned", [None, 1])
def test_what_is_stopped_answers_nothing_though_its_replicas_are_still_there(
    pinned: int | None,
) -> None:
    stopped = route(1, state=DeploymentState.STOPPED)
    with pytest.raises(NoReadyReplica, match="stopped"):
        choose(stopped, pinned, [PretendLink(1)])


def test_nobody_waits_for_a_version_that_cannot_be_loaded() -> None:
    broken = {"message": "The model cannot be loaded.", "version": 2}
    tried = route(1, state=DeploymentState.DEGRADED, weights=trial(50.0), failure=broken)
    main = PretendLink(1)
    with pytest.raises(NoReadyReplica, match="cannot be loaded"):
        choose(tried, 2, [main])
    assert choose(tried, 1, [main]) is main
    assert choose(tried, 1, []) is None
    assert choose(tried, None, [main], 2) is main
    rolling = route(1, wished=2, state=DeploymentState.DEGRADED, failure=broken)
    with pytest.raises(NoReadyReplica, match="cannot be loaded"):
        choose(rolling, 2, [main])
    # It has begun to answer, and nobody has written that down yet.
    assert choose(route(1, 2, weights=trial(50.0), failure=broken), 2, [main]) is None


def test_who_waits_for_a_canary_is_told_once_it_is_known_to_be_broken() -> None:
    desk = Desk(1, weights=trial(50.0))
    desk.open(1)
    waiting = desk.submit(pinned=2)
    assert desk.answers_to(waiting) == []
    broken = {"message": "The model cannot be loaded.", "version": 2}
    told = route(1, state=DeploymentState.DEGRADED, weights=trial(50.0), failure=broken)
    desk.dispatch.route({KEY: told})
    (error,) = desk.answers_to(waiting)
    assert isinstance(error, NoReadyReplica)


def test_a_version_that_is_not_served_is_not_found() -> None:
    with pytest.raises(NotFound) as caught:
        choose(route(1, wished=2), 7, [PretendLink(1)])
    assert "1, 2" in caught.value.remedy


def test_the_manifest_is_that_of_the_version_that_will_answer() -> None:
    manifests = {1: {"of": 1}, 2: {"of": 2}}
    assert find_manifest(route(1, wished=2, manifests=manifests), None) == {"of": 1}
    assert find_manifest(route(1, 2, wished=2, manifests=manifests), None) == {"of": 2}
    assert find_manifest(route(1, 2, wished=2, manifests=manifests), 1) == {"of": 1}
    assert find_manifest(route(wished=2, manifests=manifests), None) == {"of": 2}
    with pytest.raises(NoReadyReplica):
        find_manifest(route(wished=3, manifests=manifests), None)
    with pytest.raises(NotFound):
        find_manifest(route(1, wished=2, manifests=manifests), 9)


# Spread by weight.


def trial(percent: float) -> tuple[tuple[int, float], ...]:
    return (1, 100.0 - percent), (2, percent)


@given(st.floats(0.0, 100.0), st.integers(1, 3))
def test_over_ten_thousand_requests_and_several_processes_the_share_is_the_weight(
    percent: float, processes: int
) -> None:
    tried = route(1, 2, weights=trial(percent))
    each = 10_000 // processes
    drawn = [
        draws.draw(tried) for draws in [Draws() for _ in range(processes)] for _ in range(each)
    ]
    assert abs(drawn.count(2) / len(drawn) - percent / 100.0) < 0.002


@given(st.floats(5.0, 95.0), st.integers(2, 7), st.integers(0, 6))
def test_callers_that_take_turns_get_the_same_share_each(
    percent: float, callers: int, which: int
) -> None:
    tried, draws = route(1, 2, weights=trial(percent)), Draws()
    drawn = [draws.draw(tried) for _ in range(callers * 2000)]
    mine = drawn[which % callers :: callers]
    assert abs(mine.count(2) / len(mine) - percent / 100.0) < 0.02


def test_without_a_canary_nothing_is_drawn() -> None:
    assert Draws().draw(route(1)) is None


def test_all_and_nothing_are_exact() -> None:
    draws = Draws()
    assert {draws.draw(route(1, 2, weights=trial(100.0))) for _ in range(1000)} == {2}
    assert {draws.draw(route(1, 2, weights=trial(0.0))) for _ in range(1000)} == {1}


def test_a_version_without_a_usable_replica_leaves_its_share_to_the_other() -> None:
    tried = route(1, 2, weights=trial(50.0))
    main, canary = PretendLink(1), PretendLink(2, is_usable=False)
    assert choose(tried, None, [main, canary], 2) is main
    main.is_usable, canary.is_usable = False, True
    assert choose(tried, None, [main, canary], 1) is canary


def test_what_still_serves_from_before_a_roll_answers_for_the_wished_version() -> None:
    tried = route(1, 2, 0, weights=trial(50.0))
    before, canary = PretendLink(0), PretendLink(2)
    assert choose(tried, None, [before, canary], 1) is before
    assert choose(tried, None, [before, canary], 2) is canary


def test_a_canary_that_was_taken_away_or_promoted_binds_nobody() -> None:
    main, former = PretendLink(1), PretendLink(2)
    assert choose(route(1, 2), None, [former, main], 2) is main
    assert choose(route(1, 2, wished=2), None, [former, main], 1) is former


def test_a_canary_may_be_pinned_before_it_is_ready() -> None:
    tried = route(1, weights=trial(0.0))
    assert choose(tried, 2, [PretendLink(1)]) is None


def test_during_a_roll_every_replica_takes_what_it_can() -> None:
    rolling = route(1, 1, 2, wished=2)
    links = [PretendLink(1), PretendLink(1), PretendLink(2)]
    desk = Desk(1, 1, 2, wished=2)
    for link in links:
        desk.dispatch.opened(link)
    for _ in range(30):
        desk.submit()
    assert [len(link.sent) for link in links] == [10, 10, 10]
    assert choose(rolling, None, [PretendLink(1), newest := PretendLink(2)]) is newest


def test_a_request_that_must_go_elsewhere_stays_with_its_version() -> None:
    desk = Desk(1, 1, 2, 2, weights=trial(50.0))
    links = [desk.open(version) for version in (1, 1, 2, 2)]
    requests = [desk.submit() for _ in range(40)]
    drawn = {request.id: request.drawn for request in requests}
    assert set(drawn.values()) == {1, 2}
    for dead in (links[0], links[2]):
        desk.dispatch.lost(dead)
    for link in (links[1], links[3]):
        assert {drawn[request.id] for request in link.sent} == {link.version}
