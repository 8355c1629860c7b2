"""Foreign models in a real service: brought, deployed, asked, bundled; hostile ones refused while it goes on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import modelry
from modelry.artifacts import Artifacts
from modelry.core.errors import ModelryError, ModelUnloadable, UnsafeFile
from modelry.core.settings import Settings
from modelry.server.store import Store, models
from tests.api import Api
from tests.attacks.models import hostile
from tests.hub import COMMIT, Hub, running_hub
from tests.importing import linear, onnx_bytes
from tests.service import Service, running_service

_LABELS = ["Katze", "Hund", "鸟"]


def _write(folder: Path, name: str, data: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    return folder / name


def test_an_onnx_file_becomes_answers_and_a_bundle_that_needs_no_network(
    service: Service, tmp_path: Path
) -> None:
    model = linear()
    file = _write(tmp_path / "in", "classifier.onnx", onnx_bytes(model))
    rows = np.random.default_rng(0).random((5, 4), dtype=np.float32)
    wanted = onnxruntime.InferenceSession(onnx_bytes(model)).run(None, {"x": rows})[0]
    with service.client() as client:
        made = client.models.import_(file, "classifier", labels=_LABELS, licence="mit")
        assert made.manifest["source"]["licence"] == "mit"
        assert made.manifest["labels"] == _LABELS
        assert made.manifest["measurements"]
        _compare(client, "classifier", rows, wanted)
        bundle = client.models.export("classifier", tmp_path / "classifier.bundle", bundle=True)
        again = client.models.import_(bundle, "copy")
        assert again.manifest["files"] == made.manifest["files"]
        _compare(client, "copy", rows, wanted)


def _compare(client: modelry.Client, name: str, rows: Any, wanted: Any) -> None:
    deployment = client.deploy(name)
    found = deployment.predict_many(list(rows))
    for answer, scores in zip(found, wanted, strict=True):
        assert answer.label == _LABELS[int(scores.argmax())]
        assert answer.score == pytest.approx(float(scores.max()), abs=1e-5)


def test_hostile_models_are_refused_and_the_service_goes_on(
    service: Service, api: Api, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    attacks = {
        "model.pt": hostile.PICKLES["a torch.save"][1](canary),
        "model.onnx": hostile.external("../../secret.bin"),
        "big.onnx": hostile.giant_constant(),
        "model.keras": hostile.KERAS["a Lambda layer"][1](canary),
        "model.zip": hostile.ARCHIVES["a zip that climbs out"][1](canary),
        "model.safetensors": hostile.SAFETENSORS["tensors that overlap"](),
        "labels.txt": hostile.pickled(canary, 0),
    }
    pids = {process.pid for process in service.find("modelry.server")}
    with service.client() as client:
        for number, (name, data) in enumerate(attacks.items()):
            file = _write(tmp_path / str(number), name, data)
            with pytest.raises(UnsafeFile) as caught:
                client.models.import_(file, "hostile")
            assert caught.value.remedy
        good = _write(tmp_path / "good", "good.onnx", onnx_bytes(linear()))
        assert client.models.import_(good, "good").version == 1
        names = [model.name for model in client.models.list()]
    assert names == ["good"]
    assert not canary.exists()
    assert {process.pid for process in service.find("modelry.server")} == pids
    assert {job["failure"]["code"] for job in api.get("/jobs") if job["state"] == "failed"} == {
        "unsafe_file"
    }


def test_a_form_that_only_fails_when_it_is_loaded_is_said_so_and_kills_nothing(
    service: Service, tmp_path: Path
) -> None:
    """Such a package can only come past the import: here, straight into the store."""
    broken = {
        "truncated": linear().SerializeToString()[:-20],
        "unloadable": hostile.wrong_attribute(),
        "giant": hostile.giant_constant(),
        "elsewhere": hostile.external("/etc/passwd"),
        "custom": hostile.custom("evil.corp", "RunCommand"),
    }
    with service.client() as client:
        good = _write(tmp_path / "good", "good.onnx", onnx_bytes(linear()))
        made = client.models.import_(good, "good", labels=_LABELS)
        deployment = client.deploy("good")
        for name, data in broken.items():
            _store_model(service, name, made.manifest, data)
            with pytest.raises(ModelryError) as caught:
                client.deploy(name)
            assert caught.value.code == ModelUnloadable.code, (name, caught.value)
            assert deployment.predict(np.ones(4, np.float32)).label in _LABELS


def _store_model(service: Service, name: str, manifest: dict[str, Any], data: bytes) -> None:
    settings = Settings(home=service.home)
    artifacts = Artifacts(settings.artifacts_address)
    form = artifacts.put_bytes(data, "model.onnx")
    told = {**manifest, "files": {"model.onnx": form.digest}}
    import msgspec

    files = [form, artifacts.put_bytes(msgspec.json.encode(told), "model.json")]
    store = Store(settings.database_address)
    try:
        with store.write() as tx:
            models.ensure(tx, "default", name)
            models.add_version(tx, "default", name, told, files, None, None)
    finally:
        store.close()


def test_an_import_can_be_cancelled(service: Service, tmp_path: Path) -> None:
    file = _write(tmp_path / "in", "endless.onnx", hostile.endless_loop())
    with service.client() as client:
        job = client.models.import_(file, "endless", wait=False)
        deadline = time.monotonic() + 60
        while "trying" not in str((job.refresh().progress or {}).get("phase")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        job.cancel()
        with pytest.raises(ModelryError, match="cancelled"):
            job.wait(timeout_s=30)
    assert not service.find("importing.confined")


def test_a_hub_that_has_only_pickles_is_refused_and_a_pinned_one_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(
        repositories={"org/pickles": {"config.json": b"{}", "pytorch_model.bin": b"\x80\x02"}}
    )
    with running_hub(hub):
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        with running_service(tmp_path / "home") as service, service.client() as client:
            with pytest.raises(UnsafeFile, match="not safetensors"):
                client.models.import_("hf://org/pickles", "pickles")
            with pytest.raises(ModelryError, match="org/nobody"):
                client.models.import_(f"hf://org/nobody@{COMMIT}", "nobody")


@pytest.mark.data
def test_photos_and_speech_are_answered_by_real_models(
    service: Service, api: Api, shared_data: Path
) -> None:
    squeezenet = shared_data / "model-squeezenet-imagenet"
    with service.client() as client:
        client.models.import_(
            squeezenet / "squeezenet_v1.0_dc.onnx.gz",
            "squeezenet",
            labels=squeezenet / "imagenet_classes.txt",
            preprocess={"preset": "caffe-bgr", "resize_to": 256},
        )
        deployment = client.deploy("squeezenet")
        for photo, label in (
            ("parrot.jpg", "macaw"),
            ("bird.bmp", "chickadee"),
            ("hot_dog.jpg", "hotdog"),
            ("dog.jpg", "Samoyed"),
        ):
            assert deployment.predict(shared_data / "photos" / photo).label == label
        client.models.import_(shared_data / "model-silero-vad" / "silero_vad.onnx", "silero")
        client.deploy("silero")
    silence = np.zeros((1, 576)).tolist()
    call = {"input": silence, "state": np.zeros((2, 1, 128)).tolist(), "sr": 16000}
    answer = api.ask("POST", "/v1/models/silero:predict", json={"instances": [call, call]})
    assert answer.is_success, answer.text
    first, second = answer.json()["predictions"]
    assert first == second
    assert first["output"][0][0] < 0.5
    assert np.array(first["stateN"]).shape == (2, 1, 128)
