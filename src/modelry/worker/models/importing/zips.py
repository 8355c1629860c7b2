"""Which kind of zip a file is, by its list of members: an archive to unpack, a Keras model, a pickle in disguise."""

from __future__ import annotations

import zipfile
from enum import StrEnum
from pathlib import Path

from modelry.worker.data.unpacking import BoundedReads
from modelry.worker.models.importing.base import refuse

#: A list of members longer than this is refused before it is read.
_MAX_DIRECTORY = 32 << 20
KERAS_FILES = frozenset({"metadata.json", "config.json", "model.weights.h5"})


class ZipKind(StrEnum):
    ARCHIVE = "archive"
    KERAS = "keras"


def look_into(name: str, file: Path) -> ZipKind:
    """What the zip is; raises `UnsafeFile` for PyTorch's, for numpy's and for damaged ones."""
    try:
        with (
            file.open("rb") as raw,
            zipfile.ZipFile(BoundedReads(raw, name, _MAX_DIRECTORY)) as archive,
        ):
            members = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError) as error:
        raise refuse(name, f"it is a damaged zip ({error})", "Get an undamaged copy.") from None
    _refuse_torch(name, members)
    if set(members) >= KERAS_FILES:
        return ZipKind.KERAS
    return ZipKind.ARCHIVE


def _refuse_torch(name: str, members: list[str]) -> None:
    last = {member.rpartition("/")[2] for member in members}
    if "constants.pkl" in last:
        raise refuse(name, "it is TorchScript, which runs code when it is loaded")
    if "data.pkl" in last:
        raise refuse(name, "it is a PyTorch file with a pickle, which runs code when it is loaded")
    if "archive_format" in last or "serialized_exported_program.json" in last:
        raise refuse(name, "it is a torch.export archive, whose loader falls back to unpickling")
    if members and all(member.endswith(".npy") for member in members):
        raise refuse(name, "it holds numpy arrays and no model")
