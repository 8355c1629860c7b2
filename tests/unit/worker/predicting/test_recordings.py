"""Batch predictions over recordings: each has the answer that it has alone, whatever its length."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from modelry.artifacts import Artifacts
from modelry.core.errors import WrongDataKind
from modelry.core.feeding import plan_feed
from modelry.core.manifests import AudioInput, Feature
from modelry.core.results import made_dataset
from modelry.worker.data.reading import open_dataset
from modelry.worker.predicting import job
from modelry.worker.tasks.recordings import audio_tensor
from tests.unit.worker.predicting.making import Batches
from tests.unit.worker.training import making
from tests.unit.worker.training.conftest import Attempts
from tests.unit.worker.training.test_kinds import CASES, rooted, train

__all__ = ["rooted"]

CASE = CASES["recordings"]


def test_every_recording_has_the_answer_it_has_alone(rooted: Attempts, tmp_path: Path) -> None:
    model = train(CASE, rooted, tmp_path)
    context = Batches(tmp_path, model.data.files, model.made.files).start(split="test", max_batch=7)
    made = made_dataset(job.run(context))
    context.close()
    assert made is not None
    assert list(made.manifest.features)[:2] == ["row", "label"]
    artifacts = Artifacts(str(tmp_path / "blobs"))
    artifacts.fetch(made.files, tmp_path / "made")
    artifacts.fetch(model.data.files, tmp_path / "data")
    [file] = made.manifest.splits["test"].files
    found = pq.read_table(tmp_path / "made" / file).to_pydict()
    media = model.manifest.media
    assert isinstance(media, AudioInput)
    sounds = open_dataset(tmp_path / "data").table("test", ["sound"]).column(0).to_pylist()
    for sound, score in zip(sounds, found["predicted_score"], strict=True):
        alone = model.ask(audio_tensor(sound, media)[None])
        assert np.allclose(alone.max(), score, atol=1e-4)


def test_data_without_recordings_and_models_that_take_them_one_by_one_are_refused(
    rooted: Attempts, tmp_path: Path
) -> None:
    model = train(CASE, rooted, tmp_path, epochs=1)
    data = model.data.manifest
    assert plan_feed(data, model.manifest).columns == ("sound",)
    other = msgspec.structs.replace(
        data, features={"x": making.NUMBER, "label": data.features["label"]}
    )
    with pytest.raises(WrongDataKind, match="0 columns of recordings"):
        plan_feed(other, model.manifest)
    two = msgspec.structs.replace(
        data, features={**data.features, "echo": Feature(kind="audio", dtype="bytes")}
    )
    with pytest.raises(WrongDataKind, match="2 columns of recordings"):
        plan_feed(two, model.manifest)
    strict = msgspec.structs.replace(model.manifest, media=AudioInput(sample_rate=8000, input="x"))
    with pytest.raises(WrongDataKind, match="may differ in length"):
        plan_feed(data, strict)
