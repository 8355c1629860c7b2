"""The job kind `train`: data in, a verified and described model out."""

from __future__ import annotations

from typing import Any

import msgspec
import torch

from modelry.core.jobs import TrainParams
from modelry.core.learning import plan_lesson
from modelry.core.manifests import read_model
from modelry.core.recipes import get_recipe
from modelry.core.results import to_result
from modelry.worker.context import JobContext
from modelry.worker.data.reading import open_dataset
from modelry.worker.models.content import check_content
from modelry.worker.models.package import MANIFEST
from modelry.worker.recipes.building import build_network
from modelry.worker.recipes.network import Network
from modelry.worker.training.checkpoints import read_checkpoint
from modelry.worker.training.loop import Training
from modelry.worker.training.objectives import make_objective
from modelry.worker.training.processors import Processor, Start, make_processor
from modelry.worker.training.publishing import publish
from modelry.worker.training.randomness import seed_everything
from modelry.worker.training.samples import Samples
from modelry.worker.training.starting import freeze, take_weights


def run(context: JobContext) -> dict[str, Any]:
    """Trains, evaluates, converts, verifies; the result names the package's files."""
    order = msgspec.convert(context.spec.params, TrainParams)
    card = get_recipe(order.recipe)
    params = card.check(order.params)
    torch.set_num_threads(context.spec.threads)
    context.progress("reading data")
    data = open_dataset(context.fetch("data"))
    name = str(context.spec.names.get("data", {}).get("name", "data"))
    lesson = plan_lesson(card, data.manifest, name)
    if lesson.unused:
        context.log(f"Not learned from: {', '.join(lesson.unused)}.", level="warning")
    labels = data.manifest.features[lesson.target].labels or []
    start = _open_start(context)
    processor = make_processor(lesson, data, params, start)
    sizes = {**processor.sizes, "classes": len(labels)}
    seed_everything(params["seed"])
    network = build_network(card.name, params, **sizes)
    processor.settle(network)
    context.note("parameters", network.parameter_count)
    if start is not None:
        _begin_with(context, start, network, labels)
    if order.freeze:
        freeze(network)
    samples = _read(context, processor, "train", network)
    training = Training(
        network,
        samples,
        params,
        context,
        objective=make_objective(lesson.goal, params, network, samples),
        checkpoint_s=order.checkpoint_s,
        checkpoint_steps=order.checkpoint_steps,
    )
    saved = context.restore()
    if saved is not None:
        training.resume(read_checkpoint(saved))
    training.run()
    context.check_stop()
    made = publish(
        context,
        card,
        params,
        network,
        processor,
        sizes=sizes,
        labels=labels,
        test=_read(context, processor, "test", network),
    )
    return to_result(made)


def _open_start(context: JobContext) -> Start | None:
    if "model" not in context.spec.inputs:
        return None
    folder = context.fetch("model")
    check_content(context.spec.inputs["model"], folder)
    return Start(folder, read_model((folder / MANIFEST).read_bytes()))


def _begin_with(context: JobContext, start: Start, network: Network, labels: list[str]) -> None:
    """The beginning is another version's end."""
    has_head = take_weights(network, start.folder, start.manifest, labels)
    named = context.spec.names["model"]
    rest = "" if has_head else "; its labels are others, so the last layer begins anew"
    context.log(f"Starts from {named['name']}:{named['version']}{rest}.")


def _read(context: JobContext, processor: Processor, split: str, network: Network) -> Samples:
    """A split in memory; the test split comes here once, for the final evaluation."""
    samples = processor.samples(split, network)
    context.opened(split, len(samples))
    return samples
