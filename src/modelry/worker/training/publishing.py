"""From a trained network to a model: convert, verify, evaluate, choose the runtime, describe, put into the artifacts.

Can be asked to stop between batches: the training's last checkpoint is kept already, so nothing is lost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from modelry.core.files import FileRef
from modelry.core.manifests import ModelManifest, Recipe
from modelry.core.recipes import RecipeCard
from modelry.core.results import MadeModel
from modelry.worker.context import JobContext
from modelry.worker.models import package
from modelry.worker.models.lineage import trace
from modelry.worker.models.measuring import measure
from modelry.worker.models.onnx_form import write_onnx
from modelry.worker.models.runtimes.onnxruntime import load
from modelry.worker.models.verify import BATCH_SIZES, Form, original, served, spread_rows, verify
from modelry.worker.recipes.network import Network
from modelry.worker.training.processors import Processor
from modelry.worker.training.samples import Samples


def publish(
    context: JobContext,
    card: RecipeCard,
    params: dict[str, Any],
    network: Network,
    processor: Processor,
    *,
    sizes: dict[str, Any],
    labels: list[str],
    test: Samples,
) -> MadeModel:
    """The model as files; raises `VerificationFailed` where the form to be served is not the network."""
    network.eval()
    folder = context.work / "package"
    folder.mkdir()
    context.progress("converting")
    package.write_weights(network, folder)
    write_onnx(network, folder / package.ONNX)
    processor.write(folder)
    row, _ = test.batch(torch.tensor([len(test) // 2]))
    manifest = package.draft(
        network,
        task=processor.task or card.task,
        recipe=Recipe(name=card.name, params=params, sizes=sizes),
        labels=labels,
        media=processor.media(network),
        lineage=trace(context.spec, card.name, params),
        folder=folder,
        example=row.shape[1:],
    )
    manifest = _measure(context, manifest, folder, network, test)
    package.write_manifest(manifest, folder)
    return MadeModel(manifest=manifest, files=_put(context, folder))


def _measure(
    context: JobContext, manifest: ModelManifest, folder: Path, network: Network, test: Samples
) -> ModelManifest:
    """The ONNX form, compared with the network and tried on the test split; then every way to run the model."""
    form = served(load(folder / package.ONNX, manifest, context.spec.threads), manifest)
    context.progress("verifying")
    sample, _ = test.batch(torch.from_numpy(spread_rows(len(test))))
    reference = original(network)
    verification = verify(form, reference, sample.numpy())
    context.log(
        f"The ONNX form differs by {verification.max_difference:.1e} at most on {verification.samples} rows and is "
        f"{verification.rows_per_s / verification.original_rows_per_s:.1f} times as fast."
    )
    metrics = _evaluate(context, form, test, manifest.labels)
    return measure(
        context,
        folder,
        package.measured(manifest, metrics, verification),
        {network.input_name: sample.numpy()},
        lambda inputs: {network.output_name: reference(inputs[network.input_name])},
    )


def _evaluate(context: JobContext, form: Form, test: Samples, labels: list[str]) -> dict[str, Any]:
    evaluation, rows = test.evaluation(labels), BATCH_SIZES[-1]
    steps = -(-len(test) // rows)
    for step, (inputs, truth) in enumerate(test.batches(torch.arange(len(test)), rows)):
        context.check_stop()
        context.progress("evaluating", step=step, total_steps=steps)
        evaluation.add(form(inputs.numpy()), truth.numpy())
    metrics = evaluation.metrics()
    context.note(f"test_{evaluation.score}", metrics[evaluation.score])
    context.log(f"Test {evaluation.describe()} on {metrics['rows']} rows.")
    return metrics


def _put(context: JobContext, folder: Path) -> list[FileRef]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [context.artifacts.put_file(file, file.relative_to(folder).as_posix()) for file in files]
