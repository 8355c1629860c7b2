"""Repositories of a hub: pinned to a commit, no pickle is ever asked for, and no token is sent unasked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelry.core.errors import NotFound, Unavailable, UnsafeFile
from modelry.core.specs import JobSpec
from modelry.worker.context import JobContext
from modelry.worker.folder import WorkerFolder
from modelry.worker.models.importing.hub import download
from modelry.worker.models.importing.origin import Origin
from tests.hub import COMMIT, Hub, running_hub

_FILES = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": b"\x02\0\0\0\0\0\0\0{}",
    "vocab.txt": b"a\nb\n",
    "tokenizer.json": b"{}",
    "pytorch_model.bin": b"\x80\x02never",
    "tf_model.h5": b"\x89HDF",
    "README.md": b"# hello",
    "onnx/model.onnx": b"\x08\x08",
    "onnx/config.json": b"{}",
    "1_Pooling/config.json": b"{}",
    "modeling_evil.py": b"import os",
    "model.fp16.safetensors": b"\x02\0\0\0\0\0\0\0{}",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one repository."""
    made = Hub(
        repositories={"org/small": dict(_FILES), "org/pickles": {"pytorch_model.bin": b"\x80\x02"}},
        cards={"org/small": {"license": "apache-2.0"}},
    )
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with running_hub(made) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def _download(tmp_path: Path, location: str) -> tuple[Path, Origin]:
    number = len(list(tmp_path.iterdir()))
    spec = JobSpec(
        worker_id=f"w{number}",
        job_id="job_1",
        attempt=1,
        kind="import-model",
        params={},
        artifacts=str(tmp_path / "blobs"),
    )
    folder = WorkerFolder(tmp_path / spec.worker_id)
    folder.path.mkdir()
    context = JobContext(folder, spec)
    try:
        return download(context, location)
    finally:
        context.close()


def _names(folder: Path) -> set[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in found if not name.startswith(".")}


def test_weights_and_texts_come_and_nothing_else_is_asked_for(hub: Hub, tmp_path: Path) -> None:
    folder, _ = _download(tmp_path, "org/small")
    assert _names(folder) == {
        "config.json",
        "model.safetensors",
        "vocab.txt",
        "tokenizer.json",
        "1_Pooling/config.json",
    }
    assert not [line for line in hub.asked if line.endswith((".bin", ".h5", ".py", ".onnx"))]


@pytest.mark.parametrize("revision", ["", "@main", "@v1.0", f"@{COMMIT}"])
def test_every_revision_is_pinned_to_its_commit(hub: Hub, tmp_path: Path, revision: str) -> None:
    _, origin = _download(tmp_path, f"org/small{revision}")
    assert origin.revision == COMMIT
    assert origin.licence == "apache-2.0"
    assert origin.more["repository"] == "org/small"
    fetched = [line for line in hub.asked if "/resolve/" in line]
    assert fetched
    assert all(f"/resolve/{COMMIT}/" in line for line in fetched)


def test_a_repository_of_pickles_is_refused_before_anything_is_fetched(
    hub: Hub, tmp_path: Path
) -> None:
    with pytest.raises(UnsafeFile, match="not safetensors") as caught:
        _download(tmp_path, "org/pickles")
    assert "ONNX" in caught.value.remedy
    assert not [line for line in hub.asked if "/resolve/" in line]


def test_what_does_not_exist_is_said(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="org/nothing"):
        _download(tmp_path, "org/nothing")
    with pytest.raises(NotFound, match="revision"):
        _download(tmp_path, "org/small@v9")


def test_a_file_that_is_not_the_listed_one_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.lies["model.safetensors"] = b"\x02\0\0\0\0\0\0\0[]"
    with pytest.raises(UnsafeFile, match="not the file that the hub lists"):
        _download(tmp_path, "org/small")


def test_no_hub_is_an_error_that_names_the_other_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unavailable) as caught:
        _download(tmp_path, "org/small")
    assert "bundle" in caught.value.remedy


def test_only_the_services_own_token_is_sent(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _download(tmp_path, "org/small")
    assert not hub.tokens
    monkeypatch.setenv("HF_TOKEN", "hf_ours")
    _download(tmp_path, "org/small")
    assert set(hub.tokens) == {"Bearer hf_ours"}
