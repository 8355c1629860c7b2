"""A model package, loaded and ready to answer: the runtime, what it takes, how many rows at once."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from modelry.artifacts import Artifacts
from modelry.core.errors import ModelryError, ModelUnloadable
from modelry.core.files import FileRef
from modelry.core.manifests import ModelManifest, read_model
from modelry.core.specs import ReplicaSpec
from modelry.core.tensors import Array, decode_payload
from modelry.worker.models.runtimes import Runtime, load_runtime
from modelry.worker.tasks import prepare


class ServedModel:
    """A loaded package: the runtime, what it takes, and how many rows it takes at once."""

    def __init__(self, folder: Path, threads: int, max_batch: int) -> None:
        self.manifest: ModelManifest = read_model((folder / "model.json").read_bytes())
        self.runtime: Runtime = load_runtime(folder, self.manifest, threads)
        fixed = [spec.shape[0] for spec in self.manifest.inputs if spec.shape[0] is not None]
        self.max_batch = fixed[0] if fixed else max_batch

    def warm_up(self) -> None:
        """One run on zeros, so that the first request finds everything allocated."""
        self.runtime.run(
            {
                spec.name: np.zeros(
                    [1 if length is None else length for length in spec.shape],
                    spec.dtype,
                )
                for spec in self.manifest.inputs
            }
        )

    def prepare(self, payload: bytes) -> dict[str, Array]:
        """A request's payload as the runtime's inputs; raises for what does not fit the model."""
        return prepare(decode_payload(payload), self.manifest)


def load_model(spec: ReplicaSpec, folder: Path) -> ServedModel:
    """The spec's package, materialised in `folder`, loaded and warm; raises `ModelUnloadable`."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        Artifacts(spec.artifacts).fetch(spec.files, folder)
        _check_content(spec.files, folder)
        model = ServedModel(folder, spec.threads, spec.max_batch)
        model.warm_up()
    except ModelUnloadable:
        raise
    except Exception as error:  # Whatever a foreign runtime raises means the same here.
        reason = error.message if isinstance(error, ModelryError) else str(error)
        raise ModelUnloadable(reason=reason.rstrip(".") or type(error).__name__) from error
    return model


def _check_content(files: Iterable[FileRef], folder: Path) -> None:
    """A weight that a bad disk changed loads like any other and answers wrongly."""
    for file in files:
        with (folder / file.path).open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != file.digest:
                raise ModelUnloadable(reason=f"{file.path} is not the file that was published")
