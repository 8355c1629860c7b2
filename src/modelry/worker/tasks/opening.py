"""From a task's call to rows for the model: which task a model does, and where it is found.

Nothing of a task is imported before a model needs it: most replicas serve tensors or pictures alone.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol

from modelry.core.calls import TaskCall, unpack
from modelry.core.errors import UnsupportedTask
from modelry.core.manifests import AudioInput, ImageInput, ModelManifest, TextInput
from modelry.core.tensors import Array
from modelry.worker.tasks.opened import Opened


class TaskModel(Protocol):
    """What a task knows of the model it serves."""

    @property
    def manifest(self) -> ModelManifest: ...

    @property
    def folder(self) -> Path:
        """The package."""


class Open(Protocol):
    """One task: a call as rows, and what makes its answer."""

    def __call__(self, call: TaskCall, model: TaskModel) -> Opened:
        """Raises `BadInput` for what the task does not take."""


#: Hugging Face's name of the task → its module here, by the kind of media the model takes.
TASKS: dict[type, dict[str, str]] = {
    ImageInput: {
        "image-classification": "image_classification",
        # A picture that is read row by row.
        "sequence-classification": "image_classification",
    },
    AudioInput: {"audio-classification": "audio_classification"},
    TextInput: {
        "text-classification": "text_classification",
        "token-classification": "token_classification",
        "question-answering": "question_answering",
        "feature-extraction": "feature_extraction",
        "sentence-similarity": "feature_extraction",
        "zero-shot-classification": "zero_shot_classification",
        "fill-mask": "fill_mask",
    },
}


def open_task(data: bytes, model: TaskModel) -> Opened:
    """A packed `TaskCall`, ready to run; its answer is a packed `TaskAnswer`. Raises `BadInput`."""
    call = unpack(data, TaskCall)
    manifest = model.manifest
    module = TASKS.get(type(manifest.media), {}).get(manifest.task)
    if module is None:
        raise UnsupportedTask(
            f"The model does {manifest.task} on tensors; it takes no call in the words of a task.",
            remedy="Send it tensors.",
        )
    if module == "feature_extraction" and isinstance(call.inputs, dict):
        module = "sentence_similarity"
    return _find(module)(call, model)


def example_text(model: TaskModel) -> dict[str, Array] | None:
    """A text as rows, where the model takes texts; else None. Raises `ModelUnloadable` for a bad tokenizer."""
    if not isinstance(model.manifest.media, TextInput):
        return None
    from modelry.worker.tasks.tokens import tokenizer_of

    return tokenizer_of(model).example()


def _find(module: str) -> Open:
    found: Open = importlib.import_module(f"modelry.worker.tasks.{module}").open_call
    return found
