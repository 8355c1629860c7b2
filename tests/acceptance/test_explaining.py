"""A deployed model explains its answers through the whole service: HTTP, SDK and command line."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import modelry
from modelry.core.errors import InvalidParameter, NotFound, UnknownParameter
from tests.api import Api
from tests.service import Service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def client(service: Service, api: Api) -> Iterator[modelry.Client]:
    """Digits, learned well enough to be sure of most."""
    api.add_digits()
    api.wait_job(api.train(params={"epochs": 5, "channels": [8, 16], "hidden": [32]}))
    api.deploy("digits", "digits")
    with service.client() as made:
        yield made


def a_digit(client: modelry.Client) -> tuple[Any, str]:
    """A held-out picture that the model reads right, and its label."""
    [file] = client.data.version("digits").manifest["splits"]["test"]["files"]
    table = pq.read_table(io.BytesIO(client.data.read_file("digits", file)))
    images = np.asarray(table.column("image").combine_chunks().flatten()).reshape(-1, 28, 28)
    labels = table.column("label").to_pylist()
    for image, label in zip(images, labels, strict=True):
        answer = client.predict("digits", (image / 255)[..., None])
        if answer.label == str(label) and answer.score > 0.9:
            return image, answer.label
    raise AssertionError("no digit was read right")


def test_a_digit_is_explained_in_every_way_there_is(
    client: modelry.Client, service: Service, tmp_path: Path
) -> None:
    image, label = a_digit(client)
    path = tmp_path / "digit.png"
    Image.fromarray(image).save(path)
    answer = client.predict("digits", path)

    seen = client.explain("digits", path, baseline=0)
    assert (seen.label, seen.method, seen.evaluations) == (label, "occlusion", 171)
    assert seen.score == pytest.approx(answer.score, abs=1e-4)
    assert seen.attributions.shape == (28, 28)
    ink = image > 128
    assert seen.attributions[ink].mean() > seen.attributions[~ink].mean()

    shared = client.explain("digits", path, method="kernel-shap", baseline=0, evaluations=400)
    assert shared.residual < 1e-6
    assert shared.attributions.sum() == pytest.approx(shared.score - shared.base, abs=1e-5)
    again = client.explain("digits", path, method="kernel-shap", baseline=0, evaluations=400)
    assert np.abs(again.attributions - shared.attributions).max() < 1e-4

    # The picture and its numbers are the same question.
    numbers = client.explain("digits", (image / 255)[..., None], baseline=0)
    assert numbers.attributions == pytest.approx(seen.attributions, abs=1e-5)

    other = next(name for name in answer.scores if name != label)
    against = client.explain("digits", path, label=other, baseline=0)
    assert against.score < 0.1

    drawn = tmp_path / "why.png"
    command = ["explain", "digits", str(path), "--to", str(drawn), "--set", "window=6"]
    done = subprocess.run(
        [sys.executable, "-m", "modelry.cli.main", *command],
        env={**service.environment, "MODELRY_URL": service.url},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert drawn.stat().st_size > 10_000


def test_what_cannot_be_explained_is_refused_in_the_one_shape(client: modelry.Client) -> None:
    blank = np.zeros((28, 28, 1))
    with pytest.raises(NotFound):
        client.explain("nothing", blank)
    with pytest.raises(InvalidParameter, match="method"):
        client.explain("digits", blank, method="gradients")
    with pytest.raises(UnknownParameter, match="patch"):
        client.explain("digits", blank, patch=3)
    with pytest.raises(InvalidParameter, match="label"):
        client.explain("digits", blank, label="eleven")
    with pytest.raises(InvalidParameter, match="evaluations"):
        client.explain("digits", blank, method="kernel-shap", evaluations=10)


def test_predictions_are_answered_while_an_explanation_runs(client: modelry.Client) -> None:
    """Many rows of one request do not make the others wait for all of them."""
    import threading

    image, label = a_digit(client)
    done = threading.Event()

    def explain() -> None:
        client.explain(
            "digits", (image / 255)[..., None], method="kernel-shap", patch=1, evaluations=6000
        )
        done.set()

    thread = threading.Thread(target=explain)
    thread.start()
    between = 0
    while not done.is_set():
        assert client.predict("digits", (image / 255)[..., None]).label == label
        between += 1
    thread.join()
    assert between > 3
