"""Hostile models: none runs code, none ends the job's process, each is refused with a reason and a way out.

Each comes under its own name, under an innocent one, and inside a good archive beside a good model.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from modelry.core.errors import BadInput, ModelryError
from modelry.worker.models.importing import onnx as importing_onnx
from tests.attacks.models import hostile
from tests.importing import ModelImporter

_SINGLE: dict[str, tuple[str, hostile.Make]] = {
    **hostile.PICKLES,
    **hostile.ARCHIVES,
    **hostile.KERAS,
    **{
        name: ("model.safetensors", lambda canary, make=make: make())  # type: ignore[misc]
        for name, make in hostile.SAFETENSORS.items()
    },
    **{
        name: ("model.onnx", lambda canary, make=make: make())  # type: ignore[misc]
        for name, make in hostile.GRAPHS.items()
    },
}
#: What a name says where nobody expects a model.
_INNOCENT = "vocabulary.txt"


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """What a payload would create."""
    return tmp_path / "canary"


@pytest.fixture(autouse=True)
def _little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that never ends shall not take two minutes to say so."""
    monkeypatch.setattr(importing_onnx, "TIME_S", 5.0)


def _refused(importer: ModelImporter, canary: Path, act: Callable[[], object]) -> ModelryError:
    before = importer.artifacts.usage()
    with pytest.raises(BadInput) as caught:
        act()
    error = caught.value
    assert error.message, "no reason"
    assert error.remedy, "no way out"
    assert not canary.exists(), "the payload ran"
    assert importer.artifacts.usage() == before, "something was published"
    return error


def _upload(importer: ModelImporter, canary: Path, files: dict[str, bytes]) -> ModelryError:
    for path, data in files.items():
        importer.artifacts.put_bytes(data, path)
    return _refused(importer, canary, lambda: importer.upload(files))


@pytest.mark.parametrize("attack", _SINGLE)
def test_a_hostile_file_is_refused(
    model_importer: ModelImporter, canary: Path, attack: str
) -> None:
    name, make = _SINGLE[attack]
    _upload(model_importer, canary, {name: make(canary)})


@pytest.mark.parametrize("attack", _SINGLE)
def test_an_innocent_name_does_not_help(
    model_importer: ModelImporter, canary: Path, attack: str
) -> None:
    _, make = _SINGLE[attack]
    _upload(model_importer, canary, {_INNOCENT: make(canary)})


@pytest.mark.parametrize("attack", _SINGLE)
def test_a_good_archive_around_it_does_not_help(
    model_importer: ModelImporter, canary: Path, attack: str
) -> None:
    name, make = _SINGLE[attack]
    packed = {"good/model.onnx": hostile.good(), f"good/extra/{name}": make(canary)}
    if attack in hostile.GRAPHS:
        packed = {"good/labels.txt": b"a\nb\nc\n", "good/model.onnx": make(canary)}
    _upload(model_importer, canary, {"model.zip": hostile.zipped(packed)})


@pytest.mark.parametrize("attack", hostile.FOLDERS)
def test_a_hostile_folder_is_refused(
    model_importer: ModelImporter, canary: Path, attack: str
) -> None:
    _upload(model_importer, canary, hostile.FOLDERS[attack](canary))


@pytest.mark.parametrize("attack", hostile.FOLDERS)
def test_a_hostile_folder_in_an_archive_is_refused(
    model_importer: ModelImporter, canary: Path, attack: str
) -> None:
    packed = {f"model/{name}": data for name, data in hostile.FOLDERS[attack](canary).items()}
    _upload(model_importer, canary, {"model.zip": hostile.zipped(packed)})


class TestOnTheServersDisk:
    def test_a_link_out_of_the_folder_is_refused(
        self, model_importer: ModelImporter, canary: Path, tmp_path: Path
    ) -> None:
        source = tmp_path / "source"
        source.mkdir()
        (source / "model.onnx").symlink_to("/etc/passwd")
        _refused(model_importer, canary, lambda: model_importer.path(source))

    def test_weights_behind_a_link_are_refused(
        self, model_importer: ModelImporter, canary: Path, tmp_path: Path
    ) -> None:
        source = tmp_path / "source"
        source.mkdir()
        (tmp_path / "secret.bin").write_bytes(bytes(48))
        (source / "model.onnx").write_bytes(hostile.external("weights.data"))
        (source / "weights.data").symlink_to(tmp_path / "secret.bin")
        _refused(model_importer, canary, lambda: model_importer.path(source))

    def test_a_pipe_is_refused_and_nobody_waits_for_it(
        self, model_importer: ModelImporter, canary: Path, tmp_path: Path
    ) -> None:
        source = tmp_path / "source"
        source.mkdir()
        os.mkfifo(source / "model.onnx")
        _refused(model_importer, canary, lambda: model_importer.path(source))

    def test_a_name_that_is_no_text_is_refused(
        self, model_importer: ModelImporter, canary: Path, tmp_path: Path
    ) -> None:
        source = tmp_path / "source"
        source.mkdir()
        with open(os.fsencode(source) + b"/\xff\xfe.onnx", "wb") as file:
            file.write(hostile.good())
        _refused(model_importer, canary, lambda: model_importer.path(source))


def test_the_refusals_say_what_is_wrong(model_importer: ModelImporter, canary: Path) -> None:
    said = {
        "a torch.save": "pickle",
        "a TorchScript": "TorchScript",
        "a torch.export archive": "torch.export",
        "an old HDF5 file": "HDF5",
        "a Lambda layer": "Lambda",
        "an operator of its own": "RunCommand",
        "weights above the folder": "outside the model's folder",
        "a loop without an end": "took more than",
        "a giant constant": "memory",
        "an operator set of the future": "later ONNX",
        "a zip bomb": "archive bomb",
    }
    for attack, words in said.items():
        name, make = _SINGLE[attack]
        error = _upload(model_importer, canary, {name: make(canary)})
        assert words in error.message, attack
    error = _upload(model_importer, canary, {"model.pt": hostile.pickled(canary)})
    assert "Export the model to ONNX" in error.remedy
