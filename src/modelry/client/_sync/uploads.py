# Generated from ../_async/uploads.py by scripts/unasync.py; edit that file.
"""Local files on their way to the service: streamed in pieces, never held whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from modelry.client import wire
from modelry.client._sync.http import Http
from modelry.client.progress import Display
from modelry.client.refs import file_segments, segment
from modelry.client.timing import sync_call
from modelry.client.uploading import CHUNK, LocalFile
from modelry.core.errors import ModelryError
from modelry.core.records import Upload


def send_files(http: Http, files: list[LocalFile], display: Display) -> str:
    """The id of a new upload with all the files; what fails leaves none behind."""
    upload = wire.to_record(Upload, http.post("/api/v1/uploads"))
    total = sum(file.size_bytes for file in files)
    sent = 0
    try:
        for file in files:
            _send_file(http, upload.id, file, _Share(display, file.path, sent, total))
            sent += file.size_bytes
    except BaseException:
        forget_upload(http, upload.id)
        raise
    return upload.id


def forget_upload(http: Http, upload_id: str) -> None:
    """Drops an upload that became nothing; never raises."""
    with contextlib.suppress(ModelryError):
        http.delete(f"/api/v1/uploads/{segment(upload_id)}")


def _send_file(http: Http, upload_id: str, file: LocalFile, share: _Share) -> None:
    http.request(
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


def _pieces(file: LocalFile, share: _Share) -> Iterator[bytes]:
    sent = 0
    with file.source.open("rb") as source:
        while piece := sync_call(source.read, CHUNK):
            yield piece
            sent += len(piece)
            share.show(sent)
