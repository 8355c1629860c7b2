"""The choice of a replica: least-loaded, of the right version, and the reason where there is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.core.errors import NoReadyReplica, NotFound
from modelry.core.states import DeploymentState
from modelry.server.gateway.choice import choose, find_manifest
from tests.unit.server.gateway.pretend import PretendLink, route


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
    usable = [option for option in options if option.is_usable]
    right = [option for option in usable if option.version == (pinned or 2)]
    if pinned is None and not right:
        newest = max((option.version for option in usable), default=0)
        right = [option for option in usable if option.version == newest]
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


@pytest.mark.parametrize("state", [DeploymentState.STOPPED, DeploymentState.DELETING])
def test_nothing_waits_for_a_deployment_that_was_ended(state: DeploymentState) -> None:
    with pytest.raises(NoReadyReplica):
        choose(route(state=state), None, [])


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
