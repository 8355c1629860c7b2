"""Uploads, data sets and models: immutable versions, and nothing goes while something stands on it."""

from __future__ import annotations

import math

import pytest

from modelry.core.errors import AlreadyExists, InUse, InvalidName, NotFound
from modelry.core.states import JobState, ReplicaState
from modelry.server.store import (
    Store,
    datasets,
    deployments,
    jobs,
    models,
    projects,
    references,
    uploads,
)
from tests.contract.store.rows import (
    PROJECT,
    dataset_version,
    deployment,
    file,
    job_in,
    model_version,
    new_job,
)


def test_an_upload_gathers_files_and_a_second_of_the_same_path_replaces(store: Store) -> None:
    with store.write() as tx:
        upload = uploads.create(tx, PROJECT, 60)
        assert upload.files == ()
        assert upload.expires_at == pytest.approx(upload.created_at + 60)
        uploads.add_file(tx, PROJECT, upload.id, file("七.png", "d1"))
        uploads.add_file(tx, PROJECT, upload.id, file("a/b.png", "d2", 2**40))
        uploads.add_file(tx, PROJECT, upload.id, file("七.png", "d3"))
        expected = (file("a/b.png", "d2", 2**40), file("七.png", "d3"))
        assert uploads.get(tx, PROJECT, upload.id).files == expected
        assert [one.id for one in uploads.list(tx, PROJECT)] == [upload.id]


def test_an_upload_of_another_project_does_not_exist(store: Store) -> None:
    with store.write() as tx:
        projects.create(tx, "other")
        upload = uploads.create(tx, "other", 60)
        with pytest.raises(NotFound):
            uploads.get(tx, PROJECT, upload.id)
        with pytest.raises(NotFound):
            uploads.add_file(tx, PROJECT, upload.id, file())
        uploads.delete(tx, PROJECT, upload.id)
        assert uploads.get(tx, "other", upload.id) == upload


def test_an_upload_stays_while_an_import_reads_it(store: Store) -> None:
    with store.write() as tx:
        upload = uploads.create(tx, PROJECT, -1)
        idle = uploads.create(tx, PROJECT, -1)
        fresh = uploads.create(tx, PROJECT, 60)
        job = new_job(tx, kind="import-data", makes="digits", inputs={"upload": upload.id})
    with pytest.raises(InUse, match=job.id), store.write() as tx:
        uploads.delete(tx, PROJECT, upload.id)
    with store.write() as tx:
        assert uploads.delete_expired(tx) == 1
        assert {one.id for one in uploads.list(tx, PROJECT)} == {upload.id, fresh.id}
        assert idle.id != upload.id
        jobs.set_state(tx, job.id, JobState.CANCELLED)
        assert uploads.delete_expired(tx) == 1
        uploads.delete(tx, PROJECT, upload.id)
        assert jobs.get_by_id(tx, job.id).inputs == {"upload": upload.id}


def test_versions_are_numbered_and_the_newest_is_the_default(store: Store) -> None:
    with store.write() as tx:
        one = dataset_version(tx, fingerprint="f1")
        two = dataset_version(tx, fingerprint="f2")
        assert (one.version, two.version) == (1, 2)
        assert datasets.get_version(tx, PROJECT, "digits") == two
        assert datasets.get_version(tx, PROJECT, "digits", 1) == one
        assert datasets.get_version_by_id(tx, one.id) == one
        assert datasets.list_versions(tx, PROJECT, "digits") == [two, one]
        assert datasets.get(tx, PROJECT, "digits").latest_version == 2


def test_the_same_content_is_the_same_version(store: Store) -> None:
    with store.write() as tx:
        one = dataset_version(tx, fingerprint="f1")
        dataset_version(tx, fingerprint="f2")
        assert dataset_version(tx, fingerprint="f1") == one
        assert len(datasets.list_versions(tx, PROJECT, "digits")) == 2
        assert dataset_version(tx, "others", fingerprint="f1").id != one.id


def test_a_deleted_versions_number_is_never_given_again(store: Store) -> None:
    with store.write() as tx:
        dataset_version(tx, fingerprint="f1")
        dataset_version(tx, fingerprint="f2")
        datasets.delete_version(tx, PROJECT, "digits", 2)
        assert datasets.get(tx, PROJECT, "digits").latest_version == 1
        assert dataset_version(tx, fingerprint="f3").version == 3


