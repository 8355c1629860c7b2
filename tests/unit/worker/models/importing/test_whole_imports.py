"""A Hugging Face model from a hub, from a cache without a network, and on through a package: one model each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelry.core.results import MadeModel
from tests.hub import COMMIT, Hub, running_hub
from tests.importing import ModelImporter
from tests.unit.worker.tasks import tiny

_LABELS = ["bad", "good"]


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny classifier of texts as its author would publish it."""
    folder = tmp_path_factory.mktemp("snapshot")
    return tiny.save_text_model(folder, "ForSequenceClassification", labels=_LABELS)


def _files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def _answers(importer: ModelImporter, made: MadeModel) -> np.ndarray:  # type: ignore[type-arg]
    runtime, manifest, _ = importer.open(made)
    rows = {spec.name: np.ones((2, 6), np.int64) for spec in manifest.inputs}
    return runtime.run(rows)[manifest.outputs[0].name]


def test_one_model_comes_from_a_hub_from_a_cache_and_from_a_package(
    model_importer: ModelImporter,
    snapshot: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = Hub(
        repositories={"org/tiny": {**_files(snapshot), "pytorch_model.bin": b"\x80\x02never"}},
        cards={"org/tiny": {"license": "apache-2.0"}},
    )
    with running_hub(hub):
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        made = model_importer.hub("org/tiny@v1.0")
    source = made.manifest.source
    assert source is not None
    assert (source["repository"], source["revision"]) == ("org/tiny", COMMIT)
    assert (source["licence"], source["format"]) == ("apache-2.0", "huggingface")
    assert source["size_bytes"] == sum(each["size_bytes"] for each in source["files"])
    assert (made.manifest.task, made.manifest.labels) == ("text-classification", _LABELS)

    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    cache = _as_cache(snapshot, tmp_path / "hub")
    for place in (cache, cache / "snapshots" / COMMIT):
        offline = model_importer.path(place)
        assert offline.manifest.source is not None
        assert offline.manifest.source["revision"] == COMMIT
        assert np.allclose(_answers(model_importer, offline), _answers(model_importer, made))

    _, _, folder = model_importer.open(made)
    again = model_importer.path(folder)
    assert again.manifest.media == made.manifest.media
    assert np.allclose(_answers(model_importer, again), _answers(model_importer, made))
    assert again.manifest.source is not None
    assert again.manifest.source["came_from"]["repository"] == "org/tiny"


def _as_cache(snapshot: Path, root: Path) -> Path:
    """The folder as huggingface_hub keeps it: blobs, and a snapshot of links to them."""
    place = root / "models--org--tiny"
    (place / "blobs").mkdir(parents=True)
    links = place / "snapshots" / COMMIT
    links.mkdir(parents=True)
    for number, (name, data) in enumerate(_files(snapshot).items()):
        (place / "blobs" / f"blob{number}").write_bytes(data)
        (links / name).symlink_to(Path("../../blobs") / f"blob{number}")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    return place
