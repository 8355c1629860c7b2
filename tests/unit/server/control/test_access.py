"""Keys: the first one is never lost and never made behind a person's back; rights are what the rules allow."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

import pytest

from modelry.core.errors import InvalidParameter, InvalidRequest, NotFound, StartRefused
from modelry.core.keys import key_hmac, parse_key
from modelry.core.settings import Settings
from modelry.server.control import access
from modelry.server.control.access import ensure_admin_key, load_pepper
from modelry.server.store import Store, keys


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def store(settings: Settings) -> Store:
    settings.home.mkdir(mode=0o700)
    store = Store(settings.database_address)
    store.migrate(None)
    return store


PEPPER = b"p" * access.SECRET_BYTES


def opens(store: Store, settings: Settings, text: str) -> bool:
    """Whether a key's text is one of the living keys."""
    key = parse_key(text)
    assert key is not None
    with store.read() as tx:
        living = {row.key.id: row.secret_hmac for row in keys.list_living(tx)}
    return living.get(key.id) == key_hmac(load_pepper(settings), key)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_start_writes_a_key_that_only_the_owner_can_read(
    store: Store, settings: Settings
) -> None:
    path = ensure_admin_key(store, settings)
    assert path == settings.places.admin_key
    assert opens(store, settings, path.read_text())
    assert mode_of(path) == 0o600
    assert mode_of(settings.places.secret) == 0o600
    assert len(settings.places.secret.read_bytes()) == access.SECRET_BYTES
    (row,) = access.list_keys(store)
    assert (row.label, row.project, row.scopes) == ("admin", None, ("admin",))
    assert [file.name for file in settings.home.iterdir() if file.name.startswith(".")] == []


def test_a_second_start_changes_nothing(store: Store, settings: Settings) -> None:
    text = ensure_admin_key(store, settings).read_text()
    assert ensure_admin_key(store, settings).read_text() == text
    assert len(access.list_keys(store)) == 1


def test_a_crash_between_file_and_row_loses_no_key(store: Store, settings: Settings) -> None:
    text = ensure_admin_key(store, settings).read_text()
    with store.write() as tx:
        for key in keys.list(tx):
            keys.delete(tx, key.id)
    assert ensure_admin_key(store, settings).read_text() == text
    assert opens(store, settings, text)


