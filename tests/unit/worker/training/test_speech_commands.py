"""Recordings to labels: heard alike in training and in serving, whatever their length, rate and company."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from modelry.artifacts import Artifacts
from modelry.core.errors import InvalidData
from modelry.core.learning import plan_lesson
from modelry.core.manifests import AudioInput
from modelry.core.recipes import get_recipe
from modelry.core.results import MadeDataset
from modelry.core.specs import StopReason
from modelry.core.tensors import Media, Payload
from modelry.worker.context import Stopped
from modelry.worker.data.reading import OpenDataset, open_dataset
from modelry.worker.data.recordings import MAX_SECONDS
from modelry.worker.models.onnx_form import write_onnx
from modelry.worker.models.verify import original
from modelry.worker.recipes.building import build_network
from modelry.worker.recipes.network import Network
from modelry.worker.tasks import prepare
from modelry.worker.training import job, loop
from modelry.worker.training.memory import micro_batch_rows
from modelry.worker.training.objectives import Classification
from modelry.worker.training.processors import make_processor
from modelry.worker.training.samples import RaggedSamples
from modelry.worker.training.starting import freeze
from tests.unit.worker.training import making
from tests.unit.worker.training.conftest import Attempts
from tests.unit.worker.training.test_kinds import CASES, order, train

CASE = CASES["recordings"]


def network(**given: Any) -> Network:
    torch.manual_seed(0)
    card = get_recipe("speech-commands")
    return build_network(card.name, card.check({**CASE.params, **given}), classes=3)


def noise(samples: int, rows: int = 1) -> np.ndarray[Any, Any]:
    return 0.1 * np.random.default_rng(1).standard_normal((rows, samples), np.float32)


def data_of(root: Path, sounds: list[bytes | None]) -> OpenDataset:
    labels = np.arange(len(sounds)) % 2
    columns = {"sound": pa.array(sounds, pa.binary()), "label": labels}
    features = {
        "sound": making.Feature(kind="audio", dtype="bytes"),
        "label": making.Feature(kind="label", dtype="int64", labels=["a", "b"]),
    }
    made = making.store_dataset(root, features, "label", train=columns, test=columns)
    return opened(made, root)


def opened(made: MadeDataset, root: Path) -> OpenDataset:
    Artifacts(str(root / "blobs")).fetch(made.files, root / "data")
    return open_dataset(root / "data")


def read(data: OpenDataset, **given: Any) -> RaggedSamples:
    card = get_recipe("speech-commands")
    params = card.check({**CASE.params, **given})
    processor = make_processor(plan_lesson(card, data.manifest, "mine"), data, params)
    samples = processor.samples("train", network(**given))
    assert isinstance(samples, RaggedSamples)
    return samples


def test_a_recording_is_heard_alike_in_training_and_in_serving(
    attempts: Attempts, tmp_path: Path
) -> None:
    model = train(CASE, attempts, tmp_path)
    media = model.manifest.media
    assert isinstance(media, AudioInput)
    assert (media.sample_rate, media.features, media.max_seconds) == (8000, "waveform", MAX_SECONDS)
    asked = {
        "low": making.tone(310, 0.3, 44100),
        "middle": making.tone(950, 0.2, 8000, "FLAC"),
        "high": making.tone(2400, 1.5, 16000),
    }
    for label, sound in asked.items():
        inputs = prepare(Payload(media=(Media(sound, "audio/wav"),)), model.manifest)
        answer = model.runtime.run(inputs)["probabilities"]
        assert model.manifest.labels[int(answer.argmax())] == label
    data = opened(model.data, tmp_path)
    samples = read(data)
    for row, sound in enumerate(data.table("train", ["sound"]).column(0).to_pylist()[:20]):
        served = prepare(Payload(media=(Media(sound, "audio/wav"),)), model.manifest)["x"][0]
        trained = samples.batch(torch.tensor([row]))[0][0].numpy()
        assert np.array_equal(trained, served[: len(trained)])
        assert len(trained) == min(len(served), 2400)


def test_the_company_in_a_batch_and_what_comes_after_its_seconds_change_no_answer(
    tmp_path: Path,
) -> None:
    ask = original(network(seconds=0.25))
    lengths = (1, 80, 81, 777, 1999, 2000, 2001, 9000)
    rows = [noise(length)[0] for length in lengths]
    batch = np.zeros((len(rows), max(lengths)), np.float32)
    for place, row in zip(batch, rows, strict=True):
        place[: len(row)] = row
    together = ask(batch)
    for answer, row in zip(together, rows, strict=True):
        assert np.allclose(ask(row[None]), answer, atol=1e-5)
    assert np.allclose(ask(rows[-1][None, :2000]), together[-1], atol=1e-5)


@pytest.mark.parametrize("given", [{}, {"channels": [4]}, {"mels": 8, "channels": [4] * 6}])
def test_the_portable_form_answers_the_same_for_every_length(
    given: dict[str, Any], tmp_path: Path
) -> None:
    import onnxruntime

    made = network(**given)
    write_onnx(made, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for rows, length in ((1, 1), (1, 80), (3, 999), (2, 2400), (1, 20_000)):
        waves = noise(length, rows)
        found = session.run(None, {"x": waves})[0]
        assert np.abs(found - original(made)(waves)).max() < 1e-4


def test_silence_and_a_click_have_finite_answers() -> None:
    ask = original(network())
    for waves in (np.zeros((2, 8000), "f4"), np.zeros((1, 0), "f4"), noise(80), 100 * noise(80)):
        assert np.isfinite(ask(waves)).all()


def test_only_weights_are_saved() -> None:
    assert not [name for name in network().state_dict() if name.startswith("log_mel")]


def test_a_trial_pass_and_frozen_layers_move_no_running_means() -> None:
    made = network()
    samples = RaggedSamples(
        torch.from_numpy(noise(4000)[0]),
        torch.tensor([0, 1000, 4000]),
        torch.tensor([0, 1]),
        fill=0.0,
    )
    before = {name: value.clone() for name, value in made.state_dict().items()}

    def is_unmoved() -> bool:
        return all(torch.equal(value, before[name]) for name, value in made.state_dict().items())

    made.train()
    micro_batch_rows(made, samples, Classification(), None)
    assert is_unmoved()
    freeze(made)
    made.train()
    made(samples.batch(torch.tensor([0, 1]))[0])
    assert is_unmoved()
    for weight in made.parameters():
        weight.requires_grad_(True)
    made.train()
    made(samples.batch(torch.tensor([0, 1]))[0])
    assert not is_unmoved()


def test_a_stop_in_the_middle_of_a_step_undoes_it(
    attempts: Attempts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish = order(CASE, making.recordings(tmp_path), epochs=1, batch_size=60, pass_rows=20)
    add, ends = loop.Training._add_gradient, []

    def run(stop_at: int | None) -> dict[str, Tensor]:
        """The weights and the running means after a training that was stopped in a step's middle, or never."""
        parts, context = 0, attempts.start(**wish)

        def watched(self: loop.Training, part: Tensor, step_rows: int, sums: Tensor) -> None:
            nonlocal parts
            add(self, part, step_rows, sums)
            parts += 1
            if parts == stop_at:
                context.stop_requested = StopReason.PAUSE

        finish = loop.Training._finish

        def finished(self: loop.Training) -> None:
            finish(self)
            ends.append({k: v.clone() for k, v in self.network.state_dict().items()})

        with monkeypatch.context() as patched:
            patched.setattr(loop.Training, "_add_gradient", watched)
            patched.setattr(loop.Training, "_finish", finished)
            if stop_at is None:
                job.run(context)
                return ends[-1]
            with pytest.raises(Stopped):
                job.run(context)
            checkpoint = attempts.newest_checkpoint()
            patched.setattr(loop.Training, "_add_gradient", add)
            job.run(attempts.start(checkpoint=checkpoint, **wish))
            return ends[-1]

    whole, resumed = run(None), run(4)
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name


def test_a_model_of_another_rate_is_another_network(tmp_path: Path) -> None:
    data = data_of(tmp_path, [making.tone(500, 0.2, 16000)] * 2)
    assert [len(read(data, sample_rate=rate).values) for rate in (8000, 16000)] == [3200, 6400]


@pytest.mark.parametrize(
    ("sound", "reason"),
    [
        (None, "row 1 cannot be learned from"),
        (b"RIFF but no sound", "row 1 cannot be learned from"),
        (making.tone(500, 0.0), "it holds no samples"),
        (making.tone(500, MAX_SECONDS + 1), "it is longer than 60 s"),
    ],
)
def test_a_recording_that_is_none_is_refused_with_its_row(
    sound: bytes | None, reason: str, tmp_path: Path
) -> None:
    data = data_of(tmp_path, [making.tone(500, 0.2), sound])
    with pytest.raises(InvalidData, match=reason) as refusal:
        read(data)
    assert refusal.value.facts["file"] == "train"
    assert "Mend or remove" in refusal.value.remedy
