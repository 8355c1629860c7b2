"""Models: versions, aliases, and the package's files."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from modelry.client import wire
from modelry.client._async.http import AsyncHttp
from modelry.client.refs import file_segments, parse_ref, segment
from modelry.client.timing import async_call
from modelry.core.errors import AlreadyExists, InternalError
from modelry.core.files import FileRef
from modelry.core.records import Model, ModelVersion

Versions: TypeAlias = list[ModelVersion]


class AsyncModels:
    """`client.models`."""

    def __init__(self, http: AsyncHttp) -> None:
        self._http = http

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

    async def export(self, ref: str, to: str | PathLike[str]) -> Path:
        """Downloads the package into a new folder, or a new file where `to` ends with `.zip`.

        Every file's checksum is compared; a broken download leaves nothing behind.
        """
        target = Path(to).expanduser()
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
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
            await async_call(_put_in_place, folder, target)
        return target

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
