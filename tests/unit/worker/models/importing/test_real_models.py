"""Real pretrained models: the right labels for photos, digits and speech."""

from __future__ import annotations

import csv
import gzip
import wave
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from modelry.core.errors import UnsafeFile
from modelry.core.labels import read_labels
from modelry.core.manifests import ImageInput
from modelry.core.results import MadeModel
from modelry.worker.data.picturing import encode_png
from modelry.worker.tasks import image_tensor
from tests.importing import ModelImporter

pytestmark = pytest.mark.data


def test_squeezenet_names_what_is_in_the_photos(
    model_importer: ModelImporter, shared_data: Path
) -> None:
    folder = shared_data / "model-squeezenet-imagenet"
    labels = read_labels("classes.txt", (folder / "imagenet_classes.txt").read_bytes())
    made = model_importer.path(
        folder / "squeezenet_v1.0_dc.onnx.gz",
        labels=labels,
        preprocess={"preset": "caffe-bgr", "resize_to": 256},
        licence="BSD-2-Clause",
    )
    assert (made.manifest.task, made.manifest.activation) == ("image-classification", "none")
    runtime, manifest, _ = model_importer.open(made)
    media = manifest.media
    assert isinstance(media, ImageInput)
    wrong = []
    for photo, accepted in _photos(shared_data):
        row = image_tensor((shared_data / "photos" / photo).read_bytes(), media)
        scores = runtime.run({media.input: row[None]})[manifest.outputs[0].name][0]
        assert scores.sum() == pytest.approx(1, abs=1e-4)
        best = int(scores.argmax())
        if best not in accepted:
            wrong.append(f"{photo}: {labels[best]} {scores[best]:.2f}")
    # A 0.66 MB network of 57.5 % top-1: it takes the sailor's uniform for something else.
    assert len(wrong) <= 1, wrong


def test_the_digits_of_mnist_are_read(model_importer: ModelImporter, shared_data: Path) -> None:
    made = model_importer.path(shared_data / "model-mnist-onnx" / "mnist.onnx", preprocess="raw")
    assert made.manifest.inputs[0].shape == [None, 1, 28, 28]
    assert made.manifest.labels == [str(digit) for digit in range(10)]
    runtime, manifest, _ = model_importer.open(made)
    media = manifest.media
    assert isinstance(media, ImageInput)
    pixels, truth = _digits(shared_data / "mnist", 1000)
    rows = np.stack([image_tensor(encode_png(picture[:, :, None]), media) for picture in pixels])
    best = runtime.run({media.input: rows})[manifest.outputs[0].name].argmax(axis=1)
    assert (best == truth).mean() > 0.97


def test_silero_hears_speech_with_its_state_in_the_callers_hands(
    model_importer: ModelImporter, shared_data: Path
) -> None:
    file = shared_data / "model-silero-vad" / "silero_vad.onnx"
    made = model_importer.path(file)
    signature = {spec.name: spec.shape for spec in made.manifest.inputs}
    assert signature == {"input": [None, None, None], "state": [None, 2, None, 128], "sr": [None]}
    runtime, _, _ = model_importer.open(made)
    original = onnxruntime.InferenceSession(str(file))
    state: Any = np.zeros((2, 1, 128), np.float32)
    found, wanted = [], []
    for window in _windows(shared_data / "speech"):
        inputs = {"input": window[None], "state": state, "sr": np.array(16000)}
        answer = runtime.run({name: value[None] for name, value in inputs.items()})
        expected = original.run(None, inputs)
        found.append(float(answer["output"][0].item()))
        wanted.append(float(expected[0].item()))
        state = answer["stateN"][0]
        assert np.allclose(state, expected[1], atol=1e-5)
    assert np.allclose(found, wanted, atol=1e-5)
    assert 0.5 < np.mean(np.array(found) > 0.5) < 0.9


def test_its_torchscript_twin_is_refused(model_importer: ModelImporter, shared_data: Path) -> None:
    with pytest.raises(UnsafeFile, match="TorchScript"):
        model_importer.path(shared_data / "model-silero-vad" / "silero_vad.jit")


def test_the_same_source_makes_the_same_files(
    model_importer: ModelImporter, shared_data: Path
) -> None:
    def digests() -> dict[str, str]:
        made: MadeModel = model_importer.path(shared_data / "model-mnist-onnx" / "mnist.onnx")
        return made.manifest.files

    assert digests() == digests()


def _photos(shared_data: Path) -> list[tuple[str, set[int]]]:
    with (shared_data / "photos" / "labels.csv").open() as file:
        rows = [(row["file"], row["imagenet_index"]) for row in csv.DictReader(file)]
    return [(name, {int(each) for each in text.split("|")}) for name, text in rows if text]


def _digits(folder: Path, count: int) -> tuple[Any, Any]:
    """The first pictures of the test split, and what they are."""
    images = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    pixels = np.frombuffer(images, np.uint8).reshape(-1, 28, 28)
    return pixels[:count], np.frombuffer(labels, np.uint8)[:count]


def _windows(folder: Path) -> list[Any]:
    """Windows of 512 samples with the 64 before them, of a speech at 16 kHz."""
    with wave.open(str(folder / "jfk.wav")) as file:
        assert (file.getframerate(), file.getnchannels()) == (16000, 1)
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16) / np.float32(32768)
    padded = np.concatenate([np.zeros(64, np.float32), samples])
    return [padded[at : at + 576].astype(np.float32) for at in range(0, len(padded) - 576, 512)]
