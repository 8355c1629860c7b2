"""How people name versions (`digits`, `digits:3`, `digits@production`) and the files in them."""

from __future__ import annotations

from collections.abc import Sequence

from modelry.core.errors import InvalidRequest, NotFound
from modelry.core.files import FileRef
from modelry.core.ids import check_name


def read_data_reference(text: str) -> tuple[str, int | None]:
    """The data set's name and version; None means the newest."""
    name, colon, version = text.partition(":")
    return check_name(name, "data set"), read_number(version, text) if colon else None


def read_model_reference(text: str) -> tuple[str, int | str | None]:
    """The model's name and version: a number, an alias, or None for the newest."""
    name, at, alias = text.partition("@")
    if at:
        return check_name(name, "model"), check_name(alias, "alias")
    name, colon, version = text.partition(":")
    return check_name(name, "model"), read_number(version, text) if colon else None


def read_version(text: str) -> int | str | None:
    """A version as it stands in a path: a number, an alias, or `latest`."""
    if text == "latest":
        return None
    return int(text) if _is_number(text) else check_name(text, "alias")


def read_number(version: str, whole: str) -> int:
    """A version's number; `whole` is what the person wrote."""
    if not _is_number(version):
        raise InvalidRequest(
            reason=f"'{whole}' does not name a version",
            remedy="Write 'name', or 'name:3' for version 3 (a model also 'name@alias').",
        )
    return int(version)


def find_file(files: Sequence[FileRef], path: str) -> FileRef:
    """The file at a path; raises `NotFound`."""
    for file in files:
        if file.path == path:
            return file
    raise NotFound(noun="file", name=path, remedy="The version's record lists its files.")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 9 and int(text) > 0
