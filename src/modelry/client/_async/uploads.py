"""Local files on their way to the service: streamed in pieces, never held whole."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from modelry.client import wire
from modelry.client._async.http import AsyncHttp
from modelry.client.progress import Display
from modelry.client.refs import file_segments, segment
from modelry.client.timing import async_call
from modelry.client.uploading import CHUNK, LocalFile
from modelry.core.errors import ModelryError
from modelry.core.records import Upload


async def send_files(http: AsyncHttp, files: list[LocalFile], display: Display) -> str:
    """The id of a new upload with all the files; what fails leaves none behind."""
    upload = wire.to_record(Upload, await http.post("/api/v1/uploads"))
    total = sum(file.size_bytes for file in files)
    sent = 0
    try:
        for file in files:
            await _send_file(http, upload.id, file, _Share(display, file.path, sent, total))
            sent += file.size_bytes
    except BaseException:
        await forget_upload(http, upload.id)
        raise
    return upload.id


async def forget_upload(http: AsyncHttp, upload_id: str) -> None:
    """Drops an upload that became nothing; never raises."""
    with contextlib.suppress(ModelryError):
        await http.delete(f"/api/v1/uploads/{segment(upload_id)}")


async def _send_file(http: AsyncHttp, upload_id: str, file: LocalFile, share: _Share) -> None:
    await http.request(
        "PUT",
        f"/api/v1/uploads/{segment(upload_id)}/files/{file_segments(file.path)}",
        stream=lambda: _pieces(file, share),
        headers={
            "content-type": "application/octet-stream",
            "content-length": str(file.size_bytes),
        },
    )


class _Share:
    """One file's part of the whole upload's progress."""

    def __init__(self, display: Display, path: str, before: int, total: int) -> None:
        self._display, self._path, self._before, self._total = display, path, before, total

    def show(self, sent_bytes: int) -> None:
        self._display.show_sent(self._path, self._before + sent_bytes, self._total)


async def _pieces(file: LocalFile, share: _Share) -> AsyncIterator[bytes]:
    sent = 0
    with file.source.open("rb") as source:
        while piece := await async_call(source.read, CHUNK):
            yield piece
            sent += len(piece)
            share.show(sent)
