"""Manifests for the doors' tests."""

from __future__ import annotations

from modelry.core.manifests import ImageInput, ModelManifest, TensorSpec


def manifest(
    *inputs: TensorSpec, labels: tuple[str, ...] = ("零", "one", "two"), is_visual: bool = True
) -> ModelManifest:
    """A classifier of 2×3 pictures with one channel, unless other inputs are given."""
    specs = list(inputs) or [TensorSpec(name="x", dtype="float32", shape=[None, 2, 3, 1])]
    media = ImageInput(height=2, width=3, channels=1, scale=1 / 255, input="x", shape=[2, 3, 1])
    return ModelManifest(
        task="image-classification",
        recipe=None,
        inputs=specs,
        outputs=[TensorSpec(name="probabilities", dtype="float32", shape=[None, len(labels)])],
        labels=list(labels),
        media=media if is_visual else None,
        metrics={},
        lineage={},
        runtimes={},
        files={},
    )
