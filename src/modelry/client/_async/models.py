"""Models: bring foreign ones, versions, aliases, and the package's files."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias, overload

from modelry.client import wire
from modelry.client._async.http import AsyncHttp
from modelry.client._async.jobs import AsyncJobHandle
from modelry.client._async.uploads import forget_upload, send_files
from modelry.client.bundling import find_bundle_name, write_bundle
from modelry.client.progress import Display, make_display
from modelry.client.refs import file_segments, parse_ref, segment
from modelry.client.timing import async_call
from modelry.client.uploading import list_files
from modelry.core.catalogue import CatalogueEntry
from modelry.core.errors import (
    AlreadyExists,
    InternalError,
    InvalidParameter,
    ModelryError,
    NotFound,
)
from modelry.core.files import FileRef
from modelry.core.hub import SCHEME, parse_hub_ref
from modelry.core.labels import read_labels
from modelry.core.records import Job, Model, ModelVersion

Format = Literal["auto", "onnx", "keras", "huggingface", "modelry", "bundle"]
Versions: TypeAlias = list[ModelVersion]
Entries: TypeAlias = list[CatalogueEntry]
Labels: TypeAlias = list[str]


class AsyncModels:
    """`client.models`."""

    def __init__(self, http: AsyncHttp) -> None:
        self._http = http

    @overload
    async def import_(
        self,
        source: str | PathLike[str] | None = None,
        name: str | None = None,
        *,
        server_path: str | None = None,
        revision: str | None = None,
        format: Format = "auto",
        task: str | None = None,
        labels: Labels | str | PathLike[str] | None = None,
        preprocess: dict[str, Any] | str | None = None,
        licence: str | None = None,
        time_limit_s: float | None = None,
        wait: Literal[True] = True,
        display: Display | None = None,
    ) -> ModelVersion: ...

    @overload
    async def import_(
        self,
        source: str | PathLike[str] | None = None,
        name: str | None = None,
        *,
        server_path: str | None = None,
        revision: str | None = None,
        format: Format = "auto",
        task: str | None = None,
        labels: Labels | str | PathLike[str] | None = None,
        preprocess: dict[str, Any] | str | None = None,
        licence: str | None = None,
        time_limit_s: float | None = None,
        wait: Literal[False],
        display: Display | None = None,
    ) -> AsyncJobHandle: ...

    async def import_(
        self,
        source: str | PathLike[str] | None = None,
        name: str | None = None,
        *,
        server_path: str | None = None,
        revision: str | None = None,
        format: Format = "auto",
        task: str | None = None,
        labels: Labels | str | PathLike[str] | None = None,
        preprocess: dict[str, Any] | str | None = None,
        licence: str | None = None,
        time_limit_s: float | None = None,
        wait: bool = True,
        display: Display | None = None,
    ) -> ModelVersion | AsyncJobHandle:
        """Makes a model version of a local file or folder, of `hf://org/name@revision`, or of a server path.

        `labels` are the names of the classes, or a file with them; `preprocess` is a preset's name or values. A
        bundle knows its name; everything else needs one. Waits until the import has ended and answers the version;
        with `wait=False` it answers the import's job.
        """
        where = _one_source(source, server_path, revision)
        given = {"format": format, "task": task, "preprocess": preprocess, "licence": licence}
        body: dict[str, Any] = {
            "name": name or _name_of(source),
            **{key: value for key, value in given.items() if value is not None},
            **({} if time_limit_s is None else {"time_limit_s": time_limit_s}),
            **({} if labels is None else {"labels": _labels(labels)}),
            **where,
        }
        with display or make_display() as shown:
            if where["source"] == "upload" and source is not None:
                body["upload"] = await send_files(self._http, list_files(Path(source)), shown)
            job = await self._start(body)
            if not wait:
                return job
            await job.follow(shown)
        return await self.version(f"{body['name']}:{job.record.notes['version']}")

    async def catalogue(self) -> Entries:
        """Well-known models that can be imported, and what can be trained here."""
        return wire.to_records(CatalogueEntry, await self._http.get("/api/v1/catalogue"))

    async def list(self) -> list[Model]:
        """The project's models."""
        return wire.to_records(Model, await self._http.get("/api/v1/models"))

    async def get(self, name: str) -> Model:
        """One model; raises `NotFound`."""
        return wire.to_record(Model, await self._http.get(_path(name)))

    async def versions(self, name: str) -> Versions:
        """All versions of one."""
        return wire.to_records(ModelVersion, await self._http.get(f"{_path(name)}/versions"))

    async def version(self, ref: str) -> ModelVersion:
        """`name` (the newest), `name:3` or `name@alias`, with its manifest."""
        return wire.to_record(ModelVersion, await self._http.get(_version_path(ref)))

    async def set_alias(self, name: str, alias: str, version: int) -> Model:
        """Points `name@alias` at a version."""
        await self._http.put(f"{_path(name)}/aliases/{segment(alias)}", {"version": version})
        return await self.get(name)

    async def delete_alias(self, name: str, alias: str) -> None:
        """Takes the alias away; the version stays."""
        await self._http.delete(f"{_path(name)}/aliases/{segment(alias)}")

    async def delete(self, ref: str) -> None:
        """Removes `name` with all its versions, or only `name:3`."""
        wanted = parse_ref(ref)
        await self._http.delete(_version_path(ref) if wanted.names_a_version else _path(ref))

    async def export(self, ref: str, to: str | PathLike[str], *, bundle: bool = False) -> Path:
        """Downloads the package into a new folder, or a new file where `to` ends with `.zip`.

        With `bundle=True` it becomes one file that `import_` takes without a network; the same package always
        gives the same bytes. Every file's checksum is compared; a broken download leaves nothing behind.
        """
        target = Path(to).expanduser()
        is_free = target.is_dir() and not any(target.iterdir()) and not bundle
        if target.exists() and not is_free:
            raise AlreadyExists(
                noun="file or folder",
                name=str(target),
                remedy="Choose another place, or remove the old one first.",
            )
        version = await self.version(ref)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as scratch:
            folder = Path(scratch, "package")
            for file in version.files:
                await self._fetch(f"{version.model}:{version.version}", file, folder)
            if bundle:
                packed = Path(scratch, "bundle")
                await async_call(write_bundle, folder, version, packed)
                await async_call(shutil.move, packed, target)
            else:
                await async_call(_put_in_place, folder, target)
        return target

    async def _start(self, body: dict[str, Any]) -> AsyncJobHandle:
        try:
            value = await self._http.post("/api/v1/models", body)
        except ModelryError:
            if "upload" in body:
                await forget_upload(self._http, body["upload"])
            raise
        return AsyncJobHandle(self._http, wire.to_record(Job, value))

    async def _fetch(self, ref: str, file: FileRef, folder: Path) -> None:
        destination = folder / _inside(file.path)
        destination.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        path = f"{_version_path(ref)}/files/{file_segments(file.path)}"
        async with self._http.download(path) as pieces:
            with destination.open("wb") as out:
                async for piece in pieces:
                    digest.update(piece)
                    await async_call(out.write, piece)
        if digest.hexdigest() != file.digest:
            raise InternalError(
                f"'{file.path}' arrived damaged: its checksum is not the one in the record.",
                remedy="Export it again.",
            )


