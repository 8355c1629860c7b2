"""ONNX files: checked, tried and given rows in a confined process, then described by what was found there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from modelry.core.errors import InvalidParameter, NotConvertible
from modelry.core.jobs import ImportModelParams
from modelry.core.labels import read_labels
from modelry.core.manifests import (
    ImageInput,
    ModelManifest,
    RuntimeForm,
    TensorSpec,
    Verification,
)
from modelry.core.preprocessing import image_input, picture_layout
from modelry.worker.context import JobContext
from modelry.worker.models.importing.base import refuse
from modelry.worker.models.importing.checking import FileKind, check_file
from modelry.worker.models.importing.confined import Exceeded, Limits, run_confined
from modelry.worker.models.importing.protobuf import is_onnx
from modelry.worker.models.importing.rows import Rows
from modelry.worker.models.importing.trying import MODEL, ROWS, Question, Tried

#: What a graph may take of time and memory while it is tried.
TIME_S = 120.0
_MEMORY_BYTES = 4 << 30
#: Memory for each byte of the model: the file, the parsed graph, the session, the rewritten copy.
_MEMORY_PER_BYTE = 8
_LABEL_FILES = ("labels.json", "labels.txt", "config.json")
_LIGHTER = "Export a smaller model, or one without loops that never end, and import that."
#: Operators that end in scores already; of the others the trial's answers tell.
_SCORES = ("Softmax", "Sigmoid")


def convert(
    folder: Path, params: ImportModelParams, out: Path, context: JobContext
) -> ModelManifest:
    """The package of the folder's one graph; see `base.Convert`."""
    graph = find_graph(folder)
    question = Question(
        name=graph.name,
        file=str(graph),
        out=str(out),
        scratch=str(context.work),
        preprocess=params.preprocess,
    )
    context.progress("checking and trying the graph")
    tried = try_graph(question, context)
    _refuse_unused(folder, graph, tried)
    for name in tried.left_out:
        context.log(f"The output '{name}' is not of numbers and is left out.", level="warning")
    if tried.rows is not Rows.OWN:
        context.log(f"Rows: {tried.rows.value}.")
    return _describe(folder, params, tried)


