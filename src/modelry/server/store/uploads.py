"""Uploads: files on their way into a data set. An import job holds its upload until it is finished."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

import sqlalchemy as sa

from modelry.core.errors import NotFound
from modelry.core.files import FileRef
from modelry.core.ids import new_id
from modelry.core.records import Upload
from modelry.server.store import jobs
from modelry.server.store import projects as project_rows
from modelry.server.store.naming import refuse_if_used
from modelry.server.store.tables import projects, upload_files, uploads
from modelry.server.store.transaction import Transaction


def create(tx: Transaction, project: str, ttl_s: float) -> Upload:
    """An empty upload; it expires `ttl_s` after its last file."""
    upload_id = new_id("upl")
    tx.insert(
        uploads,
        {
            "id": upload_id,
            "project_id": project_rows.id_of(tx, project),
            "ttl_s": ttl_s,
            "created_at": tx.now(),
            "expires_at": tx.now() + ttl_s,
        },
    )
    return get(tx, project, upload_id)


def get(tx: Transaction, project: str, upload_id: str) -> Upload:
    """Raises `NotFound`."""
    project_id = project_rows.id_of(tx, project)
    found = _records(tx, uploads.c.project_id == project_id, uploads.c.id == upload_id)
    if not found:
        raise NotFound(noun="upload", name=upload_id)
    return found[0]


def list(tx: Transaction, project: str) -> builtins.list[Upload]:
    """The oldest first."""
    return _records(tx, uploads.c.project_id == project_rows.id_of(tx, project))


def add_file(tx: Transaction, project: str, upload_id: str, file: FileRef) -> None:
    """A file that is safe in the artifacts; one with the same path is replaced. Raises `NotFound`."""
    changed = tx.change(
        sa.update(uploads)
        .where(
            uploads.c.id == upload_id,
            uploads.c.project_id == project_rows.id_of(tx, project),
        )
        .values(expires_at=tx.now() + uploads.c.ttl_s)
    )
    if changed != 1:
        raise NotFound(noun="upload", name=upload_id)
    tx.upsert_all(
        upload_files,
        [
            {
                "upload_id": upload_id,
                "path": file.path,
                "digest": file.digest,
                "size_bytes": file.size_bytes,
            }
        ],
    )


def delete(tx: Transaction, project: str, upload_id: str) -> None:
    """Forgets an upload, if it is there; raises `InUse` while an unfinished job reads it."""
    project_id = project_rows.id_of(tx, project)
    mine = sa.and_(uploads.c.id == upload_id, uploads.c.project_id == project_id)
    tx.execute(sa.select(uploads.c.id).where(mine).with_for_update())
    refuse_if_used("upload", upload_id, jobs.readers(tx, [upload_id]))
    tx.change(sa.delete(uploads).where(mine))


def delete_expired(tx: Transaction) -> int:
    """Forgets those whose time is over and that no unfinished job reads; how many."""
    late = sa.select(uploads.c.id).where(uploads.c.expires_at <= tx.now()).with_for_update()
    found = tx.execute(late).scalars().all()
    gone = set(found) - jobs.sources_in_use(tx)
    return tx.change(sa.delete(uploads).where(uploads.c.id.in_(gone))) if gone else 0


def _records(tx: Transaction, *where: sa.ColumnElement[bool]) -> builtins.list[Upload]:
    rows = tx.execute(
        sa.select(uploads, projects.c.name.label("project"))
        .join(projects, projects.c.id == uploads.c.project_id)
        .where(*where)
        .order_by(uploads.c.created_at, uploads.c.id)
    ).all()
    files = _files(tx, [row.id for row in rows])
    return [
        Upload(
            id=row.id,
            project=row.project,
            files=tuple(files.get(row.id, ())),
            created_at=row.created_at,
            expires_at=row.expires_at,
        )
        for row in rows
    ]


def _files(tx: Transaction, upload_ids: Sequence[str]) -> dict[str, builtins.list[FileRef]]:
    found: dict[str, builtins.list[FileRef]] = {}
    for row in tx.execute(sa.select(upload_files).where(upload_files.c.upload_id.in_(upload_ids))):
        file = FileRef(path=row.path, digest=row.digest, size_bytes=row.size_bytes)
        found.setdefault(row.upload_id, []).append(file)
    return {key: sorted(files, key=lambda file: file.path) for key, files in found.items()}
