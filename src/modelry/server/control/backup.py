"""The whole service as one file, and back: `python -m modelry.server.control.backup create|restore FILE`.

    manifest.json   format, version, time, what is inside
    secret          the key of all HMACs: without it no key of the database would work
    admin.key       if it is there
    modelry.db      the database as it was at one moment
    blobs/<sha256>  every piece of content that this database refers to

The file holds secrets and is readable by its owner only. It is made while the service runs, and restored while it
does not. Local homes only: another database or another artifact store has backups of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import msgspec

from modelry import __version__
from modelry.artifacts import Artifacts
from modelry.core.durable import sync_folder, take_lock
from modelry.core.errors import (
    AlreadyRunning,
    FormatTooNew,
    InvalidData,
    InvalidRequest,
    ModelryError,
)
from modelry.core.settings import Settings, load_settings
from modelry.server.store import Store, references

FORMAT = 1
_MANIFEST = "manifest.json"
_DATABASE = "modelry.db"
#: Small private files of the home, by their name in the backup.
_PRIVATE = ("secret", "admin.key")
_BLOB = re.compile(r"blobs/([0-9a-f]{64})")
_COPY_BYTES = 1 << 20

Progress = Callable[[int, int], None]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`manifest.json`."""

    format_version: int = FORMAT
    modelry: str
    created_at: float
    blobs: int


def create_backup(settings: Settings, file: Path, progress: Progress) -> Manifest:
    """Writes the backup; the file appears whole or not at all."""
    _check_local(settings)
    partial = file.with_name(f".{file.name}.partial")
    with tempfile.TemporaryDirectory(dir=settings.home, prefix=".backup-") as folder:
        database = Path(folder) / _DATABASE
        digests = _copy_database(settings, database)
        manifest = Manifest(modelry=__version__, created_at=time.time(), blobs=len(digests))
        try:
            with _open_private(partial) as target, tarfile.open(fileobj=target, mode="w") as tar:
                _add_bytes(tar, _MANIFEST, msgspec.json.encode(manifest))
                for name in _PRIVATE:
                    if (settings.home / name).exists():
                        _add_bytes(tar, name, (settings.home / name).read_bytes())
                tar.add(database, _DATABASE)
                _add_blobs(tar, Artifacts(settings.artifacts_address), digests, progress)
            _sync(partial)
            os.replace(partial, file)
        finally:
            partial.unlink(missing_ok=True)
    return manifest


def restore_backup(settings: Settings, file: Path, progress: Progress) -> Manifest:
    """Makes the home what it was; whatever database was there is kept in a folder beside the new one.

    Content comes first and the database last: stopped in between, the same restore goes on.
    """
    _check_local(settings)
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    artifacts = Artifacts(settings.artifacts_address)
    with (
        _owned(settings),
        tempfile.TemporaryDirectory(dir=settings.home, prefix=".restore-") as folder,
        _open_tar(file) as tar,
    ):
        try:
            manifest = _unpack(tar, file, Path(folder), artifacts, progress)
        except tarfile.TarError:
            raise _unusable(file, "the backup is not whole") from None
        _put_aside(settings)
        for name in (*_PRIVATE, _DATABASE):
            if (Path(folder) / name).exists():
                os.replace(Path(folder) / name, settings.home / name)
        sync_folder(settings.home)
    return manifest


def _check_local(settings: Settings) -> None:
    if settings.database_url or "://" in settings.artifacts_address:
        raise InvalidRequest(
            reason="a backup holds SQLite and a local folder, and this service uses something else",
            remedy="Use pg_dump or your storage's own backups, and keep the home's `secret` with them.",
        )


def _copy_database(settings: Settings, target: Path) -> list[str]:
    """Copies the database; answers with what that very copy refers to."""
    Store(settings.database_address).backup(target)
    copy = Store(f"sqlite:///{target}")
    try:
        with copy.read() as tx:
            return sorted(references.digests(tx))
    finally:
        copy.close()


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    entry.mode = 0o600
    tar.addfile(entry, io.BytesIO(data))


def _add_blobs(
    tar: tarfile.TarFile, artifacts: Artifacts, digests: list[str], progress: Progress
) -> None:
    for number, digest in enumerate(digests, start=1):
        tar.add(artifacts.local_path(digest), f"blobs/{digest}")
        progress(number, len(digests))


