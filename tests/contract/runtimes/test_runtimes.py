"""Modelry's own runtimes keep the contract, on a recipe's network in its three forms."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from modelry.core.errors import ModelUnloadable
from modelry.core.manifests import RuntimeForm
from modelry.worker.models import package
from modelry.worker.models.runtimes import load_runtime
from modelry.worker.models.runtimes.base import find_load
from modelry.worker.models.verify import original
from tests.contract.runtimes.contract import RuntimeContract, Served
from tests.contract.runtimes.making import make_recipe_package

FORMS = {"onnxruntime": package.ONNX, "openvino": package.ONNX, "torch": package.WEIGHTS}


class _OnRecipes(RuntimeContract):
    runtime: str

    @pytest.fixture(params=["cnn", "rnn"])
    def served(self, tmp_path: Path, request: pytest.FixtureRequest) -> Served:
        folder = tmp_path / "package"
        folder.mkdir()
        manifest, network = make_recipe_package(folder, request.param)
        load = find_load(self.runtime)
        if load is None:
            pytest.skip(f"{self.runtime} is not installed")
        return Served(load, folder / FORMS[self.runtime], manifest, original(network))


class TestOnnxRuntime(_OnRecipes):
    runtime = "onnxruntime"


class TestOpenVino(_OnRecipes):
    runtime = "openvino"


class TestTorch(_OnRecipes):
    runtime = "torch"


def test_the_first_runtime_that_is_here_serves(tmp_path: Path) -> None:
    manifest, _ = make_recipe_package(tmp_path, "cnn")
    absent = {"not-installed": RuntimeForm(file="model.bin")}
    onnx, weights = RuntimeForm(file=package.ONNX), RuntimeForm(file=package.WEIGHTS)
    for name, forms in {
        "OnnxModel": {**absent, "onnxruntime": onnx, "torch": weights},
        "TorchModel": {**absent, "torch": weights, "onnxruntime": onnx},
    }.items():
        ordered = msgspec.structs.replace(manifest, runtimes=forms)
        assert type(load_runtime(tmp_path, ordered, 1)).__name__ == name
    with pytest.raises(ModelUnloadable, match="not-installed"):
        load_runtime(tmp_path, msgspec.structs.replace(manifest, runtimes=absent), 1)


def test_an_option_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    manifest, _ = make_recipe_package(tmp_path, "cnn")
    for level in ("all", "extended", "basic"):
        form = RuntimeForm(file=package.ONNX, options={"graph_optimization": level})
        load_runtime(tmp_path, msgspec.structs.replace(manifest, runtimes={"onnxruntime": form}), 1)
    form = RuntimeForm(file=package.ONNX, options={"graph_optimization": "magic"})
    with pytest.raises(ModelUnloadable, match="magic"):
        load_runtime(tmp_path, msgspec.structs.replace(manifest, runtimes={"onnxruntime": form}), 1)