def test_a_file_removed_on_purpose_is_not_made_anew_while_an_admin_key_lives(
    store: Store, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    ensure_admin_key(store, settings).unlink()
    with caplog.at_level(logging.WARNING):
        assert not ensure_admin_key(store, settings).exists()
    assert "is gone" in caplog.text


def test_without_any_living_admin_key_a_new_one_is_made(store: Store, settings: Settings) -> None:
    old = ensure_admin_key(store, settings).read_text()
    (row,) = access.list_keys(store)
    access.revoke_key(store, row.id)
    new = ensure_admin_key(store, settings).read_text()
    assert new != old
    assert opens(store, settings, new)
    assert not opens(store, settings, old)


def test_with_a_lost_secret_comes_a_new_admin_key(
    store: Store, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    old = ensure_admin_key(store, settings).read_text()
    settings.places.secret.unlink()
    with pytest.raises(StartRefused):
        load_pepper(settings)
    new = ensure_admin_key(store, settings).read_text()
    assert new != old
    assert opens(store, settings, new)
    assert "do not work any more" in caplog.text


def test_a_key_of_a_project_is_no_reason_not_to_make_an_admin_key(
    store: Store, settings: Settings
) -> None:
    settings.places.secret.write_bytes(PEPPER)
    access.create_key(store, PEPPER, label="ci", scopes=("train",), project="default")
    assert opens(store, settings, ensure_admin_key(store, settings).read_text())


def test_the_text_of_a_key_is_not_in_the_database(store: Store, settings: Settings) -> None:
    _, text = access.create_key(store, PEPPER, label="ci", scopes=("read",), project="default")
    store.close()
    key = parse_key(text)
    assert key is not None
    for file in settings.home.glob("modelry.db*"):
        assert key.secret.encode() not in file.read_bytes()


def test_scopes_are_kept_once_and_in_their_order(store: Store) -> None:
    made, _ = access.create_key(
        store, b"p", label=" ci ", scopes=("infer", "train", "infer"), project="default"
    )
    assert made.scopes == ("train", "infer")
    assert made.label == "ci"


@pytest.mark.parametrize("scopes", [(), ("fly",), ("read", "fly")])
def test_unknown_or_no_scopes_are_refused(store: Store, scopes: tuple[str, ...]) -> None:
    with pytest.raises(InvalidParameter):
        access.create_key(store, b"p", label="ci", scopes=scopes, project="default")


@pytest.mark.parametrize(("scopes", "project"), [(("read",), None), (("admin",), "default")])
def test_only_admin_keys_and_all_of_them_reach_every_project(
    store: Store, scopes: tuple[str, ...], project: str | None
) -> None:
    with pytest.raises(InvalidRequest):
        access.create_key(store, b"p", label="ci", scopes=scopes, project=project)


def test_a_key_of_no_project_that_exists_is_refused(store: Store) -> None:
    with pytest.raises(NotFound):
        access.create_key(store, b"p", label="ci", scopes=("read",), project="nowhere")


@pytest.mark.parametrize("label", ["", "  ", "x" * 101, "a\nb"])
def test_a_label_is_a_short_line(store: Store, label: str) -> None:
    with pytest.raises(InvalidParameter):
        access.create_key(store, b"p", label=label, scopes=("read",), project="default")


@pytest.mark.parametrize("span_s", [0, -1, 1e12, float("nan")])
def test_a_life_has_bounds(store: Store, span_s: float) -> None:
    with pytest.raises(InvalidParameter):
        access.create_key(
            store, b"p", label="ci", scopes=("read",), project="default", expires_in_s=span_s
        )


def test_rotation_keeps_the_rights_and_ends_the_old_key(store: Store, settings: Settings) -> None:
    settings.places.secret.write_bytes(PEPPER)
    old, old_text = access.create_key(
        store, PEPPER, label="ci", scopes=("train", "read"), project="default", expires_in_s=600
    )
    new, new_text = access.rotate_key(store, PEPPER, old.id, 0)
    assert (new.label, new.scopes, new.project) == (old.label, old.scopes, old.project)
    assert new.expires_at == old.expires_at
    assert opens(store, settings, new_text)
    assert not opens(store, settings, old_text)


def test_with_an_overlap_both_keys_work_for_a_while(store: Store, settings: Settings) -> None:
    settings.places.secret.write_bytes(PEPPER)
    old, old_text = access.create_key(
        store, PEPPER, label="ci", scopes=("read",), project="default"
    )
    _, new_text = access.rotate_key(store, PEPPER, old.id, 60)
    assert opens(store, settings, old_text)
    assert opens(store, settings, new_text)
    with store.read() as tx:
        expires_at = keys.get(tx, old.id).expires_at
        assert expires_at is not None
        assert tx.now() < expires_at <= tx.now() + 60


def test_an_overlap_never_lengthens_a_life(store: Store) -> None:
    old, _ = access.create_key(
        store, b"p", label="ci", scopes=("read",), project="default", expires_in_s=5
    )
    access.rotate_key(store, b"p", old.id, 600)
    with store.read() as tx:
        assert keys.get(tx, old.id).expires_at == old.expires_at


def test_a_dead_key_cannot_be_rotated_into_life(store: Store) -> None:
    old, _ = access.create_key(store, b"p", label="ci", scopes=("read",), project="default")
    access.revoke_key(store, old.id)
    with pytest.raises(NotFound):
        access.rotate_key(store, b"p", old.id, 0)