def find_graph(folder: Path) -> Path:
    """The one graph of the folder; raises `NotConvertible` for none and for several."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and is_onnx(path))
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.relative_to(folder).as_posix() for path in found[:5]) or "none"
    raise NotConvertible(
        reason=f"the source must hold one ONNX graph and holds {len(found)} ({names})",
        remedy="Import one file, with the data files that belong to it.",
    )


def try_graph(question: Question, context: JobContext) -> Tried:
    """What the confined process found; raises `UnsafeFile` where the graph ate its time or memory."""
    file = Path(question.file)
    size = sum(path.stat().st_size for path in file.parent.rglob("*") if path.is_file())
    limits = Limits(memory_bytes=_MEMORY_BYTES + _MEMORY_PER_BYTE * size, time_s=TIME_S)
    try:
        answer = run_confined(
            "modelry.worker.models.importing.trying:examine",
            msgspec.to_builtins(question),
            limits,
            context.check_stop,
        )
    except Exceeded as error:
        raise refuse(question.name, str(error), _LIGHTER) from None
    return msgspec.convert(answer, Tried)


def _refuse_unused(folder: Path, graph: Path, tried: Tried) -> None:
    """Raw data that the graph does not name is of no known kind."""
    named = {(graph.parent / name).resolve() for name in tried.external}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.resolve() in named:
            continue
        name = path.relative_to(folder).as_posix()
        if check_file(name, path) is FileKind.DATA:
            raise refuse(
                name, "its content is of no kind that an import takes, and no graph names it"
            )


def _describe(folder: Path, params: ImportModelParams, tried: Tried) -> ModelManifest:
    outputs = _scores_first(tried)
    media = _media(params, tried.inputs)
    task = params.task or _deduce(tried, outputs[0])
    labels = _labels(folder, params, task, outputs[0])
    return ModelManifest(
        task=task,
        framework="onnx",
        recipe=None,
        inputs=tried.inputs,
        outputs=outputs,
        labels=labels,
        media=media,
        activation=_activation(tried, task, outputs[0]),
        metrics={},
        lineage={},
        source=_found(tried),
        runtimes={"onnxruntime": RuntimeForm(file=MODEL, verification=_verification(tried))},
        files={},
    )


def _found(tried: Tried) -> dict[str, Any]:
    return {
        "graph": {
            "opsets": tried.opsets,
            "producer": tried.producer,
            "operators": tried.operators,
            "external_files": tried.external,
            "rows": tried.rows.value,
            "left_out": tried.left_out,
        }
    }


def _verification(tried: Tried) -> Verification | None:
    """None where the graph is published as it came."""
    if tried.rows in (Rows.OWN, Rows.FIXED):
        return None
    return Verification(
        max_difference=tried.difference,
        tolerance=tried.tolerance,
        samples=ROWS,
        batch_sizes=[1, ROWS],
        disagreements=0,
        rows_per_s=tried.rows_per_s,
        original_rows_per_s=tried.original_rows_per_s,
    )


def _scores_first(tried: Tried) -> list[TensorSpec]:
    """Doors read scores from the first output: of several, the one with one number for each class stands there."""
    if _is_scores(tried.outputs[0]):
        return tried.outputs
    scores = [spec for spec in tried.outputs if _is_scores(spec)]
    if len(scores) != 1:
        return tried.outputs
    return [scores[0], *(spec for spec in tried.outputs if spec is not scores[0])]


def _is_scores(spec: TensorSpec) -> bool:
    return spec.dtype.startswith("float") and len(spec.shape) == 2 and (spec.shape[1] or 0) >= 2


def _deduce(tried: Tried, output: TensorSpec) -> str:
    """`image-classification` for one picture in and N scores out, `tabular-classification` for a row of numbers."""
    if len(tried.inputs) != 1 or not _is_scores(output):
        return "tensor"
    taken = tried.inputs[0]
    if picture_layout(taken) is not None and taken.dtype == "float32":
        return "image-classification"
    is_row = len(taken.shape) == 2 and taken.dtype.startswith("float")
    has_scores = tried.ends_with.get(output.name) in _SCORES or output.name in tried.are_shares
    return "tabular-classification" if is_row and has_scores else "tensor"


def _media(params: ImportModelParams, inputs: list[TensorSpec]) -> ImageInput | None:
    if params.preprocess is None:
        return None
    pictures = [spec for spec in inputs if picture_layout(spec) is not None]
    return image_input(params.preprocess, (pictures or inputs)[0])


def _labels(folder: Path, params: ImportModelParams, task: str, output: TensorSpec) -> list[str]:
    """The given ones, or those of a file beside the graph, or plain numbers; raises `InvalidParameter`."""
    classes = output.shape[1] if _is_scores(output) else None
    labels = params.labels or _labels_beside(folder, classes)
    if labels is None:
        return [] if classes is None or task == "tensor" else [str(n) for n in range(classes)]
    if classes is None:
        raise InvalidParameter(
            f"The model has no output with one score for each class, so {len(labels)} labels name nothing.",
            remedy="Leave --labels away.",
        )
    if len(labels) != classes:
        raise InvalidParameter(
            f"There are {len(labels)} labels, and the output '{output.name}' has {classes} classes.",
            remedy="Give one label for each class, in the order of the output.",
        )
    return labels


def _labels_beside(folder: Path, classes: int | None) -> list[str] | None:
    """Of a file that came with the graph, if it fits; a file that does not is somebody else's."""
    for name in _LABEL_FILES:
        file = folder / name
        if classes is None or not file.is_file():
            continue
        if name == "config.json" and b"id2label" not in file.read_bytes():
            continue
        labels = read_labels(name, file.read_bytes())
        if len(labels) == classes:
            return labels
    return None


def _activation(tried: Tried, task: str, output: TensorSpec) -> Any:
    """What is left to do to the scores: nothing where the graph ends in them, or where the rows added up to 1."""
    if not task.endswith("classification"):
        return "none"
    if tried.ends_with.get(output.name) in _SCORES or output.name in tried.are_shares:
        return "none"
    return "softmax"
