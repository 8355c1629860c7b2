"""The job kind `analyze`: what each layer of a model costs, counted from its graph and timed on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import onnx
import torch

from modelry.core.analysis import NOTE, OPTIMIZER_SLOTS, Analysis
from modelry.core.errors import ModelUnloadable
from modelry.core.jobs import AnalyzeParams
from modelry.core.learning import Goal, plan_lesson
from modelry.core.manifests import TensorSpec, read_model
from modelry.core.recipes import get_recipe
from modelry.worker.analysis import calls
from modelry.worker.analysis.behaviour import behaviour
from modelry.worker.analysis.counting import Counter
from modelry.worker.analysis.rates import measure_rates
from modelry.worker.context import JobContext
from modelry.worker.data.reading import open_dataset
from modelry.worker.models.content import check_content
from modelry.worker.models.onnx_form import write_onnx
from modelry.worker.recipes.building import build_network
from modelry.worker.training.processors import make_processor
from modelry.worker.training.samples import Samples

_TIMED_ROWS = 32
#: For the timed runs, the first of which is not counted.
_PATIENCE_S = 3.0
_RUNS = (3, 50)


@dataclass(frozen=True)
class _Subject:
    """What is analysed."""

    file: Path
    inputs: list[TensorSpec]
    optimizer: str
    #: The training rows, where it is to be told how descent behaves on them.
    samples: Samples | None = None
    sizes: dict[str, Any] = field(default_factory=dict)
    goal: Goal = "classification"


def run(context: JobContext) -> dict[str, Any]:
    """Counts, times and notes it; makes nothing."""
    order = msgspec.convert(context.spec.params, AnalyzeParams)
    context.progress("reading the graph")
    subject = _from_recipe(context, order) if order.recipe else _from_package(context)
    analysis = analyze(subject, order.name, context)
    if subject.samples is not None:
        assert order.recipe is not None
        found = behaviour(
            context,
            order.recipe,
            {**order.params, "learning_rate": order.learning_rate},
            subject.samples,
            subject.sizes,
            subject.goal,
        )
        analysis = msgspec.structs.replace(analysis, behaviour=found)
    context.note(NOTE, msgspec.to_builtins(analysis))
    context.log(
        f"{analysis.macs:,} multiply-adds forward and {analysis.macs_backward:,} backward for each row, "
        f"{analysis.parameters:,} parameters."
    )
    return {}


def analyze(subject: _Subject, name: str, context: JobContext) -> Analysis:
    """Runs the graph once for the counts and some times for the clock."""
    model = onnx.load(str(subject.file), load_external_data=False)
    nodes = calls.name_nodes(model.graph)
    # Beside the original: its weights may lie in files that the graph names relative to itself.
    named = subject.file.with_name("analysed.onnx")
    onnx.save(model, str(named))
    threads = context.spec.threads
    context.progress("counting")
    rows = subject.inputs[0].shape[0] or 1
    began = time.monotonic()
    (counted,) = calls.run(named, calls.make_feeds(subject.inputs, 1), threads, 1)
    once_s = time.monotonic() - began
    context.check_stop()
    timed_rows = subject.inputs[0].shape[0] or _TIMED_ROWS
    runs = int(min(max(_PATIENCE_S / (once_s * timed_rows / rows), _RUNS[0]), _RUNS[1]))
    context.progress("timing")
    # The first run also looks for memory.
    timed = calls.run(named, calls.make_feeds(subject.inputs, timed_rows), threads, runs + 1)
    context.check_stop()
    context.progress("measuring the machine")
    counter = Counter(model.graph, nodes, rows)
    layers = counter.layers(counted, timed[1:])
    return Analysis(
        name=name,
        layers=layers,
        rates=measure_rates(threads),
        timed_rows=timed_rows,
        row_shapes={spec.name: calls.row_shape(spec) for spec in subject.inputs},
        optimizer=subject.optimizer,
        uncounted=sorted(counter.uncounted),
    )


def _from_recipe(context: JobContext, order: AnalyzeParams) -> _Subject:
    """The untrained network for the data's rows: its cost is the trained one's."""
    assert order.recipe is not None
    data = open_dataset(context.fetch("data"))
    lesson = plan_lesson(get_recipe(order.recipe), data.manifest, order.name)
    processor = make_processor(lesson, data, order.params)
    classes = len(data.manifest.features[lesson.target].labels or ())
    sizes = {**processor.sizes, "classes": classes}
    network = build_network(order.recipe, order.params, **sizes)
    samples = processor.samples("train", network)
    row, _ = samples.batch(torch.tensor([len(samples) // 2]))
    # Biases that are all zero would become one tensor in the graph.
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    file = context.work / "model.onnx"
    write_onnx(network, file)
    takes = TensorSpec(
        name=network.input_name,
        dtype=network.input_dtype,
        shape=[None, *network.input_shape],
        example=list(row.shape[1:]) if None in network.input_shape else None,
    )
    told = samples if order.behaviour else None
    return _Subject(file, [takes], _optimizer(order.params), told, sizes, lesson.goal)


def _from_package(context: JobContext) -> _Subject:
    folder = context.fetch("model")
    check_content(context.spec.inputs["model"], folder)
    manifest = read_model((folder / "model.json").read_bytes())
    form = manifest.runtimes.get("onnxruntime")
    if form is None:
        raise ModelUnloadable(reason="it has no ONNX graph to count in")
    params = manifest.recipe.params if manifest.recipe else {}
    return _Subject(folder / form.file, manifest.inputs, _optimizer(params))


def _optimizer(params: dict[str, Any]) -> str:
    """Whose memory a training takes; adam's where the model does not say."""
    name = str(params.get("optimizer", "adam"))
    if name == "sgd" and params.get("momentum"):
        name = "sgd with momentum"
    return name if name in OPTIMIZER_SLOTS else "adam"
