"""Nouns as the controller would have stored them, for tests of the calls that stand on them."""

from __future__ import annotations

from typing import Any

import msgspec

from modelry.artifacts import Artifacts
from modelry.core.manifests import (
    DatasetManifest,
    Feature,
    ImageInput,
    ModelManifest,
    RuntimeForm,
    Split,
    TensorSpec,
    Verification,
)
from modelry.core.records import DatasetVersion, Deployment, ModelVersion
from modelry.server.store import Store, datasets, deployments, models

LABELS = ["一", "二", "三"]
IMAGE = Feature(kind="image", dtype="bytes", shape=[28, 28, 1], scale=1 / 255)
LABEL = Feature(kind="label", dtype="int64", labels=LABELS)


def dataset_manifest(**changes: Any) -> DatasetManifest:
    """Pictures with labels, which every recipe can learn from."""
    plain = DatasetManifest(
        features={"image": IMAGE, "label": LABEL},
        target="label",
        splits={
            "train": Split(rows=90, files=["train-0.parquet"]),
            "test": Split(rows=10, files=["test-0.parquet"]),
        },
        statistics={},
        preview=[],
        fingerprint="f" * 64,
        source={"reader": "test"},
    )
    return msgspec.structs.replace(plain, **changes)


def add_dataset(
    store: Store, artifacts: Artifacts, project: str, name: str, **changes: Any
) -> DatasetVersion:
    """A data set version with one file."""
    manifest = dataset_manifest(**changes)
    file = artifacts.put_bytes(f"rows of {project}/{name}".encode(), "train-0.parquet")
    with store.write() as tx:
        datasets.ensure(tx, project, name)
        return datasets.add_version(
            tx, project, name, msgspec.to_builtins(manifest), [file], job_id=None
        )


def add_model(
    store: Store, artifacts: Artifacts, project: str, name: str, *, job_id: str | None = None
) -> ModelVersion:
    """A model version with one file in a folder."""
    verification = Verification(
        max_difference=0.0,
        tolerance=1e-4,
        samples=256,
        batch_sizes=[1, 3, 32],
        disagreements=0,
        rows_per_s=1.0,
        original_rows_per_s=1.0,
    )
    manifest = ModelManifest(
        task="image-classification",
        recipe=None,
        inputs=[TensorSpec(name="image", dtype="float32", shape=[None, 28, 28, 1])],
        outputs=[TensorSpec(name="probabilities", dtype="float32", shape=[None, len(LABELS)])],
        labels=LABELS,
        media=ImageInput(
            height=28, width=28, channels=1, scale=1 / 255, input="image", shape=[28, 28, 1]
        ),
        metrics={"accuracy": 0.99},
        lineage={},
        runtimes={"onnxruntime": RuntimeForm(file="model.onnx", verification=verification)},
        files={},
    )
    file = artifacts.put_bytes(f"weights of {project}/{name}".encode(), "forms/模型.onnx")
    with store.write() as tx:
        models.ensure(tx, project, name)
        return models.add_version(
            tx, project, name, msgspec.to_builtins(manifest), [file], job_id, None
        )


def add_deployment(store: Store, project: str, name: str, version: ModelVersion) -> Deployment:
    """A deployment that nobody starts."""
    with store.write() as tx:
        return deployments.create(
            tx,
            project=project,
            name=name,
            model_version_id=version.id,
            replicas=1,
            max_batch=8,
            threads=1,
        )
