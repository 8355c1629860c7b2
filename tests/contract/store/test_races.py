"""Many at once: what one may do, one does; nobody is left with half of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from modelry.core.errors import AlreadyExists, Conflict, IllegalMove, InUse, ModelryError, NotFound
from modelry.core.events import Log
from modelry.core.files import FileRef
from modelry.core.records import Attempt, ModelVersion
from modelry.core.states import JobState
from modelry.server.store import (
    Store,
    Transaction,
    curves,
    datasets,
    deployments,
    jobs,
    models,
    projects,
    routes,
)
from tests.contract.store.rows import PROJECT, deployment, model_version, new_job, running_job

THREADS = 6
Result = TypeVar("Result")


def all_at_once(
    store: Store, *acts: Callable[[Transaction], Result]
) -> list[Result | ModelryError]:
    """Each act in a transaction of its own, all begun at the same moment."""
    barrier = threading.Barrier(len(acts))

    def run(act: Callable[[Transaction], Result]) -> Result | ModelryError:
        barrier.wait()
        try:
            with store.write() as tx:
                return act(tx)
        except ModelryError as error:
            return error

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


def errors(results: list[Result | ModelryError]) -> list[type]:
    return [type(result) for result in results if isinstance(result, ModelryError)]


def test_a_job_that_many_start_has_one_attempt(store: Store) -> None:
    for _ in range(5):
        with store.write() as tx:
            job_id = new_job(tx).id
        starts = [lambda tx, job_id=job_id: jobs.start_attempt(tx, job_id)] * THREADS
        results = all_at_once(store, *starts)
        assert errors(results) == [IllegalMove] * (THREADS - 1)
        assert len([one for one in results if isinstance(one, Attempt)]) == 1
        with store.read() as tx:
            assert jobs.get_by_id(tx, job_id).attempt == 1


def test_a_chunk_of_events_that_many_hand_in_is_stored_once(store: Store) -> None:
    with store.write() as tx:
        job = running_job(tx)
    chunk = [Log(at=1.0, text="once")]
    append = [lambda tx: jobs.append_events(tx, job.id, 1, chunk, 10, offset=0)] * THREADS
    results = all_at_once(store, *append)
    assert sorted(map(str, results)) == ["False"] * (THREADS - 1) + ["True"]
    with store.read() as tx:
        assert len(curves.logs(tx, job.id)) == 1


def test_a_name_that_many_want_is_given_once(store: Store) -> None:
    results = all_at_once(store, *[lambda tx: datasets.create(tx, PROJECT, "digits")] * THREADS)
    assert errors(results) == [AlreadyExists] * (THREADS - 1)


def test_a_line_that_many_ensure_is_one(store: Store) -> None:
    results = all_at_once(store, *[lambda tx: models.ensure(tx, PROJECT, "digits")] * THREADS)
    assert errors(results) == []
    assert len({one.id for one in results if not isinstance(one, ModelryError)}) == 1


def test_versions_added_at_once_get_a_number_each(store: Store) -> None:
    with store.write() as tx:
        datasets.ensure(tx, PROJECT, "digits")

    def add(number: int) -> Callable[[Transaction], int]:
        files = [FileRef(path="a", digest="d", size_bytes=1)]
        manifest = {"fingerprint": f"f{number // 2}"}  # each content comes twice
        return lambda tx: datasets.add_version(tx, PROJECT, "digits", manifest, files, None).version

    results = all_at_once(store, *[add(number) for number in range(THREADS)])
    assert errors(results) == []
    assert sorted(map(str, results)) == sorted([str(1 + n // 2) for n in range(THREADS)])


def test_a_job_that_publishes_twice_at_once_makes_one_version(store: Store) -> None:
    with store.write() as tx:
        models.ensure(tx, PROJECT, "digits")
    results = all_at_once(
        store,
        *[lambda tx: models.add_version(tx, PROJECT, "digits", {}, [], "job_1", None).version]
        * THREADS,
    )
    assert results == [1] * THREADS


def test_versions_published_at_once_get_a_number_each(store: Store) -> None:
    def publish(number: int) -> Callable[[Transaction], int]:
        return lambda tx: model_version(tx, job_id=f"job_{number}").version

    results = all_at_once(store, *[publish(number) for number in range(THREADS)])
    assert sorted(map(str, results)) == [str(1 + number) for number in range(THREADS)]


def test_what_a_new_job_reads_is_not_deleted_under_it(store: Store) -> None:
    for number in range(5):
        name = f"digits{number}"
        with store.write() as tx:
            datasets.ensure(tx, PROJECT, name)
            version = datasets.add_version(tx, PROJECT, name, {"fingerprint": "f"}, [], None)

        def begin(tx: Transaction, source: str = version.id) -> None:
            new_job(tx, inputs={"data": source})

        def delete(tx: Transaction, name: str = name) -> None:
            datasets.delete(tx, PROJECT, name)

        assert errors(all_at_once(store, begin, delete)) in ([InUse], [NotFound])
        with store.write() as tx:
            for job in jobs.list_unfinished(tx):
                assert datasets.get_version_by_id(tx, job.inputs["data"])
                jobs.set_state(tx, job.id, JobState.CANCELLED)


def test_what_is_being_deployed_is_not_deleted_under_it(store: Store) -> None:
    for number in range(5):
        name = f"digits{number}"
        with store.write() as tx:
            version = model_version(tx, name)

        def deploy(tx: Transaction, version: ModelVersion = version, name: str = name) -> None:
            deployment(tx, version, name)

        def delete(tx: Transaction, name: str = name) -> None:
            models.delete(tx, PROJECT, name)

        assert errors(all_at_once(store, deploy, delete)) in ([InUse], [NotFound])
    with store.read() as tx:
        for one in deployments.list(tx, PROJECT):
            assert models.get_version_by_id(tx, one.model_version_id)


def test_a_version_that_gets_an_alias_is_not_deleted_under_it(store: Store) -> None:
    for number in range(5):
        name = f"digits{number}"
        with store.write() as tx:
            model_version(tx, name)

        def point(tx: Transaction, name: str = name) -> None:
            models.set_alias(tx, PROJECT, name, "production", 1)

        def delete(tx: Transaction, name: str = name) -> None:
            models.delete_version(tx, PROJECT, name, 1)

        assert errors(all_at_once(store, point, delete)) in ([InUse], [NotFound])


def test_a_project_is_not_deleted_under_what_is_being_made_in_it(store: Store) -> None:
    for number in range(5):
        name = f"tenant{number}"
        with store.write() as tx:
            projects.create(tx, name)

        def begin(tx: Transaction, name: str = name) -> None:
            new_job(tx, project=name)

        def delete(tx: Transaction, name: str = name) -> None:
            projects.delete(tx, name)

        assert errors(all_at_once(store, begin, delete)) in ([InUse], [NotFound])


def test_every_change_of_routes_is_counted(store: Store) -> None:
    def change(number: int) -> Callable[[Transaction], None]:
        def act(tx: Transaction) -> None:
            version = model_version(tx, f"model{number}")
            deployment(tx, version, f"deployment{number}")

        return act

    results = all_at_once(store, *[change(number) for number in range(THREADS)])
    assert not any(isinstance(one, Conflict) for one in results)
    with store.read() as tx:
        assert routes.number(tx) == THREADS
