"""Uploads: files that stream into the artifacts, to become a data set or a model."""

from __future__ import annotations

from modelry.artifacts import Artifacts
from modelry.core.errors import BodyTooLarge, InUse, InvalidParameter
from modelry.core.files import FileRef, safe_path
from modelry.core.records import Upload
from modelry.server.store import Store, Transaction, jobs, uploads

#: An upload that became nothing for a day is removed.
UPLOAD_TTL_S = 86400.0


def create_upload(store: Store, project: str) -> Upload:
    """A new, empty upload."""
    with store.write() as tx:
        return uploads.create(tx, project, UPLOAD_TTL_S)


def get_upload(store: Store, project: str, upload_id: str) -> Upload:
    """The upload with the files that are whole."""
    with store.read() as tx:
        return uploads.get(tx, project, upload_id)


def delete_upload(store: Store, project: str, upload_id: str) -> None:
    """Forgets an upload; raises `InUse` while an import reads it."""
    with store.write() as tx:
        uploads.get(tx, project, upload_id)
        uploads.delete(tx, project, upload_id)


def check_unread(tx: Transaction, upload_id: str) -> None:
    """Raises `InUse` while a job reads the upload."""
    readers = jobs.readers(tx, [upload_id])
    if readers:
        raise InUse(noun="upload", name=upload_id, users=", ".join(readers))


def check_filled(tx: Transaction, project: str, upload_id: str) -> None:
    """Raises `InvalidParameter` for an empty upload, and `InUse` for one that a job reads already."""
    if not uploads.get(tx, project, upload_id).files:
        raise InvalidParameter(
            name="upload", value=upload_id, expected="an upload with at least one file"
        )
    check_unread(tx, upload_id)


class Reception:
    """One file on its way in: written as it comes, a part of the upload once it is whole.

        reception.write(chunk), as often as there is one; file = reception.finish(); always: reception.close()

    Closed before it is finished, it leaves nothing behind. For one thread at a time.
    """

    def __init__(
        self,
        store: Store,
        artifacts: Artifacts,
        *,
        project: str,
        upload_id: str,
        path: str,
        limit_bytes: int,
    ) -> None:
        self._store = store
        self._project = project
        self._upload_id = upload_id
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._is_whole = False
        safe = safe_path(path)
        get_upload(store, project, upload_id)
        self._writer = artifacts.writer(safe)

    def write(self, chunk: bytes) -> None:
        """The next bytes; raises `BodyTooLarge` and `StorageFull`."""
        self._size_bytes += len(chunk)
        check_size(self._size_bytes, self._limit_bytes)
        self._writer.write(chunk)

    def finish(self) -> FileRef:
        """The whole file, safe on the disk and listed in its upload."""
        file = self._writer.commit()
        self._is_whole = True
        with self._store.write() as tx:
            check_unread(tx, self._upload_id)
            uploads.add_file(tx, self._project, self._upload_id, file)
        return file

    def close(self) -> None:
        """Drops what was written, unless it was finished."""
        if not self._is_whole:
            self._writer.abort()


def check_size(size_bytes: int, limit_bytes: int) -> None:
    """Raises `BodyTooLarge`."""
    if size_bytes > limit_bytes:
        raise BodyTooLarge(limit_bytes=limit_bytes, setting="MODELRY_MAX_UPLOAD_BYTES")
