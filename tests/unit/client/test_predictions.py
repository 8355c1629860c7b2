"""What may be given to `predict`, and what comes back."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modelry.client.predictions import Media, Prediction, Tensor, Text, read_predictions, to_input
from modelry.core.errors import InvalidInput, NotFound
from tests.unit.client.answering import talking

DEPLOYMENT = {
    "id": "dep_1", "project": "default", "name": "digits", "model": "mnist", "version": 3,
    "model_version_id": "mv_1", "replicas": 1, "max_batch": 32, "threads": 1, "state": "ready",
    "wish": "run", "ready_replicas": 1, "created_at": 1.0, "updated_at": 1.0, "failure": None,
}  # fmt: skip


def answer(*labels: str) -> tuple[int, object]:
    rows = [
        {
            "label": label,
            "score": 0.9,
            "scores": [{"label": label, "score": 0.9}, {"label": "x", "score": 0.1}],
        }
        for label in labels
    ]
    return 200, {
        "deployment": "digits",
        "model": "mnist",
        "version": 3,
        "predictions": rows,
        "timing": {},
    }


def test_an_image_travels_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "七.png"
    image = Image.new("L", (28, 28), 200)
    image.save(path)
    for given in (path, str(path), path.read_bytes(), image):
        media = to_input(given)
        assert isinstance(media, Media)
        assert media.content_type == "image/png"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F"])
def test_pil_images_of_every_mode_can_be_sent(mode: str) -> None:
    media = to_input(Image.new(mode, (4, 4)))
    assert isinstance(media, Media)
    assert media.content.startswith(b"\x89PNG")


def test_arrays_and_lists_are_tensors() -> None:
    array = np.arange(4, dtype=np.float32).reshape(2, 2, 1) / 4
    assert to_input(array) == Tensor(array.tolist())
    assert to_input([[0.5]]) == Tensor([[0.5]])


def test_arrays_in_files_are_tensors(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 2)))
    (tmp_path / "x.json").write_text("[[1.0, 1.0], [1.0, 1.0]]")
    assert to_input(tmp_path / "x.npy") == to_input(tmp_path / "x.json") == Tensor([[1, 1], [1, 1]])


def test_a_pickle_in_an_npy_file_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidInput):
        to_input(tmp_path / "x.npy")


@pytest.mark.parametrize("value", [None, True, {1, 2}, object()])
def test_what_is_no_input_is_told(value: object) -> None:
    with pytest.raises(InvalidInput, match="no input"):
        to_input(value)


def test_rows_and_texts_travel_as_they_are() -> None:
    assert to_input({"age": 3, "town": None}) == Tensor({"age": 3, "town": None})
    assert to_input(Text("naïve.png")) == Tensor("naïve.png")


@pytest.mark.parametrize(
    ("said", "values"),
    [({"values": [2.5]}, 2.5), ({"values": [1.0, 2.0]}, [1.0, 2.0]), ({"value": "Rom"}, "Rom")],
)
def test_an_answer_without_classes_has_values(said: dict[str, Any], values: object) -> None:
    [found] = read_predictions({"version": 2, "predictions": [said]})
    assert (found.values, found.label, found.scores, found.version) == (values, "", {}, 2)
    assert math.isnan(found.score)


def test_a_missing_file_is_told_by_name() -> None:
    with pytest.raises(NotFound, match="nowhere.png"):
        to_input("nowhere.png")


def test_one_answer_becomes_a_prediction() -> None:
    shown = (200, {**DEPLOYMENT, "replicas_list": []})
    with talking(shown, answer("7")) as (server, client):
        found = client.deployments.get("digits").predict(np.zeros((2, 2, 1)), top_k=2)
        sent = server.asked[1]
    assert found == Prediction("7", 0.9, {"7": 0.9, "x": 0.1}, 3)
    assert sent.path == "/predict/digits?top_k=2"
    assert json.loads(sent.body) == {"input": [[[0.0], [0.0]], [[0.0], [0.0]]]}
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.label = "8"  # type: ignore[misc]


def test_many_inputs_travel_together_and_keep_their_order() -> None:
    shown = (200, {**DEPLOYMENT, "replicas_list": []})
    first, second = [str(n) for n in range(128)], ["a", "b"]
    with talking(shown, answer(*first), answer(*second)) as (server, client):
        handle = client.deployments.get("digits")
        found = handle.predict_many([b"\x89PNG\r\n\x1a\n"] * 130)
        bodies = [json.loads(asked.body) for asked in server.asked[1:]]
    assert [item.label for item in found] == first + second
    assert [len(body["inputs"]) for body in bodies] == [128, 2]
    assert base64.b64decode(bodies[0]["inputs"][0]["b64"]).startswith(b"\x89PNG")


def test_media_and_tensors_travel_apart_and_keep_their_order() -> None:
    mixed = [[[1.0]], b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n", [[2.0]]]
    with talking(answer("a"), answer("b", "c"), answer("d")) as (server, client):
        found = client.predict_many("digits", mixed)
        sizes = [len(json.loads(asked.body)["inputs"]) for asked in server.asked]
    assert [item.label for item in found] == ["a", "b", "c", "d"]
    assert sizes == [1, 2, 1]


def test_no_inputs_need_no_call() -> None:
    shown = (200, {**DEPLOYMENT, "replicas_list": []})
    with talking(shown) as (server, client):
        assert client.deployments.get("digits").predict_many([]) == []
        assert len(server.asked) == 1
