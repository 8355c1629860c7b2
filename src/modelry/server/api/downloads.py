"""A stored file as an answer: its bytes as they are, never shown by a browser as a page of ours."""

from __future__ import annotations

from typing import Any

from fastapi.responses import FileResponse

from modelry.core.files import FileRef
from modelry.server.api.service import Service

#: What the reference says of such a call.
FILE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {}}, "description": "The file's bytes."}
}


def file_answer(service: Service, file: FileRef) -> FileResponse:
    """The file, streamed from the disk; ranges are understood."""
    return FileResponse(
        service.artifacts.local_path(file.digest),
        media_type="application/octet-stream",
        filename=file.path.rpartition("/")[2],
        headers={"etag": f'"{file.digest}"', "x-content-type-options": "nosniff"},
    )
