"""Which data a recipe takes, decided from the manifest alone."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelry.core.errors import NotFound, WrongDataKind
from modelry.core.manifests import DatasetManifest, Feature, Split
from modelry.core.recipes import get_recipe
from modelry.worker.recipes import cnn
from modelry.worker.recipes.building import build_network, check_data, code_digest


def manifest(**changes: Any) -> DatasetManifest:
    pictures = DatasetManifest(
        features={
            "image": Feature(kind="image", dtype="bytes", shape=[8, 8, 1], scale=1 / 255),
            "label": Feature(kind="label", dtype="int64", labels=["a", "b"]),
        },
        target="label",
        splits={"train": Split(rows=4, files=[]), "test": Split(rows=2, files=[])},
        statistics={},
        preview=[],
        fingerprint="",
        source={},
    )
    return msgspec.structs.replace(pictures, **changes)


def features(**changes: Any) -> dict[str, Feature]:
    return {**manifest().features, **changes}


def test_pictures_with_labels_are_taken() -> None:
    name, feature = check_data(get_recipe("cnn"), "digits", manifest())
    assert (name, feature.shape) == ("image", [8, 8, 1])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (manifest(target=None), "it has no labels"),
        (
            manifest(features=features(label=Feature(kind="number", dtype="float64"))),
            "is not a label but a number",
        ),
        (
            manifest(features=features(label=Feature(kind="label", dtype="int64", labels=["a"]))),
            "fewer than two classes",
        ),
        (manifest(splits={"train": Split(rows=4, files=[])}), "no rows in the split 'test'"),
        (
            manifest(splits={"train": Split(rows=0, files=[]), "test": Split(rows=1, files=[])}),
            "no rows in the split 'train'",
        ),
        (
            manifest(features=features(image=Feature(kind="text", dtype="string"))),
            "it holds text and the recipe takes image or tensor",
        ),
    ],
)
def test_other_data_are_refused_with_the_reason(data: DatasetManifest, reason: str) -> None:
    with pytest.raises(WrongDataKind, match=reason) as refusal:
        check_data(get_recipe("cnn"), "digits", data)
    assert "modelry data show digits" in refusal.value.remedy


def test_an_unknown_recipe_is_not_found() -> None:
    with pytest.raises(NotFound, match="transformer"):
        build_network("transformer", {}, (8, 8), 2)


def test_the_code_digest_is_that_of_the_source_file() -> None:
    source = Path(cnn.__file__).read_bytes()
    assert code_digest("cnn") == hashlib.sha256(source).hexdigest()