def test_a_data_set_whose_import_still_runs_has_no_version(store: Store) -> None:
    with store.write() as tx:
        made = datasets.create(tx, PROJECT, "soon")
        assert made.latest_version == 0
        assert datasets.ensure(tx, PROJECT, "soon") == made
        with pytest.raises(AlreadyExists, match="dataset 'soon'"):
            datasets.create(tx, PROJECT, "soon")
        with pytest.raises(NotFound, match="no version"):
            datasets.get_version(tx, PROJECT, "soon")


@pytest.mark.parametrize("state", [state for state in JobState if not state.is_final])
def test_a_data_set_stays_while_an_unfinished_job_reads_or_makes_it(
    store: Store, state: JobState
) -> None:
    with store.write() as tx:
        read = dataset_version(tx, "read")
        datasets.ensure(tx, PROJECT, "made")
        reader = job_in(tx, state, kind="train", makes="made", inputs={"data": read.id})
        maker = job_in(tx, state, kind="import-data", makes="made")
    for name, user in (("read", reader), ("made", maker)):
        with pytest.raises(InUse, match=user.id) as caught, store.write() as tx:
            datasets.delete(tx, PROJECT, name)
        assert state.value in caught.value.message
    with pytest.raises(InUse, match=reader.id), store.write() as tx:
        datasets.delete_version(tx, PROJECT, "read", 1)


def test_a_data_set_goes_once_its_jobs_are_finished_and_lineage_stays(store: Store) -> None:
    with store.write() as tx:
        version = dataset_version(tx)
        inputs = {"data": version.id}
        job = job_in(tx, JobState.SUCCEEDED, kind="train", makes="net", inputs=inputs)
        models.ensure(tx, PROJECT, "net")
        made = models.add_version(tx, PROJECT, "net", {}, [], job.id, version.id)
        datasets.delete(tx, PROJECT, "digits")
        with pytest.raises(NotFound, match="dataset 'digits'"):
            datasets.get(tx, PROJECT, "digits")
        with pytest.raises(NotFound):
            datasets.get_version_by_id(tx, version.id)
        jobs.delete(tx, PROJECT, job.id)
        kept = models.get_version_by_id(tx, made.id)
        assert (kept.dataset_version_id, kept.job_id) == (version.id, job.id)


def test_a_job_cannot_read_what_is_not_in_its_project(store: Store) -> None:
    with store.write() as tx:
        projects.create(tx, "other")
        version = dataset_version(tx, project="other")
        for source in (version.id, "dsv_nothing"):
            with pytest.raises(NotFound, match="input"):
                new_job(tx, inputs={"data": source})


def test_manifests_come_back_as_they_were(store: Store) -> None:
    manifest = {"fingerprint": "f", "labels": ["七", "\x00", "a'b"], "mean": math.nan, "n": 2**60}
    with store.write() as tx:
        datasets.ensure(tx, PROJECT, "手写数字")
        datasets.add_version(tx, PROJECT, "手写数字", manifest, [file("七.png")], "job_1")
    with store.read() as tx:
        version = datasets.get_version(tx, PROJECT, "手写数字")
    assert version.manifest == {**manifest, "mean": None}
    assert version.files == (file("七.png"),)
    assert (version.dataset, version.job_id, version.size_bytes) == ("手写数字", "job_1", 3)


def test_a_job_that_publishes_twice_makes_one_version(store: Store) -> None:
    with store.write() as tx:
        one = model_version(tx, job_id="job_1")
        assert model_version(tx, job_id="job_1") == one
        assert model_version(tx, job_id="job_2").version == 2
        assert model_version(tx).version == 3
        assert model_version(tx).version == 4


def test_a_model_version_is_found_by_number_alias_or_as_the_newest(store: Store) -> None:
    with store.write() as tx:
        one, two = model_version(tx), model_version(tx)
        models.set_alias(tx, PROJECT, "digits", "production", 1)
        one = models.get_version_by_id(tx, one.id)
        assert one.aliases == ("production",)
        assert models.get_version(tx, PROJECT, "digits", "production") == one
        assert models.get_version(tx, PROJECT, "digits", 1) == one
        assert models.get_version(tx, PROJECT, "digits") == two
        assert models.list_versions(tx, PROJECT, "digits") == [two, one]
        for missing in (3, "staging"):
            with pytest.raises(NotFound, match=str(missing)):
                models.get_version(tx, PROJECT, "digits", missing)


