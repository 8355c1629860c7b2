"""A model package, loaded and ready to answer: the runtime, what it takes, how many rows at once."""

from __future__ import annotations

import shutil
from pathlib import Path

from modelry.artifacts import Artifacts
from modelry.core.errors import ModelryError, ModelUnloadable
from modelry.core.manifests import ModelManifest, TensorSpec, read_model
from modelry.core.specs import ReplicaSpec
from modelry.core.texts import blank
from modelry.worker.models.content import check_content
from modelry.worker.models.runtimes import Runtime, load_runtime
from modelry.worker.replica.ops import Ops
from modelry.worker.tasks import example_text
from modelry.worker.tasks.opened import Opened


class ServedModel:
    """A loaded package: the runtime, what it takes, and how many rows it takes at once."""

    def __init__(self, folder: Path, threads: int, max_batch: int) -> None:
        #: Where the package lies: tokenizers and other files of the tasks are read from here.
        self.folder = folder
        self.manifest: ModelManifest = read_model((folder / "model.json").read_bytes())
        self.runtime: Runtime = load_runtime(folder, self.manifest, threads)
        fixed = [spec.shape[0] for spec in self.manifest.inputs if spec.shape[0] is not None]
        self.max_batch = fixed[0] if fixed else max_batch
        self._ops = Ops(self)

    def warm_up(self) -> None:
        """One run, so that the first request finds everything allocated and a bad tokenizer is found before it."""
        blanks = {spec.name: blank(spec.dtype, _lengths(spec)) for spec in self.manifest.inputs}
        self.runtime.run(example_text(self) or blanks)

    def open(self, op: int, data: bytes) -> Opened:
        """A request as rows for the runtime and what makes its answer; raises for what does not fit the model."""
        return self._ops.open(op, data)


def load_model(spec: ReplicaSpec, folder: Path) -> ServedModel:
    """The spec's package, materialised in `folder`, loaded and warm; raises `ModelUnloadable`."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        Artifacts(spec.artifacts).fetch(spec.files, folder)
        check_content(spec.files, folder)
        model = ServedModel(folder, spec.threads, spec.max_batch)
        model.warm_up()
    except ModelUnloadable:
        raise
    except Exception as error:  # Whatever a foreign runtime raises means the same here.
        reason = error.message if isinstance(error, ModelryError) else str(error)
        raise ModelUnloadable(reason=reason.rstrip(".") or type(error).__name__) from error
    return model


def _lengths(spec: TensorSpec) -> list[int]:
    """One row; free dimensions as long as they are known to run, else 1."""
    row = spec.example or [1 if length is None else length for length in spec.shape[1:]]
    return [spec.shape[0] or 1, *row]
