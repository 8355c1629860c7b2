"""The sweep takes what nothing refers to, at any grace, and never what somebody is about to refer to."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from modelry.artifacts import Artifacts
from modelry.core.files import FileRef
from modelry.core.states import JobState
from modelry.server.control.garbage import collect
from modelry.server.control.uploads import Reception, create_upload, delete_upload
from modelry.server.store import Store, datasets, jobs
from tests.unit.server.api.nouns import add_dataset, add_model


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path / 'modelry.db'}")
    store.migrate(None)
    return store


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(str(tmp_path / "blobs"))


def add_job(store: Store) -> str:
    with store.write() as tx:
        return jobs.create(
            tx,
            project="default",
            kind="sleep",
            makes="",
            params={},
            inputs={},
            threads=1,
            memory_limit_bytes=None,
            time_limit_s=None,
        ).id


def age(artifacts: Artifacts, file: FileRef, by_s: float) -> None:
    """Makes a piece of content look older."""
    then = time.time() - by_s
    os.utime(artifacts.local_path(file.digest), (then, then))


def test_what_no_row_names_goes_and_what_one_names_stays(
    store: Store, artifacts: Artifacts
) -> None:
    orphan = artifacts.put_bytes(b"orphan", "x")
    kept = add_dataset(store, artifacts, "default", "digits").files
    kept += add_model(store, artifacts, "default", "digits").files
    swept = collect(store, artifacts, 0)
    assert (swept.removed, swept.freed_bytes, swept.kept) == (1, 6, 2)
    assert not artifacts.exists(orphan.digest)
    assert all(artifacts.exists(file.digest) for file in kept)


def test_what_is_younger_than_the_grace_stays(store: Store, artifacts: Artifacts) -> None:
    young, old = (artifacts.put_bytes(name, "x") for name in (b"young", b"old"))
    age(artifacts, old, 120)
    collect(store, artifacts, 60)
    assert artifacts.exists(young.digest)
    assert not artifacts.exists(old.digest)


def test_what_an_unfinished_job_may_still_name_stays_until_it_ends(
    store: Store, artifacts: Artifacts
) -> None:
    before = artifacts.put_bytes(b"before the job", "x")
    age(artifacts, before, 60)
    job_id = add_job(store)
    during = artifacts.put_bytes(b"during the job", "x")
    collect(store, artifacts, 0)
    assert artifacts.exists(during.digest)
    assert not artifacts.exists(before.digest)
    with store.write() as tx:
        jobs.set_state(tx, job_id, JobState.CANCELLED)
    collect(store, artifacts, 0)
    assert not artifacts.exists(during.digest)


def test_a_file_between_the_disk_and_its_row_stays(store: Store, artifacts: Artifacts) -> None:
    upload = create_upload(store, "default")
    reception = Reception(
        store, artifacts, project="default", upload_id=upload.id, path="a", limit_bytes=100
    )
    reception.write(b"content")
    writer = reception._writer
    file = writer.commit()
    collect(store, artifacts, 0)
    assert artifacts.exists(file.digest)
    delete_upload(store, "default", upload.id)
    collect(store, artifacts, 0)
    assert not artifacts.exists(file.digest)


def test_content_that_two_share_stays_until_the_last_has_gone(
    store: Store, artifacts: Artifacts
) -> None:
    first = add_dataset(store, artifacts, "default", "one")
    with store.write() as tx:
        datasets.ensure(tx, "default", "two")
        datasets.add_version(tx, "default", "two", first.manifest, first.files, None)
    for name, remains in (("one", True), ("two", False)):
        with store.write() as tx:
            datasets.delete(tx, "default", name)
        collect(store, artifacts, 0)
        assert artifacts.exists(first.files[0].digest) == remains
