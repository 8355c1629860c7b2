"""Data sets: bring files, look at versions, take them away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

from modelry.client import wire
from modelry.client._async.http import AsyncHttp
from modelry.client._async.jobs import AsyncJobHandle
from modelry.client._async.uploads import forget_upload, send_files
from modelry.client.progress import Display, make_display
from modelry.client.refs import file_segments, parse_ref, segment
from modelry.client.uploading import list_files
from modelry.core.errors import InvalidParameter, ModelryError
from modelry.core.records import Dataset, DatasetVersion, Job

LabelsFrom = Literal["auto", "folder", "file"]
Versions: TypeAlias = list[DatasetVersion]
Names: TypeAlias = list[str]


class AsyncData:
    """`client.data`."""

    def __init__(self, http: AsyncHttp) -> None:
        self._http = http

    @overload
    async def add(
        self,
        name: str,
        path: str | PathLike[str] | None = None,
        *,
        builtin: str | None = None,
        server_path: str | None = None,
        target: str | None = None,
        label: str | None = None,
        features: Sequence[str] | None = None,
        text: str | None = None,
        time: str | None = None,
        task: str | None = None,
        kinds: Mapping[str, str] | None = None,
        columns: Sequence[str] | None = None,
        labels_from: LabelsFrom = "auto",
        test_share: float = 0.2,
        wait: Literal[True] = True,
        display: Display | None = None,
    ) -> DatasetVersion: ...

    @overload
    async def add(
        self,
        name: str,
        path: str | PathLike[str] | None = None,
        *,
        builtin: str | None = None,
        server_path: str | None = None,
        target: str | None = None,
        label: str | None = None,
        features: Sequence[str] | None = None,
        text: str | None = None,
        time: str | None = None,
        task: str | None = None,
        kinds: Mapping[str, str] | None = None,
        columns: Sequence[str] | None = None,
        labels_from: LabelsFrom = "auto",
        test_share: float = 0.2,
        wait: Literal[False],
        display: Display | None = None,
    ) -> AsyncJobHandle: ...

    async def add(
        self,
        name: str,
        path: str | PathLike[str] | None = None,
        *,
        builtin: str | None = None,
        server_path: str | None = None,
        target: str | None = None,
        label: str | None = None,
        features: Sequence[str] | None = None,
        text: str | None = None,
        time: str | None = None,
        task: str | None = None,
        kinds: Mapping[str, str] | None = None,
        columns: Sequence[str] | None = None,
        labels_from: LabelsFrom = "auto",
        test_share: float = 0.2,
        wait: bool = True,
        display: Display | None = None,
    ) -> DatasetVersion | AsyncJobHandle:
        """Makes a data set version of a local file or folder, a built-in, or a folder on the server.

        Local files are sent with their paths, in pieces. Waits until the import has ended and answers the
        version; with `wait=False` it answers the import's job. For tables: `target` (or `label`, for classes) is
        predicted, `features` are kept, `text` is a text, `time` orders the rows, `kinds` says what columns are, and
        `columns` names those of a file that does not.
        """
        source = _one_source(path, builtin, server_path)
        options: dict[str, Any] = {
            "target": target,
            "label": label,
            "features": _names("features", features),
            "text": text,
            "time": time,
            "task": task,
            "kinds": None if kinds is None else dict(kinds),
            "columns": _names("columns", columns),
        }
        body: dict[str, Any] = {
            "name": name,
            "labels_from": labels_from,
            "test_share": test_share,
            **{option: value for option, value in options.items() if value is not None},
            **source,
        }
        with display or make_display() as shown:
            if path is not None:
                body["upload"] = await send_files(self._http, list_files(Path(path)), shown)
            job = await self._start(body)
            if not wait:
                return job
            await job.follow(shown)
        return await self.version(f"{name}:{job.record.notes['version']}")

    async def list(self) -> list[Dataset]:
        """The project's data sets."""
        return wire.to_records(Dataset, await self._http.get("/api/v1/datasets"))

    async def get(self, name: str) -> Dataset:
        """One data set; raises `NotFound`."""
        return wire.to_record(Dataset, await self._http.get(_path(name)))

    async def versions(self, name: str) -> Versions:
        """All versions of one."""
        return wire.to_records(DatasetVersion, await self._http.get(f"{_path(name)}/versions"))

    async def version(self, ref: str) -> DatasetVersion:
        """`name` (the newest) or `name:3`, with its manifest."""
        wanted = parse_ref(ref)
        value = await self._http.get(f"{_path(wanted.name)}/versions/{segment(wanted.version)}")
        return wire.to_record(DatasetVersion, value)

    async def read_file(self, ref: str, path: str) -> bytes:
        """One file of a version, such as a Parquet shard that its manifest names."""
        wanted = parse_ref(ref)
        version = f"{_path(wanted.name)}/versions/{segment(wanted.version)}"
        return await self._http.request("GET", f"{version}/files/{file_segments(path)}")

    async def delete(self, ref: str) -> None:
        """Removes `name` with all its versions, or only `name:3`."""
        wanted = parse_ref(ref)
        end = f"/versions/{segment(wanted.version)}" if wanted.names_a_version else ""
        await self._http.delete(_path(wanted.name) + end)

    async def _start(self, body: dict[str, Any]) -> AsyncJobHandle:
        try:
            value = await self._http.post("/api/v1/datasets", body)
        except ModelryError:
            if "upload" in body:
                await forget_upload(self._http, body["upload"])
            raise
        return AsyncJobHandle(self._http, wire.to_record(Job, value))


def _one_source(
    path: str | PathLike[str] | None, builtin: str | None, server_path: str | None
) -> dict[str, str]:
    if sum(given is not None for given in (path, builtin, server_path)) != 1:
        raise InvalidParameter(
            name="path", value=path, expected="exactly one of path, builtin and server_path"
        )
    if builtin is not None:
        return {"source": "builtin", "location": builtin}
    if server_path is not None:
        return {"source": "path", "location": server_path}
    return {"source": "upload"}


def _names(option: str, names: Sequence[str] | None) -> Names | None:
    if isinstance(names, str):
        raise InvalidParameter(name=option, value=names, expected="a list of names")
    return None if names is None else list(names)


def _path(name: str) -> str:
    return f"/api/v1/datasets/{segment(name)}"
