"""Whether the files of a package are those that were published."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from modelry.core.errors import ModelUnloadable
from modelry.core.files import FileRef


def check_content(files: Iterable[FileRef], folder: Path) -> None:
    """Raises `ModelUnloadable`: a weight that a bad disk changed loads like any other and answers wrongly."""
    for file in files:
        with (folder / file.path).open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != file.digest:
                raise ModelUnloadable(reason=f"{file.path} is not the file that was published")
