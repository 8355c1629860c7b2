"""Recordings: decoded to their end, kept as they are, labelled by their names."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from modelry.core.errors import InvalidData, InvalidMedia
from modelry.core.manifests import Feature
from modelry.worker.data import recordings
from modelry.worker.data.recordings import decode_recording
from tests.conftest import Importer
from tests.unit.worker.data.making import RATE, tone, tones, zipped


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3"])
def test_every_format_is_decoded(format: str) -> None:
    samples, rate = decode_recording(tone(0.5, format=format))
    assert rate == RATE
    assert samples.dtype == np.float32
    assert samples.shape[0] == pytest.approx(RATE / 2, rel=0.4)  # MP3 pads
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.1)


def test_channels_are_averaged() -> None:
    out = io.BytesIO()
    soundfile.write(out, np.tile([[0.5, -0.25]], (800, 1)), RATE, format="WAV", subtype="FLOAT")
    samples, _ = decode_recording(out.getvalue())
    assert np.allclose(samples, 0.125)


@pytest.mark.parametrize("pack", ["folder", "zip"])
def test_recordings_in_folders_are_kept_as_they_are(importer: Importer, pack: str) -> None:
    files = tones(["no", "yes"])
    made = importer.upload(files if pack == "folder" else {"a.zip": zipped(files)})
    assert made.manifest.features["audio"] == Feature(kind="audio", dtype="bytes", sample_rate=RATE)
    assert made.manifest.features["label"].labels == ["no", "yes"]
    assert made.manifest.task == "audio-classification"
    data = importer.open(made)
    stored = [data.table(split, ["audio"])["audio"].to_pylist() for split in ("train", "test")]
    assert sorted(stored[0] + stored[1]) == sorted(files.values())
    assert (len(stored[0]), len(stored[1])) == (8, 2)
    assert made.manifest.statistics["audio"]["seconds"] == {
        "minimum": 0.1,
        "maximum": 0.1,
        "mean": pytest.approx(0.1),
    }
    assert made.manifest.preview[0]["audio"] == {"seconds": 0.1, "sample_rate": RATE}


def test_rates_that_differ_are_not_told(importer: Importer) -> None:
    train = {f"train/{name}": data for name, data in tones(["a", "b"]).items()}
    test = {f"test/{name}": data for name, data in tones(["a", "b"], 2, rate=16_000).items()}
    made = importer.upload({**train, **test})
    assert made.manifest.features["audio"].sample_rate is None
    assert made.manifest.splits["test"].rows == 4


def test_labels_can_stand_in_the_names_of_recordings(importer: Importer) -> None:
    files = {f"{n % 3}_anna_{n}.wav": tone(height=100 + n) for n in range(30)}
    made = importer.upload(files)
    assert made.manifest.features["label"].labels == ["0", "1", "2"]


def test_content_decides_what_a_recording_is(importer: Importer) -> None:
    files = {f"{label}/{n}.sound": tone(height=100 + n) for label in "ab" for n in range(3)}
    assert importer.upload(files).manifest.features["audio"].kind == "audio"
    with pytest.raises(InvalidData, match=r"x\.wav: its content is no recording"):
        importer.upload({"a/x.wav": b"some words"})


_BROKEN: dict[str, tuple[dict[str, bytes], str, str]] = {
    "cut to its head": ({"a/x.wav": tone()[:30]}, "a/x.wav", "no recording that can be"),
    "without samples": ({"a/x.wav": tone(0)}, "a/x.wav", "it holds no samples"),
    "too long": ({"a/x.flac": tone(60.5, format="FLAC")}, "a/x.flac", "longer than 60 s"),
    "damaged within": (
        {"a/x.flac": tone(format="FLAC")[:60] + b"\0" * 400},
        "a/x.flac",
        "no recording that can be",
    ),
    "a picture among them": ({"a/x.png": b"\x89PNG\r\n\x1a\n"}, "a/x.png", "import one at a time"),
    "outside the folders": ({"x_1.wav": tone()}, "x_1.wav", "outside the class folders"),
}


@pytest.mark.parametrize("case", _BROKEN)
def test_broken_recordings_are_refused(importer: Importer, case: str) -> None:
    files, file, reason = _BROKEN[case]
    with pytest.raises(InvalidData, match=reason) as caught:
        importer.upload({**tones(["a", "b"]), **files})
    assert caught.value.facts["file"] == file


def test_a_recording_s_target_is_its_name(importer: Importer) -> None:
    with pytest.raises(InvalidData, match="recordings are labelled by folder or file name"):
        importer.upload(tones(["a", "b"]), target="label")


def test_samples_that_are_no_numbers_are_refused() -> None:
    out = io.BytesIO()
    values = np.array([0.0, np.nan, 0.5])
    soundfile.write(out, values, RATE, format="WAV", subtype="FLOAT")
    with pytest.raises(InvalidMedia, match="no numbers"):
        decode_recording(out.getvalue())


def test_a_length_is_counted_and_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "MAX_SECONDS", 1)
    assert len(decode_recording(tone(1.0))[0]) == RATE
    with pytest.raises(InvalidMedia, match="longer than 1 s"):
        decode_recording(tone(1.01))


@pytest.mark.data
def test_real_digits_spoken_by_six(importer: Importer, shared_data: Path) -> None:
    made = importer.path(shared_data / "fsdd")
    assert made.manifest.features["audio"].sample_rate == 8000
    assert made.manifest.features["label"].labels == [str(n) for n in range(10)]
    assert {name: split.rows for name, split in made.manifest.splits.items()} == {
        "train": 2400,
        "test": 600,
    }


@pytest.mark.data
def test_real_clips_of_speech_are_decoded(shared_data: Path) -> None:
    for clip in (shared_data / "speech").glob("*.[wf]*"):
        samples, rate = decode_recording(clip.read_bytes())
        assert rate >= 8000
        assert np.abs(samples).max() > 0.01
