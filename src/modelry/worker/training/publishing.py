"""From a trained network to a model: convert, verify, evaluate, choose the runtime, describe, put into the artifacts.

Can be asked to stop between batches: the training's last checkpoint is kept already, so nothing is lost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from modelry.core.files import FileRef
from modelry.core.manifests import Feature, ImageInput, ModelManifest, Recipe
from modelry.core.recipes import RecipeCard
from modelry.core.results import MadeModel
from modelry.worker.context import JobContext
from modelry.worker.models import package
from modelry.worker.models.evaluate import Evaluation
from modelry.worker.models.lineage import trace
from modelry.worker.models.measuring import measure
from modelry.worker.models.onnx_form import INPUT, OUTPUT, write_onnx
from modelry.worker.models.runtimes.onnxruntime import load
from modelry.worker.models.verify import BATCH_SIZES, Form, original, served, spread_rows, verify
from modelry.worker.recipes.network import Network
from modelry.worker.training.samples import Samples


def publish(
    context: JobContext,
    card: RecipeCard,
    params: dict[str, Any],
    network: Network,
    *,
    feature: Feature,
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
    manifest = package.draft(
        network,
        task=card.task,
        recipe=Recipe(name=card.name, params=params),
        labels=labels,
        media=_media(feature, network.input_shape),
        lineage=trace(context.spec, card.name, params),
        folder=folder,
    )
    manifest = _measure(context, manifest, folder, network, test)
    package.write_manifest(manifest, folder)
    return MadeModel(manifest=manifest, files=_put(context, folder))


def _measure(
    context: JobContext, manifest: ModelManifest, folder: Path, network: Network, test: Samples
) -> ModelManifest:
    """The ONNX form, compared with the network and tried on the test split; then every way to run the model."""
    form = served(load(folder / package.ONNX, manifest, context.spec.threads))
    context.progress("verifying")
    sample, _ = test.batch(torch.from_numpy(spread_rows(len(test))))
    reference = original(network)
    verification = verify(form, reference, sample.numpy())
    context.log(
        f"The ONNX form differs by {verification.max_difference:.1e} at most on {verification.samples} rows and is "
        f"{verification.rows_per_s / verification.original_rows_per_s:.1f} times as fast."
    )
    metrics = _evaluate(context, form, test, manifest.labels)
    context.log(f"Test accuracy {metrics['accuracy']:.2%} on {metrics['rows']} rows.")
    return measure(
        context,
        folder,
        package.measured(manifest, metrics, verification),
        {INPUT: sample.numpy()},
        lambda inputs: {OUTPUT: reference(inputs[INPUT])},
    )


def _evaluate(context: JobContext, form: Form, test: Samples, labels: list[str]) -> dict[str, Any]:
    evaluation, rows = Evaluation(labels), BATCH_SIZES[-1]
    steps = -(-len(test) // rows)
    for step, (inputs, truth) in enumerate(test.batches(torch.arange(len(test)), rows)):
        context.check_stop()
        context.progress("evaluating", step=step, total_steps=steps)
        evaluation.add(form(inputs.numpy()), truth.numpy())
    metrics = evaluation.metrics()
    context.note("test_accuracy", metrics["accuracy"])
    return metrics


def _media(feature: Feature, input_shape: tuple[int, ...]) -> ImageInput | None:
    """How a picture becomes the tensor input, where the data are pictures: images, or scaled bytes in their shape."""
    shape = [*feature.shape, 1] if len(feature.shape) == 2 else feature.shape
    is_picture = feature.kind == "image" or (feature.dtype == "uint8" and feature.scale != 1.0)
    if not is_picture or len(shape) != 3 or shape[2] not in (1, 3):
        return None
    height, width, channels = shape
    return ImageInput(
        height=height,
        width=width,
        channels=channels,
        scale=feature.scale,
        input=INPUT,
        shape=list(input_shape),
    )


def _put(context: JobContext, folder: Path) -> list[FileRef]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [context.artifacts.put_file(file, file.relative_to(folder).as_posix()) for file in files]