def _unpack(
    tar: tarfile.TarFile, file: Path, folder: Path, artifacts: Artifacts, progress: Progress
) -> Manifest:
    """Everything out of the backup, checked: content into the artifacts, the rest into `folder`."""
    manifest = _read_manifest(tar, file)
    blobs = 0
    while (entry := tar.next()) is not None:
        blob = _BLOB.fullmatch(entry.name)
        source = tar.extractfile(entry) if entry.isreg() else None
        if source is None or (blob is None and entry.name not in (*_PRIVATE, _DATABASE)):
            raise _unusable(file, f"'{entry.name}' does not belong in a backup")
        if blob is None:
            _save(source, folder / entry.name)
            continue
        _save_blob(artifacts, source, blob[1], file)
        blobs += 1
        progress(blobs, manifest.blobs)
    if blobs != manifest.blobs or not (folder / _DATABASE).exists():
        raise _unusable(file, "the backup is not whole")
    return manifest


def _read_manifest(tar: tarfile.TarFile, file: Path) -> Manifest:
    entry = tar.next()
    source = tar.extractfile(entry) if entry and entry.name == _MANIFEST else None
    if source is None:
        raise _unusable(file, "it is not a backup of Modelry")
    try:
        manifest = msgspec.json.decode(source.read(1 << 16), type=Manifest)
    except msgspec.MsgspecError:
        raise _unusable(file, "its manifest is not readable") from None
    if manifest.format_version > FORMAT:
        raise FormatTooNew(file=str(file), version=manifest.format_version, known=FORMAT)
    return manifest


def _save(source: IO[bytes], target: Path) -> None:
    with _open_private(target) as out:
        shutil.copyfileobj(source, out, _COPY_BYTES)
    _sync(target)


def _save_blob(artifacts: Artifacts, source: IO[bytes], digest: str, file: Path) -> None:
    if artifacts.exists(digest):
        return
    with artifacts.writer(digest) as writer:
        while chunk := source.read(_COPY_BYTES):
            writer.write(chunk)
        found = writer.commit()
    if found.digest != digest:
        raise _unusable(file, f"the content {digest} is damaged")


def _put_aside(settings: Settings) -> None:
    """Moves the old database out of the way, and what its workers left; nothing of it is deleted.

    An agent remembers the largest epoch it has seen and would refuse a restored, younger leader.
    """
    places = settings.places
    old = [*settings.home.glob(f"{_DATABASE}*"), places.secret, places.admin_key, places.run]
    old = [path for path in old if path.exists()]
    if not old:
        return
    aside = settings.home / time.strftime("before-restore-%Y%m%d-%H%M%S")
    aside.mkdir(mode=0o700)
    for path in old:
        os.replace(path, aside / path.name)


def _unusable(file: Path, reason: str) -> InvalidData:
    return InvalidData(
        file=str(file), reason=reason, remedy="Use another backup; the database was not touched."
    )


def _open_tar(file: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(file, "r:")
    except (tarfile.TarError, OSError) as error:
        raise _unusable(file, f"it cannot be read ({error})") from None


def _open_private(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    sync_folder(path.parent)


@contextlib.contextmanager
def _owned(settings: Settings) -> Iterator[None]:
    """The home for this process alone; raises `AlreadyRunning` while a service lives on it."""
    lock = settings.places.service_lock
    descriptor = take_lock(lock)
    if descriptor is None:
        raise AlreadyRunning(
            home=settings.home,
            pid=lock.read_text().strip() or "unknown",
            remedy="Stop it first with `modelry down`.",
        )
    try:
        yield
    finally:
        os.close(descriptor)


def main() -> int:
    """The settings come from the environment, as for every process of the service."""
    parser = argparse.ArgumentParser(prog="modelry backup|restore", description=__doc__)
    parser.add_argument("what", choices=("create", "restore"))
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    act = create_backup if given.what == "create" else restore_backup
    try:
        manifest = act(load_settings(), given.file.absolute(), _show)
    except ModelryError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(f"{given.file}: database and {manifest.blobs} pieces of content")
    return 0


def _show(done: int, total: int) -> None:
    if done == total or done % 100 == 0:
        print(
            f"\r{done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True
        )


if __name__ == "__main__":
    raise SystemExit(main())
