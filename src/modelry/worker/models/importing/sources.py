"""Brings what is to be imported: an upload, a server path, a repository of a hub; archives are unpacked."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from modelry.core.errors import InvalidData
from modelry.core.jobs import ImportModelParams
from modelry.worker.context import JobContext
from modelry.worker.data.kinds import Kind
from modelry.worker.data.sources import SourceFile, list_source
from modelry.worker.data.unpacking import Unpacker
from modelry.worker.models.importing.base import refuse
from modelry.worker.models.importing.checking import MAX_BYTES, check_amount
from modelry.worker.models.importing.origin import Origin
from modelry.worker.models.importing.zips import ZipKind, look_into

_TAR_MAGIC_AT = 257


def bring(context: JobContext, params: ImportModelParams) -> tuple[list[SourceFile], Origin]:
    """The source's files under plain names, archives unpacked; raises `UnsafeFile` and what the hub says."""
    if params.source == "hub":
        from modelry.worker.models.importing.hub import download

        folder, origin = download(context, params.location)
        return _list(folder), origin
    context.progress("listing files")
    root = context.fetch("upload") if params.source == "upload" else Path(params.location)
    files, revision = _snapshot(root)
    location = params.location or (files[0].name if len(files) == 1 else "folder")
    check_amount(files)
    files = _unpack(context, files)
    if params.source == "path":
        files = _own_copies(context, files)
    return files, Origin(kind=params.source, location=location, revision=revision)


def _list(root: Path) -> list[SourceFile]:
    try:
        return list_source(root)
    except InvalidData as error:
        raise _as_unsafe(error) from None


def _snapshot(root: Path) -> tuple[list[SourceFile], str | None]:
    """The files below a folder; of Hugging Face's cache only those of one snapshot, with its commit."""
    if root.parent.name == "snapshots" and root.parent.parent.name.startswith("models--"):
        # A cache's snapshot holds links into the cache: they are followed, but not out of it.
        files = _list(root.parent.parent)
        return _of_snapshot(files, root.name), root.name
    files = _list(root)
    commits = {_commit(file.name) for file in files} - {None}
    if not commits:
        return files, None
    if len(commits) > 1:
        raise refuse(root.name, "it holds several snapshots", "Import one of its snapshots/ alone.")
    commit = str(commits.pop())
    return _of_snapshot(files, commit), commit


def _commit(name: str) -> str | None:
    parts = name.split("/")
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts[:-2] else None


def _of_snapshot(files: list[SourceFile], commit: str) -> list[SourceFile]:
    mark = f"snapshots/{commit}/"
    return [
        SourceFile(file.name.partition(mark)[2], file.place) for file in files if mark in file.name
    ]


def _unpack(context: JobContext, files: list[SourceFile]) -> list[SourceFile]:
    packed = sum(file.size_bytes for file in files)
    unpacker = Unpacker(
        context.work / "unpacked", packed, context.check_stop, max_bytes=MAX_BYTES, kind_of=_kind_of
    )
    found: list[SourceFile] = []
    for number, file in enumerate(files):
        context.check_stop()
        context.progress("unpacking", step=number, total_steps=len(files))
        if len(files) > 1 and _kind_of(file) in (Kind.ZIP, Kind.TAR):
            raise refuse(file.name, "it is an archive within a folder", "Bring the files unpacked.")
        try:
            found += [each for each, _ in unpacker.expand(file)]
        except InvalidData as error:
            raise _as_unsafe(error) from None
    return _without_common_folder(found) if len(files) == 1 else found


def _own_copies(context: JobContext, files: list[SourceFile]) -> list[SourceFile]:
    """Copies of what lies in somebody's folder: what is checked must be what is read afterwards."""
    check_amount(files)
    folder = context.work / "copied"
    folder.mkdir()
    owned = []
    for number, file in enumerate(files):
        context.check_stop()
        context.progress("copying", step=number, total_steps=len(files))
        place = file.place
        if not place.is_relative_to(context.work):
            place = folder / f"{number:06}"
            shutil.copyfile(file.place, place)
        owned.append(SourceFile(file.name, place))
    return owned


def _kind_of(file: SourceFile) -> Kind:
    """Whether a file is an archive to be unpacked; everything else is `TEXT` here and judged afterwards."""
    with file.place.open("rb") as content:
        head = content.read(_TAR_MAGIC_AT + 8)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        is_archive = look_into(file.name, file.place) is ZipKind.ARCHIVE
        return Kind.ZIP if is_archive else Kind.TEXT
    if head.startswith(b"\x1f\x8b"):
        return Kind.GZIP
    return Kind.TAR if head[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar" else Kind.TEXT


def _without_common_folder(files: list[SourceFile]) -> list[SourceFile]:
    """`a.zip/model/x.onnx` as `x.onnx`: what all names begin with says nothing."""
    if len(files) == 1:
        return [SourceFile(files[0].base, files[0].place)]
    common = os.path.commonpath([file.name for file in files])
    return [
        SourceFile(file.name[len(common) + 1 :] if common else file.name, file.place)
        for file in files
    ]


def _as_unsafe(error: InvalidData) -> Exception:
    file, reason = error.facts.get("file", "the source"), error.facts.get("reason")
    if reason is None:
        return error
    return refuse(str(file), str(reason), "Mend or remove this file and import the rest again.")
