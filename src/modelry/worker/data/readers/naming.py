"""Which split and which label a file belongs to, told by the names of its folders and its own."""

from __future__ import annotations

import re
from typing import Literal

import numpy as np

from modelry.core.errors import InvalidData
from modelry.core.importing import target_of
from modelry.core.jobs import ImportParams
from modelry.worker.data.parts import SPLIT_NAMES
from modelry.worker.data.picturing import Array
from modelry.worker.data.sources import SourceFile

_ARCHIVE_ENDING = re.compile(r"\.(zip|tar|tgz|tar\.gz)$", re.IGNORECASE)

LabelsFrom = Literal["auto", "folder", "file"]


def label_files(
    files: list[SourceFile], params: ImportParams, called: str
) -> dict[str | None, tuple[list[SourceFile], Array]]:
    """By split, the files with their labels; raises `InvalidData`, in which the files are `called` so."""
    if target_of(params) is not None:
        reason = f"{called} are labelled by folder or file name; a target cannot be chosen"
        raise InvalidData(file=files[0].name, reason=reason, remedy="Leave the target away.")
    by_split: dict[str | None, list[SourceFile]] = {}
    common = _common_folders(files)
    for file in files:
        by_split.setdefault(_split(file, common), []).append(file)
    labels_from = _settle(params.labels_from, by_split, common)
    return {
        split: (members, np.array([_label(file, labels_from) for file in members]))
        for split, members in by_split.items()
    }


def have_class_folders(files: list[SourceFile]) -> bool:
    """Whether some of the files lie in folders that could be their labels."""
    common = _common_folders(files)
    return any(
        len(_folders(file)) - common - (_split(file, common) is not None) > 0 for file in files
    )


def split_of_name(file: SourceFile) -> str | None:
    """The split that a word of the file's own name tells: `adult-train.csv`."""
    words = file.base.lower().replace("-", "_").replace(".", "_").split("_")
    found = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else None


def _folders(file: SourceFile) -> list[str]:
    return [_ARCHIVE_ENDING.sub("", part) for part in file.name.split("/")[:-1]]


def _common_folders(files: list[SourceFile]) -> int:
    """How many folders all files have in common at the beginning of their names."""
    first, *others = [_folders(file) for file in files]
    count = len(first)
    for folders in others:
        count = min(count, len(folders))
        while folders[:count] != first[:count]:
            count -= 1
    return count


def _split(file: SourceFile, common: int) -> str | None:
    below = _folders(file)[common:]
    return SPLIT_NAMES.get(below[0].lower()) if below else None


def _settle(
    wanted: LabelsFrom, by_split: dict[str | None, list[SourceFile]], common: int
) -> Literal["folder", "file"]:
    """Whether labels are folders' or files' names."""
    if wanted != "auto":
        return wanted
    flat = foldered = None
    for split, files in by_split.items():
        for file in files:
            depth = len(_folders(file)) - common - (split is not None)
            flat, foldered = (file, foldered) if depth <= 0 else (flat, file)
    if flat is not None and foldered is not None:
        reason = f"it lies outside the class folders that {foldered.name} suggests"
        raise InvalidData(
            file=flat.name,
            reason=reason,
            remedy="Move it, or choose labels_from 'folder' or 'file'; nothing was imported.",
        )
    return "folder" if flat is None else "file"


def _label(file: SourceFile, labels_from: Literal["folder", "file"]) -> str:
    if labels_from == "folder":
        folders = _folders(file)
        if not folders:
            raise InvalidData(file=file.name, reason="it lies in no folder that could be its label")
        return folders[-1]
    label, separator, _ = re.sub(r"[_-]", "\0", file.base, count=1).partition("\0")
    if not separator or not label.strip():
        raise InvalidData(
            file=file.name, reason="its name has no label before a '_' or '-', and no class folder"
        )
    return label
