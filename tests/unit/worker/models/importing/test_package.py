"""Packages and bundles of Modelry's own: taken only whole, built anew, and equal in their answers."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelry.client.bundling import find_bundle_name, write_bundle
from modelry.core.errors import ModelryError, NotConvertible, UnsafeFile
from modelry.core.files import FileRef
from modelry.core.manifests import Recipe, RuntimeForm, Verification
from modelry.core.recipes import get_recipe
from modelry.core.records import ModelVersion
from modelry.core.results import MadeModel
from modelry.worker.models import package
from modelry.worker.models.onnx_form import write_onnx
from modelry.worker.recipes.building import build_network
from tests.importing import ModelImporter, linear, onnx_bytes

_LABELS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small trained-like model as `models export` writes it."""
    folder = tmp_path_factory.mktemp("package")
    torch.manual_seed(0)
    params = get_recipe("cnn").check({"channels": [4], "hidden": [8]})
    network = build_network("cnn", params, shape=(8, 8, 1), classes=len(_LABELS)).eval()
    package.write_weights(network, folder)
    write_onnx(network, folder / package.ONNX)
    draft = package.draft(
        network,
        task="image-classification",
        recipe=Recipe(name="cnn", params=params),
        labels=_LABELS,
        media=None,
        lineage={"job": "job_elsewhere"},
        folder=folder,
    )
    checked = Verification(
        max_difference=0.0,
        tolerance=1e-4,
        samples=1,
        batch_sizes=[1],
        disagreements=0,
        rows_per_s=1.0,
        original_rows_per_s=1.0,
    )
    manifest = package.measured(draft, {"accuracy": 0.5}, checked)
    assert manifest.runtimes == {
        "onnxruntime": RuntimeForm(file="model.onnx", verification=checked)
    }
    package.write_manifest(manifest, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _changed(package_files: dict[str, bytes], **words: Any) -> dict[str, bytes]:
    """The package with other words in its manifest."""
    manifest = {**json.loads(package_files["model.json"]), **words}
    return {**package_files, "model.json": json.dumps(manifest).encode()}


def _with_file(files: dict[str, bytes], name: str, data: bytes) -> dict[str, bytes]:
    """The package with another content of a file, and its true digest in the manifest."""
    digests = {**json.loads(files["model.json"])["files"], name: hashlib.sha256(data).hexdigest()}
    return _changed({**files, name: data}, files=digests)


def _version(made: MadeModel) -> ModelVersion:
    return ModelVersion(
        id="mdv_1",
        model="test",
        version=3,
        manifest={},
        files=tuple(made.files),
        size_bytes=1,
        job_id=None,
        dataset_version_id=None,
        created_at=0.0,
        aliases=(),
    )


class TestPackage:
    def test_a_trained_model_is_built_anew_and_answers_as_before(
        self, model_importer: ModelImporter, exported: dict[str, bytes], tmp_path: Path
    ) -> None:
        made = model_importer.upload(exported)
        before = tmp_path / "before"
        before.mkdir()
        for name, data in exported.items():
            (before / name).write_bytes(data)
        network = package.load_recipe_model(before)
        x = np.random.default_rng(0).random((5, 8, 8, 1), dtype=np.float32)
        runtime, manifest, _ = model_importer.open(made)
        wanted = network(torch.from_numpy(x)).softmax(-1).detach().numpy()
        assert np.allclose(runtime.run({"x": x})["probabilities"], wanted, atol=1e-4)
        assert manifest.labels == _LABELS
        assert manifest.metrics == {"accuracy": 0.5}
        assert manifest.source is not None
        assert "metrics" in manifest.source["told_by_package"]
        assert manifest.lineage["job"] == "job_elsewhere"

    def test_its_own_form_is_not_even_opened(
        self, model_importer: ModelImporter, exported: dict[str, bytes]
    ) -> None:
        other = _with_file(exported, "model.onnx", onnx_bytes(linear()))
        made = model_importer.upload(other)
        assert made.manifest.inputs[0].shape == [None, 8, 8, 1]
        model_importer.open(made)

    def test_a_changed_file_is_refused(
        self, model_importer: ModelImporter, exported: dict[str, bytes]
    ) -> None:
        weights = bytearray(exported["weights.safetensors"])
        weights[-1] ^= 1
        with pytest.raises(UnsafeFile, match="SHA-256"):
            model_importer.upload({**exported, "weights.safetensors": bytes(weights)})

    def test_a_file_too_many_or_too_few_is_refused(
        self, model_importer: ModelImporter, exported: dict[str, bytes]
    ) -> None:
        with pytest.raises(UnsafeFile, match="not named"):
            model_importer.upload({**exported, "notes.txt": b"hello"})
        fewer = {name: data for name, data in exported.items() if name != "weights.safetensors"}
        with pytest.raises(UnsafeFile, match="missing"):
            model_importer.upload(fewer)

    @pytest.mark.parametrize(
        "recipe",
        [
            {"name": "nobodys", "params": {}},
            {"name": "cnn", "params": {"channels": [2048] * 8, "hidden": [16384] * 8}},
            {"name": "cnn", "params": {"channels": [5]}},
            {"name": "rnn", "params": {"hidden": 4096}},
            {"name": "cnn", "params": {"evil": 1}},
        ],
    )
    def test_weights_that_are_not_the_recipes_are_refused(
        self, model_importer: ModelImporter, exported: dict[str, bytes], recipe: dict[str, Any]
    ) -> None:
        with pytest.raises((UnsafeFile, NotConvertible)) as caught:
            model_importer.upload(_changed(exported, recipe=recipe))
        assert caught.value.remedy

    @pytest.mark.parametrize(
        "words",
        [
            {"format_version": 99},
            {"inputs": []},
            {"labels": ["a", "", "c"]},
            {"recipe": "cnn"},
            {"inputs": [{"name": "x", "dtype": "float32", "shape": [None, 1 << 40, 8, 1]}]},
        ],
    )
    def test_words_that_cannot_be_are_refused(
        self, model_importer: ModelImporter, exported: dict[str, bytes], words: dict[str, Any]
    ) -> None:
        with pytest.raises(ModelryError) as caught:
            model_importer.upload(_changed(exported, **words))
        assert caught.value.remedy

    def test_an_imported_model_goes_round_with_its_labels(
        self, model_importer: ModelImporter
    ) -> None:
        first = model_importer.upload({"m.onnx": onnx_bytes(linear())}, labels=_LABELS)
        _, _, folder = model_importer.open(first)
        again = model_importer.path(folder)
        assert again.manifest.labels == _LABELS
        assert again.manifest.source is not None
        assert again.manifest.source["came_from"]["format"] == "onnx"
        assert again.manifest.files["model.onnx"] == first.manifest.files["model.onnx"]

    def test_a_form_that_is_not_what_the_manifest_says_is_refused(
        self, model_importer: ModelImporter
    ) -> None:
        first = model_importer.upload({"m.onnx": onnx_bytes(linear())})
        _, _, folder = model_importer.open(first)
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        inputs = [{"name": "z", "dtype": "float32", "shape": [None, 4]}]
        with pytest.raises(UnsafeFile, match="not those that model.json names"):
            model_importer.upload(_changed(files, inputs=inputs))

    def test_a_package_says_itself_what_its_labels_are(
        self, model_importer: ModelImporter, exported: dict[str, bytes]
    ) -> None:
        with pytest.raises(NotConvertible, match="says itself"):
            model_importer.upload(exported, labels=["x", "y", "z"])


class TestBundle:
    @pytest.fixture
    def bundle(self, model_importer: ModelImporter, tmp_path: Path) -> Path:
        made = model_importer.upload({"m.onnx": onnx_bytes(linear())}, labels=_LABELS)
        _, _, folder = model_importer.open(made)
        target = tmp_path / "test.bundle"
        write_bundle(folder, _version(made), target)
        return target

    def test_a_bundle_comes_back_as_it_went(
        self, model_importer: ModelImporter, bundle: Path
    ) -> None:
        made = model_importer.upload({"any.bundle": bundle.read_bytes()})
        assert made.manifest.labels == _LABELS
        assert "bundle.json" not in made.manifest.files
        assert find_bundle_name(bundle) == "test"

    def test_the_same_package_gives_the_same_bytes(
        self, model_importer: ModelImporter, tmp_path: Path
    ) -> None:
        made = model_importer.upload({"m.onnx": onnx_bytes(linear())})
        _, _, folder = model_importer.open(made)
        files = [tmp_path / name for name in ("one", "two")]
        version = _version(made)
        write_bundle(folder, version, files[0])
        (folder / "model.onnx").touch()
        shuffled = MadeModel(manifest=made.manifest, files=[*reversed(made.files)])
        write_bundle(folder, _version(shuffled), files[1])
        assert files[0].read_bytes() == files[1].read_bytes()

    def test_a_changed_bundle_is_refused(self, model_importer: ModelImporter, bundle: Path) -> None:
        with zipfile.ZipFile(bundle) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        files["model.onnx"] = onnx_bytes(linear(ends="Relu"))
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        with pytest.raises(UnsafeFile, match="SHA-256 differs"):
            model_importer.upload({"x.bundle": out.getvalue()})

    def test_a_bundle_with_a_file_too_many_is_refused(
        self, model_importer: ModelImporter, bundle: Path
    ) -> None:
        with zipfile.ZipFile(bundle, "a") as archive:
            archive.writestr("readme.txt", "hello")
        with pytest.raises(UnsafeFile, match="not named in bundle.json"):
            model_importer.upload({"x.bundle": bundle.read_bytes()})

    def test_what_is_no_bundle_has_no_name(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(b"hello")
        assert find_bundle_name(tmp_path / "x") is None
        assert find_bundle_name(tmp_path / "nowhere") is None


def test_digests_of_a_made_model_are_those_of_its_files(model_importer: ModelImporter) -> None:
    made = model_importer.upload({"m.onnx": onnx_bytes(linear())})
    refs: dict[str, FileRef] = {file.path: file for file in made.files}
    assert {name: refs[name].digest for name in made.manifest.files} == made.manifest.files