def test_an_alias_moves_and_goes(store: Store) -> None:
    with store.write() as tx:
        model_version(tx)
        model_version(tx)
        models.set_alias(tx, PROJECT, "digits", "production", 1)
        models.set_alias(tx, PROJECT, "digits", "next", 2)
        models.set_alias(tx, PROJECT, "digits", "production", 2)
        assert models.get(tx, PROJECT, "digits").aliases == {"next": 2, "production": 2}
        assert models.list(tx, PROJECT)[0].aliases == {"next": 2, "production": 2}
        models.delete_alias(tx, PROJECT, "digits", "next")
        assert models.get(tx, PROJECT, "digits").aliases == {"production": 2}
        with pytest.raises(NotFound, match="digits@next"):
            models.delete_alias(tx, PROJECT, "digits", "next")


@pytest.mark.parametrize("alias", ["latest", "3", "a b", ""])
def test_an_alias_is_never_a_number_or_latest(store: Store, alias: str) -> None:
    with store.write() as tx:
        model_version(tx)
        with pytest.raises(InvalidName):
            models.set_alias(tx, PROJECT, "digits", alias, 1)


def test_a_model_stays_while_it_is_deployed_or_made(store: Store) -> None:
    with store.write() as tx:
        deployment(tx, model_version(tx), "seven")
        job = new_job(tx, kind="train", makes="digits")
    with pytest.raises(InUse, match="deployment 'seven'") as caught, store.write() as tx:
        models.delete(tx, PROJECT, "digits")
    assert job.id in caught.value.message


def test_a_version_stays_while_it_is_wished_served_or_named(store: Store) -> None:
    with store.write() as tx:
        one, two = model_version(tx), model_version(tx)
        wished = deployment(tx, one, "seven")
        replica = deployments.create_replica(tx, wished.id, one.id)
        deployments.update(tx, PROJECT, "seven", model_version_id=two.id)
        models.set_alias(tx, PROJECT, "digits", "production", 1)
    for version, user in ((2, "deployment 'seven'"), (1, "alias 'production'")):
        with pytest.raises(InUse, match=user), store.write() as tx:
            models.delete_version(tx, PROJECT, "digits", version)
    with store.write() as tx:
        models.delete_alias(tx, PROJECT, "digits", "production")
    with pytest.raises(InUse, match="deployment 'seven'"), store.write() as tx:
        models.delete_version(tx, PROJECT, "digits", 1)
    with store.write() as tx:
        deployments.set_replica_state(tx, replica.id, ReplicaState.STOPPED)
        models.delete_version(tx, PROJECT, "digits", 1)
        assert [one.version for one in models.list_versions(tx, PROJECT, "digits")] == [2]


def test_everything_a_row_names_is_referenced_and_nothing_else(store: Store) -> None:
    with store.write() as tx:
        dataset_version(tx, fingerprint="of the data")
        models.ensure(tx, PROJECT, "net")
        models.add_version(tx, PROJECT, "net", {}, [file(digest="of the model")], None, None)
        upload = uploads.create(tx, PROJECT, 60)
        uploads.add_file(tx, PROJECT, upload.id, file(digest="of the upload"))
        assert references.digests(tx) == {"of the data", "of the model", "of the upload"}
        assert references.oldest_unfinished(tx) is None
        uploads.delete(tx, PROJECT, upload.id)
        models.delete(tx, PROJECT, "net")
        datasets.delete(tx, PROJECT, "digits")
        assert references.digests(tx) == set()


def test_a_data_set_without_a_version_goes_with_the_last_job_that_would_make_it(
    store: Store,
) -> None:
    with store.write() as tx:
        datasets.create(tx, "default", "nothing")
        job = jobs.create(
            tx,
            project="default",
            kind="import-data",
            makes="nothing",
            params={},
            inputs={},
            threads=1,
            memory_limit_bytes=None,
            time_limit_s=None,
        )
        assert not datasets.delete_empty(tx, "default", "nothing")
        jobs.set_state(tx, job.id, JobState.CANCELLED)
        assert datasets.delete_empty(tx, "default", "nothing")
        assert not datasets.delete_empty(tx, "default", "nothing")
        assert datasets.list(tx, "default") == []
