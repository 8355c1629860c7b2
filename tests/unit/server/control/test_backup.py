"""A backup brings everything back, in another place too; a bad one changes nothing."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from modelry.artifacts import Artifacts
from modelry.core.durable import take_lock
from modelry.core.errors import AlreadyRunning, FormatTooNew, InvalidData, InvalidRequest
from modelry.core.settings import Settings
from modelry.server.control import access
from modelry.server.control.backup import create_backup, restore_backup
from modelry.server.store import Store, datasets, models
from tests.unit.server.api.nouns import add_dataset, add_model


def quiet(done: int, total: int) -> None:
    assert done <= total


def new_home(folder: Path) -> Settings:
    """A home with a data set, a model, keys, and content that nothing names."""
    folder.mkdir()
    settings = Settings(home=folder)
    store = Store(settings.database_address)
    store.migrate(None)
    access.ensure_admin_key(store, settings)
    artifacts = Artifacts(settings.artifacts_address)
    add_dataset(store, artifacts, "default", "digits")
    add_model(store, artifacts, "default", "digits")
    artifacts.put_bytes(b"nothing names this", "x")
    store.close()
    return settings


def names_in(settings: Settings) -> tuple[list[str], list[str]]:
    store = Store(settings.database_address)
    try:
        with store.read() as tx:
            return (
                [one.name for one in datasets.list(tx, "default")],
                [one.name for one in models.list(tx, "default")],
            )
    finally:
        store.close()


def test_another_home_becomes_the_same_service(tmp_path: Path) -> None:
    old = new_home(tmp_path / "old")
    file = tmp_path / "backup.tar"
    made = create_backup(old, file, quiet)
    assert made.blobs == 2
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    new = Settings(home=tmp_path / "new")
    restore_backup(new, file, quiet)
    assert names_in(new) == (["digits"], ["digits"])
    for path in ("secret", "admin.key"):
        assert (new.home / path).read_bytes() == (old.home / path).read_bytes()
        assert stat.S_IMODE((new.home / path).stat().st_mode) == 0o600
    artifacts = Artifacts(new.artifacts_address)
    assert artifacts.usage()[0] == 2
    store = Store(new.database_address)
    with store.read() as tx:
        version = models.get_version(tx, "default", "digits")
    assert artifacts.read_bytes(version.files[0].digest) == b"weights of default/digits"
    assert access.ensure_admin_key(store, new).read_bytes() == (old.home / "admin.key").read_bytes()
    assert len(access.list_keys(store)) == 1
    store.close()
    assert [path.name for path in new.home.iterdir() if path.name.startswith(".")] == []


def test_what_was_there_is_put_aside_and_not_deleted(tmp_path: Path) -> None:
    settings = new_home(tmp_path / "home")
    file = tmp_path / "backup.tar"
    create_backup(settings, file, quiet)
    store = Store(settings.database_address)
    add_dataset(store, Artifacts(settings.artifacts_address), "default", "later")
    store.close()
    settings.places.run.mkdir()
    (settings.places.run / "epoch").write_text("7")
    restore_backup(settings, file, quiet)
    assert names_in(settings)[0] == ["digits"]
    assert not settings.places.run.exists()
    (aside,) = settings.home.glob("before-restore-*")
    assert (aside / "run" / "epoch").read_text() == "7"
    assert names_in(Settings(home=aside))[0] == ["digits", "later"]


def test_nothing_is_restored_under_a_living_service(tmp_path: Path) -> None:
    settings = new_home(tmp_path / "home")
    file = tmp_path / "backup.tar"
    lock = take_lock(settings.places.service_lock)
    assert lock is not None
    create_backup(settings, file, quiet)
    with pytest.raises(AlreadyRunning):
        restore_backup(settings, file, quiet)
    os.close(lock)
    restore_backup(settings, file, quiet)


def broken(tmp_path: Path, **entries: bytes | None) -> Path:
    """A good backup with some entries replaced, added or (None) left out."""
    good = tmp_path / "good.tar"
    create_backup(new_home(tmp_path / "old"), good, quiet)
    bad = tmp_path / "bad.tar"
    with tarfile.open(good) as source, tarfile.open(bad, "w") as target:
        contents = {entry.name: source.extractfile(entry).read() for entry in source}  # type: ignore[union-attr]
        for name, data in {**contents, **entries}.items():
            if data is not None:
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                target.addfile(entry, io.BytesIO(data))
    return bad


MANIFEST = b'{"format_version": %d, "modelry": "x", "created_at": 1, "blobs": %d}'


@pytest.mark.parametrize(
    "entries",
    [
        {"../outside": b"x"},
        {"/etc/passwd": b"x"},
        {"blobs/" + "0" * 64: b"not this content", "manifest.json": MANIFEST % (1, 3)},
        {"modelry.db": None},
        {"manifest.json": MANIFEST % (1, 7)},
        {"manifest.json": b"{"},
        {"manifest.json": None},
    ],
)
def test_a_damaged_backup_is_refused_and_changes_nothing(
    tmp_path: Path, entries: dict[str, bytes | None]
) -> None:
    bad = broken(tmp_path, **entries)
    home = new_home(tmp_path / "home")
    key = home.places.admin_key.read_bytes()
    with pytest.raises(InvalidData):
        restore_backup(home, bad, quiet)
    assert names_in(home) == (["digits"], ["digits"])
    assert home.places.admin_key.read_bytes() == key
    assert not (tmp_path / "outside").exists()
    assert [path.name for path in home.home.iterdir() if path.name.startswith(".")] == []


def test_half_a_backup_is_refused(tmp_path: Path) -> None:
    whole = broken(tmp_path).read_bytes()
    half = tmp_path / "half.tar"
    for size in (1000, len(whole) // 2, len(whole) // 2 + 512 * 3 + 7):
        half.write_bytes(whole[:size])
        with pytest.raises(InvalidData):
            restore_backup(Settings(home=tmp_path / "new"), half, quiet)


def test_a_link_in_a_backup_is_refused(tmp_path: Path) -> None:
    bad = broken(tmp_path)
    with tarfile.open(bad, "a") as tar:
        link = tarfile.TarInfo("secret")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(InvalidData):
        restore_backup(Settings(home=tmp_path / "new"), bad, quiet)


def test_a_backup_of_a_later_version_is_refused(tmp_path: Path) -> None:
    bad = broken(tmp_path, **{"manifest.json": MANIFEST % (2, 2)})
    with pytest.raises(FormatTooNew):
        restore_backup(Settings(home=tmp_path / "new"), bad, quiet)


@pytest.mark.parametrize("content", [None, b"", b"no tar at all" * 100])
def test_what_is_no_backup_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidData):
        restore_backup(Settings(home=tmp_path / "new"), file, quiet)


def test_only_a_local_home_is_backed_up(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, artifacts="s3://bucket/blobs")
    with pytest.raises(InvalidRequest):
        create_backup(settings, tmp_path / "x.tar", quiet)


def test_the_command_says_what_it_did_and_what_was_wrong(tmp_path: Path) -> None:
    settings = new_home(tmp_path / "home")
    clean = {name: text for name, text in os.environ.items() if not name.startswith("MODELRY_")}
    environment = {**clean, **settings.environment()}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "modelry.server.control.backup", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    file = str(tmp_path / "backup.tar")
    assert "2 pieces of content" in run("create", file).stdout
    assert run("restore", file).returncode == 0
    failed = run("restore", str(tmp_path / "none.tar"))
    assert failed.returncode == 1
    assert failed.stderr.startswith("Error: ")
    assert "Traceback" not in failed.stderr
