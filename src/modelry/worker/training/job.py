"""The job kind `train`: data in, a verified and described model out."""

from __future__ import annotations

from typing import Any

import msgspec
import torch

from modelry.core.errors import InternalError
from modelry.core.jobs import TrainParams
from modelry.core.manifests import read_model
from modelry.core.recipes import get_recipe
from modelry.core.results import to_result
from modelry.worker.context import JobContext
from modelry.worker.data.reading import Rows, open_dataset
from modelry.worker.models.content import check_content
from modelry.worker.models.package import MANIFEST
from modelry.worker.recipes.building import build_network, check_data
from modelry.worker.recipes.network import Network
from modelry.worker.training.checkpoints import read_checkpoint
from modelry.worker.training.loop import Training
from modelry.worker.training.publishing import publish
from modelry.worker.training.randomness import seed_everything
from modelry.worker.training.samples import Samples, to_samples
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
    check_data(card, name, data.manifest)
    train, test = data.split("train"), data.split("test")
    seed_everything(params["seed"])
    network = build_network(card.name, params, tuple(train.feature.shape), len(train.label_names))
    context.note("parameters", network.parameter_count)
    if "model" in context.spec.inputs:
        _start(context, network, train.label_names)
    if order.freeze:
        freeze(network)
    training = Training(
        network,
        _read(context, train, network),
        params,
        context,
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
        feature=test.feature,
        labels=test.label_names,
        test=_read(context, test, network),
    )
    return to_result(made)


def _start(context: JobContext, network: Network, labels: list[str]) -> None:
    """The beginning is another version's end."""
    folder = context.fetch("model")
    check_content(context.spec.inputs["model"], folder)
    manifest = read_model((folder / MANIFEST).read_bytes())
    has_head = take_weights(network, folder, manifest, labels)
    start = context.spec.names["model"]
    rest = "" if has_head else "; its labels are others, so the last layer begins anew"
    context.log(f"Starts from {start['name']}:{start['version']}{rest}.")


def _read(context: JobContext, rows: Rows, network: Network) -> Samples:
    """A split in memory; the test split comes here once, for the final evaluation."""
    labels = rows.labels
    if labels is None:
        raise InternalError(reason="a split without labels passed the check")
    samples = to_samples(
        rows.inputs, labels, input_shape=network.input_shape, scale=rows.feature.scale
    )
    context.opened(rows.split, len(samples))
    return samples
