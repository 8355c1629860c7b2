"""Requests on their way: whatever happens in whatever order, each gets exactly one answer."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from modelry.core.errors import (
    DeadlineExceeded,
    ModelCrashed,
    NoReadyReplica,
    NotFound,
    ShuttingDown,
)
from modelry.core.states import DeploymentState
from modelry.server.gateway.dispatch import Dispatch, Pending
from tests.unit.server.gateway.pretend import KEY, REPLY, Desk, PretendLink, route


def test_a_request_waits_for_the_first_replica() -> None:
    desk = Desk(state=DeploymentState.STARTING)
    request = desk.submit()
    assert desk.answers_to(request) == []
    link = desk.open()
    assert link.sent == [request]
    desk.dispatch.answered(link, request.id, REPLY)
    assert desk.answers_to(request) == [REPLY]
    assert link.idle_calls == 1


def test_what_waits_is_refused_when_the_deployment_fails_or_goes() -> None:
    desk = Desk(state=DeploymentState.STARTING)
    request = desk.submit()
    desk.dispatch.route({KEY: route(state=DeploymentState.FAILED)})
    assert isinstance(desk.answers_to(request)[0], NoReadyReplica)
    desk = Desk(state=DeploymentState.STARTING)
    request = desk.submit()
    desk.dispatch.route({})
    assert isinstance(desk.answers_to(request)[0], NotFound)


def test_an_unknown_deployment_is_not_found() -> None:
    request = (desk := Desk()).submit(key=("default", "nothing"))
    assert isinstance(desk.answers_to(request)[0], NotFound)


def test_requests_of_a_broken_replica_are_tried_again_alone() -> None:
    desk = Desk()
    first, second = desk.open(), desk.open()
    requests = [desk.submit() for _ in range(6)]
    assert len(first.sent) == len(second.sent) == 3
    desk.dispatch.lost(first)
    assert all(desk.answers_to(request) == [] for request in requests)
    assert [request.alone for request in second.sent] == [False] * 3 + [True] * 3
    for request in requests:
        desk.dispatch.answered(second, request.id, REPLY)
    assert all(desk.answers_to(request) == [REPLY] for request in requests)


def test_only_the_request_that_ran_alone_is_to_blame_for_the_second_crash() -> None:
    desk = Desk()
    first = desk.open()
    guilty, neighbour = desk.submit(), desk.submit()
    desk.dispatch.lost(first)
    second = desk.open()
    assert second.sent == [guilty, neighbour]
    desk.dispatch.started(second, guilty.id)
    desk.dispatch.lost(second)
    assert isinstance(desk.answers_to(guilty)[0], ModelCrashed)
    assert desk.answers_to(neighbour) == []
    third = desk.open()
    desk.dispatch.answered(third, neighbour.id, REPLY)
    assert desk.answers_to(neighbour) == [REPLY]


def test_the_replica_hears_of_requests_nobody_waits_for() -> None:
    desk = Desk()
    link = desk.open()
    gone, late = desk.submit(), desk.submit()
    desk.dispatch.abandon(gone)
    desk.dispatch.abandon(late, DeadlineExceeded(deadline_s=1.0))
    assert link.cancelled == [gone.id, late.id]
    desk.dispatch.answered(link, gone.id, REPLY)
    desk.dispatch.answered(link, late.id, REPLY)
    assert desk.answers_to(gone) == []
    assert isinstance(desk.answers_to(late)[0], DeadlineExceeded)
    assert len(desk.answers_to(late)) == 1


def test_a_roll_moves_new_requests_to_the_wished_version_and_drops_none() -> None:
    desk = Desk(1, wished=2, state=DeploymentState.UPDATING)
    old = desk.open(1)
    before = desk.submit()
    new = desk.open(2)
    after = desk.submit()
    assert (old.sent, new.sent) == ([before], [after])
    old.is_usable = False
    desk.dispatch.answered(old, before.id, REPLY)
    assert desk.answers_to(before) == [REPLY]
    pinned = desk.submit(pinned=2)
    assert new.sent == [after, pinned]


def test_at_the_end_everyone_is_told() -> None:
    desk = Desk(state=DeploymentState.STARTING)
    waiting = desk.submit()
    desk.dispatch.settle_all(ShuttingDown())
    link = desk.open()
    flying = desk.submit()
    desk.dispatch.settle_all(ShuttingDown())
    assert isinstance(desk.answers_to(waiting)[0], ShuttingDown)
    assert isinstance(desk.answers_to(flying)[0], ShuttingDown)
    assert link.in_flight == 0
    assert repr(desk.dispatch) == "<Dispatch 0 waiting, 0 in flight on 1 replicas>"


def test_a_bound_keeps_requests_back_and_lets_the_oldest_in_first() -> None:
    desk = Desk(max_in_flight=2)
    link = desk.open()
    requests = [desk.submit() for _ in range(5)]
    assert link.sent == requests[:2]
    desk.dispatch.answered(link, requests[1].id, REPLY)
    assert link.sent == requests[:3]
    desk.dispatch.abandon(requests[3])
    desk.dispatch.abandon(requests[0])
    assert link.sent == [*requests[:3], requests[4]]
    assert link.in_flight == 2


def test_a_bound_counts_all_replicas_and_survives_the_loss_of_one() -> None:
    desk = Desk(max_in_flight=2)
    first, second = desk.open(), desk.open()
    requests = [desk.submit() for _ in range(4)]
    assert (first.in_flight, second.in_flight) == (1, 1)
    desk.dispatch.lost(first)
    assert second.in_flight == 2
    for request in [*second.sent, *requests]:
        desk.dispatch.answered(second, request.id, REPLY)
    assert all(desk.answers_to(request) == [REPLY] for request in requests)


def test_processes_share_a_bound() -> None:
    desk = Desk(max_in_flight=5)
    desk.dispatch = Dispatch(shares=2)
    desk.dispatch.route({KEY: route(max_in_flight=5)})
    link = desk.open()
    for _ in range(9):
        desk.submit()
    assert link.in_flight == 2


def test_a_request_for_replicas_that_sleep_wakes_them_and_waits() -> None:
    woken: list[str] = []
    desk = Desk()
    desk.dispatch = Dispatch(woken.append)
    desk.dispatch.route({KEY: route(state=DeploymentState.STOPPED, wakes=True)})
    request = desk.submit()
    desk.dispatch.wake_again()
    assert woken == ["dep_1", "dep_1"]
    link = desk.open()
    assert link.sent == [request]
    desk.dispatch.wake_again()
    assert len(woken) == 2


class Traffic(RuleBasedStateMachine):
    """Random orders of everything that can happen to requests, replicas and routes."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(1, state=DeploymentState.STARTING)
        self.route = route(1, state=DeploymentState.STARTING)
        self.links: list[PretendLink] = []
        self.requests: list[Pending] = []
        self.abandoned: set[int] = set()
        self.has_recovered = False

    @rule(pinned=st.sampled_from([None, None, 1, 2]))
    def submit(self, pinned: int | None) -> None:
        self.requests.append(self.desk.submit(pinned=pinned))

    @rule(version=st.sampled_from([1, 2]))
    def replica_comes(self, version: int) -> None:
        self.links.append(self.desk.open(version))

    @precondition(lambda self: self.links)
    @rule(data=st.data())
    def replica_dies(self, data: st.DataObject) -> None:
        link = data.draw(st.sampled_from(self.links))
        self.links.remove(link)
        self.desk.dispatch.lost(link)

    @precondition(lambda self: self.links)
    @rule(data=st.data(), usable=st.booleans())
    def replica_drains_or_recovers(self, data: st.DataObject, usable: bool) -> None:
        # Without a word to the dispatch: who waits is looked at again with the next one.
        link = data.draw(st.sampled_from(self.links))
        self.has_recovered |= usable and not link.is_usable
        link.is_usable = usable

    @precondition(lambda self: any(link.requests for link in self.links))
    @rule(data=st.data(), is_refused=st.booleans(), starts=st.booleans())
    def replica_speaks(self, data: st.DataObject, is_refused: bool, starts: bool) -> None:
        link = data.draw(st.sampled_from([link for link in self.links if link.requests]))
        request_id = data.draw(st.sampled_from(sorted(link.requests)))
        if starts:
            self.desk.dispatch.started(link, request_id)
            return
        answer = NoReadyReplica(name="x", reason="y") if is_refused else REPLY
        self.desk.dispatch.answered(link, request_id, answer)
        self.desk.dispatch.answered(link, request_id, answer)

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), is_late=st.booleans())
    def client_leaves_or_deadline_passes(self, data: st.DataObject, is_late: bool) -> None:
        request = data.draw(st.sampled_from(self.requests))
        if not is_late and not request.is_settled:
            self.abandoned.add(request.id)
        self.desk.dispatch.abandon(request, DeadlineExceeded(deadline_s=1) if is_late else None)

    @rule(
        state=st.sampled_from(list(DeploymentState)),
        wished=st.sampled_from([1, 2]),
        bound=st.sampled_from([None, 1, 3]),
    )
    def routes_change(self, state: DeploymentState, wished: int, bound: int | None) -> None:
        self.route = route(1, 2, wished=wished, state=state, max_in_flight=bound)
        self.desk.dispatch.route({KEY: self.route})

    @invariant()
    def nobody_is_answered_twice_or_forgotten(self) -> None:
        carried = [id for link in self.links for id in link.requests]
        waiting = [id for some in self.desk.dispatch._waiting.values() for id in some]
        assert len(set(carried + waiting)) == len(carried + waiting)
        for request in self.requests:
            answers = len(self.desk.answers_to(request))
            is_held = request.id in carried or request.id in waiting
            assert answers + is_held + (request.id in self.abandoned) == 1

    @invariant()
    def nobody_waits_while_there_is_room(self) -> None:
        bound = self.route.max_in_flight
        flying = sum(len(link.requests) for link in self.desk.dispatch._links.get("dep_1", ()))
        waiting = [one for some in self.desk.dispatch._waiting.values() for one in some.values()]
        is_served = any(link.is_usable for link in self.links)
        if is_served and not self.has_recovered and (bound is None or flying < bound):
            assert all(one.pinned is not None for one in waiting)

    def teardown(self) -> None:
        for request in self.requests:
            self.desk.dispatch.abandon(request, DeadlineExceeded(deadline_s=1))
        for request in self.requests:
            expected = 0 if request.id in self.abandoned else 1
            assert len(self.desk.answers_to(request)) == expected


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
