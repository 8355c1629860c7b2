"""Files are replaced at once or not at all, and locks end with their holder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelry.core.durable import is_locked, make_private, take_lock, write_durably
from modelry.core.errors import StartRefused


def test_a_write_replaces_the_whole_content_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "outcome.json"
    write_durably(path, b"a long first content")
    write_durably(path, b"second")
    assert path.read_bytes() == b"second"
    assert [entry.name for entry in tmp_path.iterdir()] == ["outcome.json"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_write_that_fails_leaves_the_old_content_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "outcome.json"
    write_durably(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_lock_has_one_holder_and_ends_with_its_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    holder = take_lock(path)
    assert holder is not None
    assert is_locked(path)
    assert take_lock(path) is None
    os.close(holder)
    assert not is_locked(path)


def test_a_lock_that_was_inherited_lives_as_long_as_the_heir(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = take_lock(path)
    assert holder is not None
    heir = os.dup(holder)
    os.close(holder)
    assert is_locked(path)
    os.close(heir)
    assert not is_locked(path)


def test_asking_about_a_lock_does_not_take_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    assert not is_locked(path)
    holder = take_lock(path)
    assert holder is not None
    os.close(holder)


def test_a_private_folder_is_for_its_owner_alone_with_all_that_was_missing_above(
    tmp_path: Path,
) -> None:
    make_private(tmp_path / "a" / "b")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    (tmp_path / "a" / "b").chmod(0o755)
    make_private(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_place_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(StartRefused):
            make_private(tmp_path / name)
