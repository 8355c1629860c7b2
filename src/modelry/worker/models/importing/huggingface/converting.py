"""The conversion itself, in whatever process: load, describe, export, compare."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from modelry.core.errors import InvalidParameter, NotConvertible, VerificationFailed
from modelry.core.manifests import ModelManifest, RuntimeForm, TensorSpec, Verification
from modelry.core.tensors import Array
from modelry.worker.models.importing.comparing import Case, compare
from modelry.worker.models.importing.huggingface.front import Front
from modelry.worker.models.importing.huggingface.settings import Settings, read_settings

MODEL = "model.onnx"

_OUTPUTS = {
    "question-answering": ("start_logits", "end_logits"),
    "feature-extraction": ("last_hidden_state",),
    "sentence-similarity": ("last_hidden_state",),
}
_CLASSES = ("text-classification", "image-classification", "audio-classification")
_LABELLED = (*_CLASSES, "token-classification", "zero-shot-classification")


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be converted, as plain values."""

    folder: str
    out: str
    #: Where sample rows are left, as `.npz`, for measuring the form.
    samples: str
    task: str | None = None
    labels: list[str] | None = None


def examine(question: Any) -> dict[str, Any]:
    """The draft manifest of what was written to `out`, as plain values; see `base.Convert`."""
    asked = msgspec.convert(question, Question)
    # The library reads these when it is imported: nothing is fetched, nothing is told.
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    settings = read_settings(Path(asked.folder), asked.task)
    manifest = convert_folder(settings, asked.labels, Path(asked.out), Path(asked.samples))
    built: dict[str, Any] = msgspec.to_builtins(manifest)
    return built


def convert_folder(
    settings: Settings, labels: list[str] | None, out: Path, samples: Path
) -> ModelManifest:
    """Raises `UnsafeFile`, `NotConvertible` and `VerificationFailed`."""
    from modelry.worker.models.importing.huggingface.export import Traced, export
    from modelry.worker.models.importing.huggingface.loading import load_original

    model = load_original(settings)
    front = _front(settings, model, out)
    traced = Traced(
        model, [spec.name for spec in front.inputs], _OUTPUTS.get(settings.task, ("logits",))
    )
    outputs = _outputs(traced.run(front.cases[0].inputs), front.cases[0])
    inputs = export(traced, front.inputs, outputs, front.cases[0].inputs, out / MODEL)
    draft = ModelManifest(
        task=settings.task,
        framework="transformers",
        recipe=None,
        inputs=inputs,
        outputs=outputs,
        labels=_labels(settings, model.config, labels),
        media=_narrowed(front, inputs),
        activation=_activation(settings.task, model.config),
        metrics={},
        lineage={},
        source=_found(settings, model),
        runtimes={"onnxruntime": RuntimeForm(file=MODEL)},
        files={},
    )
    verification = _verify(draft, front, traced, out)
    _leave_samples(front, inputs, samples)
    forms = {"onnxruntime": RuntimeForm(file=MODEL, verification=verification)}
    return msgspec.structs.replace(draft, runtimes=forms)


def _front(settings: Settings, model: Any, out: Path) -> Front:
    match settings.task:
        case "image-classification":
            from modelry.worker.models.importing.huggingface.pictures import picture_front

            return picture_front(settings, model)
        case "audio-classification":
            from modelry.worker.models.importing.huggingface.sounds import sound_front

            return sound_front(settings, model)
    from modelry.worker.models.importing.huggingface.texts import text_front

    return text_front(settings, model, out)


def _outputs(answer: dict[str, Array], case: Case) -> list[TensorSpec]:
    """What comes out: rows are free, and so is a second dimension that is as long as the texts."""
    are_tokens = next(iter(case.inputs.values())).dtype == np.int64
    specs = []
    for name, value in answer.items():
        shape: list[int | None] = [None, *value.shape[1:]]
        if are_tokens and (value.ndim > 2 or name != "logits"):
            shape[1] = None
        specs.append(TensorSpec(name=name, dtype=value.dtype.name, shape=shape))
    return specs


def _narrowed(front: Front, inputs: list[TensorSpec]) -> Any:
    """The media without the roles that the graph does not need."""
    roles = getattr(front.media, "inputs", None)
    if roles is None:
        return front.media
    kept = {spec.name for spec in inputs}
    return msgspec.structs.replace(
        front.media, inputs={role: name for role, name in roles.items() if name in kept}
    )


def _labels(settings: Settings, config: Any, given: list[str] | None) -> list[str]:
    if settings.task not in _LABELLED:
        return []
    count = int(config.num_labels)
    if given is None:
        return [str(config.id2label[index]) for index in range(count)]
    if len(given) != count:
        raise InvalidParameter(
            name="labels", value=f"{len(given)} names", expected=f"{count}, one for each class"
        )
    return given


def _activation(task: str, config: Any) -> Literal["none", "softmax", "sigmoid"]:
    """By the problem the model was trained for, as the library's own pipelines do."""
    if task not in _CLASSES:
        return "none" if task in ("feature-extraction", "sentence-similarity") else "softmax"
    problem = getattr(config, "problem_type", None)
    if problem == "regression":
        return "none"
    if problem == "multi_label_classification" or config.num_labels == 1:
        return "sigmoid"
    return "softmax"


def _found(settings: Settings, model: Any) -> dict[str, Any]:
    import transformers

    return {
        "architecture": type(model).__name__,
        "model_type": settings.config["model_type"],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "converted_with": f"transformers {transformers.__version__}",
    }


def _verify(draft: ModelManifest, front: Front, traced: Any, out: Path) -> Verification:
    """The graph as it will serve beside the original; raises `NotConvertible` or `VerificationFailed`."""
    from modelry.worker.models.runtimes.onnxruntime import load

    form = load(out / MODEL, draft, 1)
    names = {spec.name for spec in draft.inputs}
    cases = [
        Case({name: array for name, array in case.inputs.items() if name in names}, case.rows)
        for case in front.cases
    ]
    try:
        return compare(
            form.run,
            traced.run,
            cases,
            classes="logits" if draft.task in _CLASSES else None,
        )
    except VerificationFailed as error:
        raise NotConvertible(
            reason=f"its ONNX form does not answer as it does ({error.message.rstrip('.')})",
            remedy="Texts that share a batch are padded, which not every architecture allows; choose another.",
        ) from None


def _leave_samples(front: Front, inputs: list[TensorSpec], file: Path) -> None:
    """Rows that look like those of users, for whoever measures the form."""
    batch = max(front.cases, key=lambda case: len(case.rows)).inputs
    arrays = {f"i{number}": batch[spec.name] for number, spec in enumerate(inputs)}
    np.savez(file, **arrays)  # type: ignore[arg-type]
