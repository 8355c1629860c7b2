"""What each kind of job hands over in its outcome: the controller makes rows of these."""

from __future__ import annotations

from typing import Any

import msgspec

from modelry.core.files import FileRef
from modelry.core.manifests import DatasetManifest, ModelManifest


class MadeDataset(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `import-data`, under the key `dataset`."""

    manifest: DatasetManifest
    #: The shards and `dataset.json`, all in the artifacts already.
    files: list[FileRef]


class MadeModel(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `train`, under the key `model`."""

    manifest: ModelManifest
    #: `model.json`, weights and forms, all in the artifacts already.
    files: list[FileRef]


def to_result(made: MadeDataset | MadeModel) -> dict[str, Any]:
    """The outcome's `result` for what a job made."""
    role = "dataset" if isinstance(made, MadeDataset) else "model"
    return {role: msgspec.to_builtins(made)}


def made_dataset(result: dict[str, Any]) -> MadeDataset | None:
    """The data set a result holds, if it holds one."""
    return msgspec.convert(result["dataset"], MadeDataset) if "dataset" in result else None


def made_model(result: dict[str, Any]) -> MadeModel | None:
    """The model a result holds, if it holds one."""
    return msgspec.convert(result["model"], MadeModel) if "model" in result else None
