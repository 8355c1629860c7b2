"""What the parts of an import share: the formats, what a conversion is, and how a file is refused."""

from __future__ import annotations

import importlib
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from modelry.core.errors import NotConvertible, UnsafeFile
from modelry.core.jobs import ImportModelParams
from modelry.core.manifests import ModelManifest
from modelry.worker.context import JobContext

#: What to do about a model whose files would have to run code to be loaded.
EXPORT_TO_ONNX = (
    "Export the model to ONNX with its own framework (`torch.onnx.export`, `tf2onnx`, `skl2onnx`) and import that "
    "file; weights of Hugging Face models can also be saved as safetensors (`save_pretrained`)."
)


class Format(StrEnum):
    """What the source as a whole is."""

    ONNX = "onnx"
    KERAS = "keras"
    HUGGING_FACE = "huggingface"
    MODELRY = "modelry"
    BUNDLE = "bundle"


class Convert(Protocol):
    """Makes a servable package of a checked folder. One per format, imported when a source has it."""

    def __call__(
        self, folder: Path, params: ImportModelParams, out: Path, context: JobContext
    ) -> ModelManifest:
        """A draft manifest of what was written to `out`: signature, task, labels, media, forms with verification.

        `folder` holds the source's files under their own names, all of kinds that the allow-list knows; it is
        read-only. `out` is empty. The draft's `runtimes` name at least one form; `files`, `lineage`, `source` and
        `measurements` may be left empty: the import fills them in (entries the draft has in `source` stay).
        Raises `UnsafeFile` for what would have to run code, `NotConvertible` for what cannot be served, and
        `VerificationFailed` where the form differs from the original.
        """


#: Format → `module:function`.
CONVERTERS = {
    Format.ONNX: "modelry.worker.models.importing.onnx:convert",
    Format.KERAS: "modelry.worker.models.importing.keras:convert",
    Format.HUGGING_FACE: "modelry.worker.models.importing.huggingface:convert",
    Format.MODELRY: "modelry.worker.models.importing.package:convert",
}


def load_converter(format: Format) -> Convert:
    """The format's conversion; raises `NotConvertible` where a library it needs is not installed."""
    module, _, function = CONVERTERS[format].partition(":")
    try:
        found: Convert = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] == "modelry":
            raise
        raise NotConvertible(
            reason=f"the library '{missing.name}' is not installed where jobs run",
            remedy="Install `modelry[all]` there and import it again.",
        ) from None
    return found


def refuse(file: str, reason: str, remedy: str = EXPORT_TO_ONNX) -> UnsafeFile:
    """The refusal of one file, ready to be raised."""
    return UnsafeFile(file=file, reason=reason, remedy=remedy)
