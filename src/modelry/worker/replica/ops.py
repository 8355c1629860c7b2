"""The ops of a replica: each opens a request as rows for the model and a way to finish their outputs.

The rooms of the ops beside `predict` are imported with the first request that needs them: most replicas never do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from modelry.core.errors import InvalidRequest
from modelry.core.frames import Op
from modelry.core.inputs import check_inputs
from modelry.core.manifests import ModelManifest
from modelry.core.tensors import decode_payload, encode_payload
from modelry.worker.tasks import prepare
from modelry.worker.tasks.opened import Opened

#: Fitting shapes that are remembered.
REMEMBERED = 1024

Shapes = tuple[tuple[str, str, tuple[int, ...]], ...]


class Served(Protocol):
    """What the ops know of the model."""

    @property
    def manifest(self) -> ModelManifest: ...

    @property
    def folder(self) -> Path:
        """The package."""


class Ops:
    """Opens the requests of one model."""

    def __init__(self, model: Served) -> None:
        self._model = model
        #: Names, types and shapes that were found to fit, as most requests have the same.
        self._fitting: set[Shapes] = set()

    def open(self, op: int, data: bytes) -> Opened:
        """A request, ready to run; raises for what does not fit the model."""
        match op:
            case Op.PREDICT:
                return self._open_prediction(data)
            case Op.TASK:
                from modelry.worker.tasks import open_task

                return open_task(data, self._model)
            case Op.EXPLAIN:
                from modelry.worker.explain import open_explain

                return open_explain(data, self._model)
        raise InvalidRequest(reason=f"a model has no op {op}")

    def _open_prediction(self, data: bytes) -> Opened:
        payload = decode_payload(data)
        if payload.media:
            return Opened(prepare(payload, self._model.manifest), encode_payload)
        tensors = payload.tensors
        shapes = tuple([(name, array.dtype.char, array.shape) for name, array in tensors.items()])
        if shapes not in self._fitting:
            check_inputs(tensors, self._model.manifest.inputs)
            if len(self._fitting) >= REMEMBERED:
                self._fitting.clear()
            self._fitting.add(shapes)
        return Opened(tensors, encode_payload)
