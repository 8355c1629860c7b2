"""States move only by the table."""

from __future__ import annotations

import pytest

from modelry.core.errors import IllegalMove
from modelry.core.states import (
    JOB_MOVES,
    REPLICA_MOVES,
    DeploymentState,
    JobState,
    ReplicaState,
    move,
)


def test_every_state_has_a_row() -> None:
    assert set(JOB_MOVES) == set(JobState)
    assert set(REPLICA_MOVES) == set(ReplicaState)


def test_final_states_are_final() -> None:
    assert {s for s in JobState if s.is_final} == {
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.CANCELLED,
    }
    assert {s for s in ReplicaState if s.is_final} == {ReplicaState.STOPPED, ReplicaState.FAILED}


@pytest.mark.parametrize("state", list(JobState))
def test_a_move_outside_the_table_raises_and_tells_both_states(state: JobState) -> None:
    for target in JobState:
        if target in JOB_MOVES[state]:
            assert move(state, target) is target
        else:
            with pytest.raises(IllegalMove, match=f"is {state} cannot become {target}"):
                move(state, target)


def test_every_unfinished_job_can_be_cancelled() -> None:
    for state in JobState:
        assert state.is_final or JobState.CANCELLED in JOB_MOVES[state]


def test_nothing_comes_back_from_deletion() -> None:
    with pytest.raises(IllegalMove):
        move(DeploymentState.DELETING, DeploymentState.READY)
