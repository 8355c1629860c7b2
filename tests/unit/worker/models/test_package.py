"""The package: what is written can be loaded again, with Modelry and without."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from modelry.core.errors import FormatTooNew, ModelUnloadable
from modelry.core.manifests import Recipe, Verification
from modelry.core.recipes import get_recipe
from modelry.worker.models import package
from modelry.worker.models.onnx_form import write_onnx
from modelry.worker.recipes.building import build_network
from modelry.worker.recipes.network import Network

VERIFIED = Verification(
    max_difference=0.0,
    tolerance=1e-4,
    samples=1,
    batch_sizes=[1],
    disagreements=0,
    rows_per_s=1.0,
    original_rows_per_s=1.0,
)


def write(folder: Path, recipe: str = "cnn") -> Network:
    params = get_recipe(recipe).check({})
    network = build_network(recipe, params, shape=(28, 28, 1), classes=3).eval()
    package.write_weights(network, folder)
    write_onnx(network, folder / package.ONNX)
    draft = package.draft(
        network,
        task=get_recipe(recipe).task,
        recipe=Recipe(name=recipe, params=params),
        labels=["一", "二", "三"],
        media=None,
        lineage={},
        folder=folder,
    )
    package.write_manifest(package.measured(draft, {"accuracy": 1.0}, VERIFIED), folder)
    return network


@pytest.mark.parametrize("recipe", ["cnn", "rnn"])
def test_a_package_rebuilds_the_same_network(recipe: str, tmp_path: Path) -> None:
    network = write(tmp_path, recipe)
    loaded = package.load_recipe_model(tmp_path)
    rows = torch.rand(4, *network.input_shape)
    with torch.no_grad():
        assert torch.equal(loaded(rows), network(rows))
    assert not loaded.training


def test_the_weights_load_into_plain_torch_layers(tmp_path: Path) -> None:
    network = write(tmp_path)
    plain = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 32, 3),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(32, 64, 3),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            dense1=nn.Linear(1600, 64),
            dense1_relu=nn.ReLU(),
            classes=nn.Linear(64, 3),
        )
    )
    plain.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    rows = torch.rand(2, 28, 28, 1)
    with torch.no_grad():
        assert torch.allclose(plain(rows.permute(0, 3, 1, 2)), network(rows), atol=1e-6)


def test_the_manifest_is_text_for_people_and_names_every_file(tmp_path: Path) -> None:
    write(tmp_path)
    text = (tmp_path / "model.json").read_text()
    assert "一" in text
    assert text.count("\n") > 20
    assert set(json.loads(text)["files"]) == {"model.onnx", "weights.safetensors"}


def test_a_changed_file_is_not_loaded(tmp_path: Path) -> None:
    write(tmp_path)
    weights = tmp_path / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(ModelUnloadable, match="not those that model.json names"):
        package.load_recipe_model(tmp_path)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    manifest = json.loads((tmp_path / "model.json").read_bytes())
    (tmp_path / "model.json").write_bytes(msgspec.json.encode({**manifest, "format_version": 9}))
    with pytest.raises(FormatTooNew):
        package.load_recipe_model(tmp_path)