def _one_source(
    source: str | PathLike[str] | None, server_path: str | None, revision: str | None
) -> dict[str, str]:
    if (source is None) == (server_path is None):
        raise InvalidParameter(
            name="source", value=source, expected="either a source or server_path"
        )
    if isinstance(source, str) and source.startswith(SCHEME):
        return {"source": "hub", "location": str(parse_hub_ref(source, revision))}
    if revision is not None:
        raise InvalidParameter(
            name="revision", value=revision, expected=f"nothing; only {SCHEME} has revisions"
        )
    if server_path is not None:
        return {"source": "path", "location": server_path}
    return {"source": "upload"}


def _name_of(source: str | PathLike[str] | None) -> str:
    """A bundle's own; raises `InvalidParameter` for everything else."""
    name = None if source is None else find_bundle_name(Path(source).expanduser())
    if name is None:
        raise InvalidParameter(
            name="name", value=None, expected="what the model is to be called; only a bundle knows"
        )
    return name


def _labels(given: Labels | str | PathLike[str]) -> Labels:
    if isinstance(given, str | PathLike):
        file = Path(given).expanduser()
        if not file.is_file():
            raise NotFound(noun="file", name=str(file), remedy="Check the path of the labels.")
        return read_labels(file.name, file.read_bytes())
    return given


def _put_in_place(folder: Path, target: Path) -> None:
    if target.suffix.lower() != ".zip":
        if target.exists():
            target.rmdir()
        folder.rename(target)
        return
    packed = folder.parent / "package.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(file, file.relative_to(folder).as_posix())
    shutil.move(packed, target)


def _inside(path: str) -> PurePosixPath:
    relative = PurePosixPath(path)
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise InternalError(
            f"The service named a file outside the package: '{path}'.",
            remedy="Do not trust this service.",
        )
    return relative


def _path(name: str) -> str:
    return f"/api/v1/models/{segment(name)}"


def _version_path(ref: str) -> str:
    wanted = parse_ref(ref)
    return f"{_path(wanted.name)}/versions/{segment(wanted.version)}"
