"""Projects and keys."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pytest

from modelry.core.errors import AlreadyExists, InUse, InvalidName, NotFound
from modelry.core.records import Key
from modelry.server.store import Store, Transaction, datasets, keys, projects, routes, uploads
from tests.contract.store.rows import PROJECT, dataset_version, deployment, model_version, new_job


def new_key(
    tx: Transaction, id: str = "k1", project: str | None = PROJECT, expires_at: float | None = None
) -> Key:
    return keys.create(
        tx,
        id=id,
        label=f"label of {id}",
        project=project,
        scopes=("infer", "read"),
        secret_hmac=b"\x00\xffhmac",
        expires_at=expires_at,
    )


def test_a_project_is_found_by_its_name_in_every_way_to_write_it(store: Store) -> None:
    name = "Café-手写"
    with store.write() as tx:
        made = projects.create(tx, unicodedata.normalize("NFD", name))
        assert projects.get(tx, unicodedata.normalize("NFC", name)) == made
        assert projects.get(tx, unicodedata.normalize("NFD", name)) == made
        with pytest.raises(AlreadyExists):
            projects.create(tx, name)


def test_a_bad_name_is_refused(store: Store) -> None:
    with store.write() as tx, pytest.raises(InvalidName):
        projects.create(tx, "../up")


def test_an_unknown_project_is_not_found(store: Store) -> None:
    with store.read() as tx:
        assert projects.find(tx, "nowhere") is None
        with pytest.raises(NotFound, match="project 'nowhere'"):
            projects.get(tx, "nowhere")
        with pytest.raises(NotFound, match="project 'nowhere'"):
            datasets.list(tx, "nowhere")


def test_a_project_with_anything_in_it_stays_and_says_what_it_holds(store: Store) -> None:
    with store.write() as tx:
        projects.create(tx, "full")
        version = model_version(tx, "net", project="full")
        dataset_version(tx, "rows", project="full")
        job = new_job(tx, project="full")
        upload = uploads.create(tx, "full", 60)
        new_key(tx, project="full")
        new_key(tx, "k2", project="full")
        keys.revoke(tx, "k2")
    with pytest.raises(InUse) as caught, store.write() as tx:
        projects.delete(tx, "full")
    for user in ("model 'net'", "dataset 'rows'", job.id, upload.id, "key 'label of k1'"):
        assert user in caught.value.message
    assert "label of k2" not in caught.value.message
    assert version.model == "net"


def test_an_empty_project_goes_with_its_ended_keys(store: Store) -> None:
    with store.write() as tx:
        projects.create(tx, "empty")
        new_key(tx, project="empty")
        keys.revoke(tx, "k1")
    with store.write() as tx:
        projects.delete(tx, "empty")
    with store.read() as tx:
        assert projects.find(tx, "empty") is None
        assert keys.list(tx) == []


def test_the_default_project_stays(store: Store) -> None:
    with store.write() as tx, pytest.raises(InUse):
        projects.delete(tx, "default")


def test_a_deployment_is_named_before_the_model_it_stands_on(store: Store) -> None:
    with store.write() as tx:
        deployment(tx, model_version(tx))
        projects.create(tx, "other")
        projects.delete(tx, "other")
        with pytest.raises(NotFound):
            projects.delete(tx, "other")


def test_a_key_comes_back_as_it_was_made(store: Store) -> None:
    with store.write() as tx:
        made = new_key(tx, expires_at=4e9)
    with store.read() as tx:
        assert keys.get(tx, "k1") == made
    assert made.project == PROJECT
    assert made.scopes == ("infer", "read")
    assert made.expires_at == 4e9
    assert made.revoked_at is None


def test_a_key_of_no_project_is_an_instance_key(store: Store) -> None:
    with store.write() as tx:
        new_key(tx, "inside")
        new_key(tx, "everywhere", project=None)
        assert keys.get(tx, "everywhere").project is None
        assert [key.id for key in keys.list(tx, PROJECT)] == ["inside"]
        assert {key.id for key in keys.list(tx)} == {"inside", "everywhere"}


def test_a_public_part_is_used_once(store: Store) -> None:
    with store.write() as tx:
        new_key(tx)
        with pytest.raises(AlreadyExists):
            new_key(tx)


def test_the_gateways_know_exactly_the_keys_that_open_something(store: Store) -> None:
    with store.write() as tx:
        new_key(tx, "living")
        new_key(tx, "revoked")
        new_key(tx, "expired", expires_at=tx.now() - 1)
        new_key(tx, "ending")
        keys.revoke(tx, "revoked")
        keys.expire(tx, "ending", tx.now() + 60)
    with store.read() as tx:
        known = routes.snapshot(tx).keys
    assert set(known) == {"living", "ending"}
    assert known["living"].secret_hmac == b"\x00\xffhmac"
    assert known["ending"].key.expires_at is not None


def test_every_change_of_a_key_reaches_the_gateways(store: Store) -> None:
    changes: list[Callable[[Transaction], object]] = [
        lambda tx: new_key(tx),
        lambda tx: keys.expire(tx, "k1", tx.now() + 60),
        lambda tx: keys.revoke(tx, "k1"),
        lambda tx: keys.delete(tx, "k1"),
    ]
    for expected, change in enumerate(changes, start=1):
        with store.write() as tx:
            change(tx)
        with store.read() as tx:
            assert routes.number(tx) == expected


def test_revoking_twice_keeps_the_first_moment(store: Store) -> None:
    with store.write() as tx:
        new_key(tx)
        keys.revoke(tx, "k1")
        first = keys.get(tx, "k1").revoked_at
    with store.write() as tx:
        keys.revoke(tx, "k1")
        assert keys.get(tx, "k1").revoked_at == first


def test_an_unknown_key_is_not_found(store: Store) -> None:
    with store.write() as tx:
        for act in (keys.get, keys.revoke, keys.delete):
            with pytest.raises(NotFound, match="key 'nokey'"):
                act(tx, "nokey")
        with pytest.raises(NotFound, match="key 'nokey'"):
            keys.expire(tx, "nokey", 1.0)
