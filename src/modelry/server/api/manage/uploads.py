"""`/api/v1/uploads`: files on their way into a data set, streamed to the disk in bounded memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from anyio import CancelScope
from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from modelry.core.errors import InvalidRequest
from modelry.core.files import FileRef
from modelry.core.records import Upload
from modelry.server.api.auth import Call, guarded_router, needs
from modelry.server.control import uploads

router = guarded_router()

#: Bytes that go to the disk at once: few thread switches, little memory.
PIECE_BYTES = 1 << 20


@router.post("/api/v1/uploads", status_code=201)
def create_upload(call: Annotated[Call, needs("train", rings=False)]) -> Upload:
    """A new, empty upload."""
    return uploads.create_upload(call.service.store, call.project)


@router.get("/api/v1/uploads/{upload_id}")
def get_upload(call: Annotated[Call, needs("train")], upload_id: str) -> Upload:
    """The upload with its whole files."""
    return uploads.get_upload(call.service.store, call.project, upload_id)


@router.put(
    "/api/v1/uploads/{upload_id}/files/{path:path}",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string"}}},
        }
    },
)
async def put_file(
    call: Annotated[Call, needs("train", streams=True, rings=False)],
    request: Request,
    upload_id: str,
    path: str,
) -> FileRef:
    """One file, its bytes as the raw body; a file of the same path is replaced once the new one is whole."""
    service = call.service
    limit = service.settings.max_upload_bytes
    uploads.check_size(_announced_bytes(request), limit)
    reception = await run_in_threadpool(
        uploads.Reception,
        service.store,
        service.artifacts,
        project=call.project,
        upload_id=upload_id,
        path=path,
        limit_bytes=limit,
    )
    try:
        async for piece in _pieces(request):
            await run_in_threadpool(reception.write, piece)
        return await run_in_threadpool(reception.finish)
    finally:
        with CancelScope(shield=True):
            await run_in_threadpool(reception.close)


@router.delete("/api/v1/uploads/{upload_id}", status_code=204)
def delete_upload(call: Annotated[Call, needs("train", rings=False)], upload_id: str) -> None:
    """Forgets an upload; refused while an import reads it."""
    uploads.delete_upload(call.service.store, call.project, upload_id)


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces of about `PIECE_BYTES`."""
    gathered = bytearray()
    try:
        async for chunk in request.stream():
            gathered += chunk
            if len(gathered) >= PIECE_BYTES:
                yield bytes(gathered)
                gathered.clear()
    except ClientDisconnect:
        raise InvalidRequest(reason="the connection ended before the file was whole") from None
    if gathered:
        yield bytes(gathered)


def _announced_bytes(request: Request) -> int:
    announced = request.headers.get("content-length", "")
    return int(announced) if announced.isdecimal() else 0
