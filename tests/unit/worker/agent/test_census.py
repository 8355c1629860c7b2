"""Whom the census counts to a worker: its session, all descendants, and nobody else."""

from __future__ import annotations

import os

from modelry.worker.agent.census import (
    Census,
    Process,
    proportional_bytes,
    resident_bytes,
    take_census,
)


def process(pid: int, parent: int, session: int, start: int = 0, rss: int = 10) -> Process:
    return Process(pid=pid, parent=parent, session=session, start_ticks=start or pid, rss_bytes=rss)


def pids(found: list[Process]) -> set[int]:
    return {process.pid for process in found}


def test_the_session_and_all_descendants_belong_to_the_worker() -> None:
    census = Census(
        [
            process(10, 1, 10),
            process(11, 10, 10),
            process(12, 11, 12),  # left the session
            process(13, 12, 12),
            process(14, 1, 10),  # an orphan in the session
            process(20, 1, 20),
        ]
    )
    assert pids(census.family((10, 10))) == {10, 11, 12, 13, 14}
    assert resident_bytes(census.family((10, 10))) == 50


def test_the_session_of_a_dead_worker_is_still_its_own() -> None:
    census = Census([process(11, 1, 10), process(12, 11, 12)])
    assert pids(census.family((10, 10))) == {11, 12}


def test_a_number_that_belongs_to_somebody_else_now_is_left_alone() -> None:
    census = Census([process(10, 1, 10, start=999), process(11, 10, 10)])
    assert census.family((10, 10)) == []


def test_members_known_from_before_count_wherever_they_went() -> None:
    census = Census([process(30, 1, 30), process(31, 30, 31), process(40, 1, 40, start=999)])
    assert pids(census.family((10, 10), {(30, 30), (40, 40)})) == {30, 31}


def test_this_process_is_in_the_census_with_its_memory() -> None:
    me = take_census().by_pid[os.getpid()]
    assert me.parent == os.getppid()
    assert me.session == os.getsid(0)
    assert 0 < proportional_bytes([me]) <= me.rss_bytes * 1.5
