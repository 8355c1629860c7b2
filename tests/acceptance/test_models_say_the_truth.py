"""However a model is asked, it gives the numbers of its network; its metrics are those that others compute."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import nn
from torch.nn import functional as fn

from tests.api import Api
from tests.service import running_service

Numbers = NDArray[np.float32]

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
SMALL_CNN = {"epochs": 1, "channels": [4], "hidden": [8], "dropout": 0.2}
SMALL_RNN = {"epochs": 1, "hidden": 7, "layers": 2, "batch_size": 128}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "cnn": ("cnn", SMALL_CNN),
    "cnn-average": ("cnn", {**SMALL_CNN, "channels": [3, 2], "kernel": 2, "pooling": "average"}),
    **{
        f"{cell}-{is_both}": ("rnn", {**SMALL_RNN, "cell": cell, "bidirectional": is_both})
        for cell in CELLS
        for is_both in (False, True)
    },
}
#: As much as single precision may differ between two ways to compute the same.
CLOSE = 1e-5
ROWS = 12


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    home = tmp_path_factory.mktemp("truth") / "home"
    with running_service(home, job_threads="1") as service, Api(service) as speaking:
        speaking.add_digits()
        yield speaking


def submit(api: Api, model: str, recipe: str, params: dict[str, Any], threads: int = 1) -> str:
    return api.train(model, recipe=recipe, params=params, threads=threads)


def file(api: Api, noun: str, path: str) -> bytes:
    return api.ask("GET", f"/api/v1/{noun}/versions/latest/files/{path}").content


@pytest.fixture(scope="module")
def test_split(api: Api) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures as stored, and the index of each label."""
    manifest = api.get("/datasets/digits/versions/latest")["manifest"]
    (name,) = set(manifest["features"]) - {manifest["target"]}
    shards = [
        pq.read_table(io.BytesIO(file(api, "datasets/digits", path)))
        for path in manifest["splits"]["test"]["files"]
    ]
    pixels = np.array([row for shard in shards for row in shard[name].to_pylist()], np.uint8)
    truth = [row for shard in shards for row in shard[manifest["target"]].to_pylist()]
    return pixels.reshape(-1, 28, 28), np.array(truth)


def by_hand(recipe: str, params: dict[str, Any], weights: dict[str, Any], x: Numbers) -> Numbers:
    """The network in plain PyTorch, from the weights' names alone."""
    values = torch.from_numpy(x)
    if recipe == "cnn":
        pool = fn.max_pool2d if params["pooling"] == "max" else fn.avg_pool2d
        values = values.permute(0, 3, 1, 2)
        for number in range(1, len(params["channels"]) + 1):
            layer = (weights[f"conv{number}.weight"], weights[f"conv{number}.bias"])
            values = pool(torch.relu(fn.conv2d(values, *layer)), 2)
        values = values.flatten(1)
        for number in range(1, len(params["hidden"]) + 1):
            layer = (weights[f"dense{number}.weight"], weights[f"dense{number}.bias"])
            values = torch.relu(fn.linear(values, *layer))
    else:
        recurrent = CELLS[params["cell"]](
            x.shape[2],
            params["hidden"],
            params["layers"],
            batch_first=True,
            bidirectional=params["bidirectional"],
        )
        recurrent.load_state_dict(
            {
                name.removeprefix("recurrent."): weight
                for name, weight in weights.items()
                if name.startswith("recurrent.")
            }
        )
        _, state = recurrent(values)
        hidden = state[0] if isinstance(state, tuple) else state
        last = [hidden[-2], hidden[-1]] if params["bidirectional"] else [hidden[-1]]
        values = torch.cat(last, dim=1)
    scores = fn.linear(values, weights["classes.weight"], weights["classes.bias"])
    return np.asarray(scores.softmax(-1).detach())


def scores(answer: dict[str, Any], labels: list[str]) -> Numbers:
    """A native answer's scores in the order of the labels."""
    rows = [
        {score["label"]: score["score"] for score in prediction["scores"]}
        for prediction in answer["predictions"]
    ]
    return np.array([[row[label] for label in labels] for row in rows], np.float32)


def png(pixels: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


@pytest.mark.slow
def test_every_way_to_ask_gives_the_networks_numbers(api: Api, test_split: Any) -> None:
    jobs = {name: submit(api, name, *case) for name, case in CASES.items()}
    pixels, truth = test_split
    for name, job in jobs.items():
        api.wait_job(job)
        api.deploy(name, name)
        manifest = api.get(f"/models/{name}/versions/1")["manifest"]
        x = (pixels * np.float32(1 / 255)).reshape(-1, *manifest["inputs"][0]["shape"][1:])

        session = onnxruntime.InferenceSession(file(api, f"models/{name}", "model.onnx"))
        (expected,) = session.run(None, {manifest["inputs"][0]["name"]: x})
        weights = load(file(api, f"models/{name}", "weights.safetensors"))
        plain = by_hand(CASES[name][0], manifest["recipe"]["params"], weights, x)
        np.testing.assert_allclose(plain, expected, atol=CLOSE)

        some, labels = x[:ROWS].tolist(), manifest["labels"]
        rows = api.call("POST", f"/v1/models/{name}:predict", json={"instances": some})
        columns = api.call("POST", f"/v1/models/{name}:predict", json={"inputs": some})
        native = api.call("POST", f"/predict/{name}", json={"inputs": some})
        pictures = [
            api.call("POST", f"/predict/{name}", content=png(picture)) for picture in pixels[:ROWS]
        ]
        for found in (
            rows["predictions"],
            columns["outputs"],
            scores(native, labels),
            np.concatenate([scores(answer, labels) for answer in pictures]),
        ):
            np.testing.assert_allclose(found, expected[:ROWS], atol=CLOSE)
        check_metrics(manifest["metrics"], truth, expected.argmax(axis=1), len(labels))
        api.delete(f"/deployments/{name}")


def check_metrics(metrics: dict[str, Any], truth: Any, predicted: Any, classes: int) -> None:
    """The manifest's metrics are those of scikit-learn."""
    order = list(range(classes))
    table = precision_recall_fscore_support(truth, predicted, labels=order, zero_division=0)
    for word, column in zip(("precision", "recall", "f1", "support"), table, strict=True):
        np.testing.assert_allclose([one[word] for one in metrics["classes"]], column)
    assert metrics["confusion"] == confusion_matrix(truth, predicted, labels=order).tolist()
    assert metrics["accuracy"] == pytest.approx((truth == predicted).mean())
    assert metrics["rows"] == len(truth)


@pytest.mark.slow
def test_the_same_seed_and_threads_give_the_same_weights(api: Api) -> None:
    wanted = {"first": (5, 1), "again": (5, 1), "other": (6, 1)}
    if (os.cpu_count() or 1) > 1:
        wanted["wide"] = (5, 2)
    jobs = {
        model: submit(api, model, "cnn", {**SMALL_CNN, "seed": seed}, threads)
        for model, (seed, threads) in wanted.items()
    }
    weights = {}
    for model, job in jobs.items():
        api.wait_job(job)
        version = api.get(f"/models/{model}/versions/1")
        files = {one["path"]: one["digest"] for one in version["files"]}
        weights[model] = files["weights.safetensors"]
        lineage = version["manifest"]["lineage"]
        assert (lineage["seed"], lineage["threads"]) == wanted[model]
    assert weights["first"] == weights["again"] != weights["other"]
