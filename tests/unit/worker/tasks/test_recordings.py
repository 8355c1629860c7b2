"""Recordings to tensors: every container gives the same sound, resampling is scipy's, lies are refused."""

from __future__ import annotations

import io
import struct
from math import gcd
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile
import transformers
from scipy.signal import resample_poly

from modelry.core.errors import InvalidMedia
from modelry.core.manifests import AudioInput
from modelry.worker.tasks.recordings import audio_tensor, decode_audio, resample
from modelry.worker.tasks.spectrograms import log_mel

PLAIN = AudioInput(sample_rate=16000, input="x", max_seconds=3.0)
Samples = np.ndarray[Any, Any]


def tones(rate: int = 16000, seconds: float = 1.0) -> Samples:
    at = np.arange(int(rate * seconds)) / rate
    return (0.3 * np.sin(2 * np.pi * 440 * at) + 0.1 * np.sin(2 * np.pi * 1000 * at)).astype("f4")


def encoded(samples: Samples, rate: int = 16000, kind: str = "WAV", **more: Any) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, **more)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "tolerance"), [("WAV", 1e-4), ("FLAC", 1e-4), ("OGG", 0.1), ("MP3", 0.1)]
)
def test_every_container_gives_the_sound_that_was_put_in(kind: str, tolerance: float) -> None:
    samples = tones()
    found = decode_audio(encoded(samples, kind=kind), 16000, 3.0)
    assert len(found) == pytest.approx(len(samples), rel=0.1)
    # MP3 begins with a little silence of its own: the sound is what is compared, wherever it begins.
    nearness = np.correlate(found, samples, mode="full").max() / (samples**2).sum()
    assert nearness == pytest.approx(1.0, abs=tolerance)


def test_channels_become_their_mean() -> None:
    stereo = np.stack([tones(), -0.5 * tones()], axis=1)
    assert np.allclose(decode_audio(encoded(stereo), 16000, 3.0), 0.25 * tones(), atol=1e-4)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 44101])
def test_resampling_is_scipys(rate: int) -> None:
    samples = np.random.default_rng(rate).standard_normal(rate // 3).astype("f4")
    divisor = gcd(rate, 16000)
    expected = resample_poly(samples.astype("f8"), 16000 // divisor, rate // divisor)
    assert np.allclose(resample(samples, rate, 16000), expected, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_handful_of_samples_is_resampled_too(count: int) -> None:
    samples = np.ones(count, "f4")
    assert len(resample(samples, 44100, 16000)) == -(-count * 160 // 441)


def test_normalised_samples_are_wav2vecs() -> None:
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    expected = extractor(tones(), sampling_rate=16000, return_tensors="np")["input_values"][0]
    media = msgspec.structs.replace(PLAIN, options={"normalize": True})
    assert np.allclose(audio_tensor(encoded(tones(), subtype="FLOAT"), media), expected, atol=1e-4)


def test_spectrograms_of_both_families_are_the_librarys() -> None:
    kaldi = transformers.ASTFeatureExtractor(max_length=120, num_mel_bins=64)
    expected = kaldi(tones(), sampling_rate=16000, return_tensors="np")["input_values"][0]
    options = {
        "family": "kaldi",
        "frames": 120,
        "bins": 64,
        "normalize": True,
        "mean": kaldi.mean,
        "std": kaldi.std,
    }
    assert np.allclose(log_mel(tones(), 16000, options), expected, atol=1e-4)
    whisper = transformers.WhisperFeatureExtractor(feature_size=40, chunk_length=2)
    expected = whisper(tones(), sampling_rate=16000, return_tensors="np")["input_features"][0]
    options = {"family": "whisper", "frames": 200, "bins": 40, "fft": 400, "hop": 160}
    assert np.allclose(log_mel(tones(), 16000, options), expected, atol=1e-4)


def lying(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + struct.pack("<I", value) + data[at + 4 :]


WAV = encoded(tones(seconds=0.1))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF",
        b"nothing of the kind" * 100,
        WAV[:30],
        lying(WAV, 24, 0xFFFFFFFF),
        lying(WAV, 24, 0),
        encoded(tones(500, 1.0), 500),
        encoded(np.zeros(0, "f4")),
        encoded(np.array([0.0, np.nan, np.inf], "f4"), subtype="FLOAT"),
        encoded(tones(), kind="AIFF"),
        encoded(tones(seconds=3.1)),
        encoded(tones(), kind="FLAC")[:2000] + bytes(3000),
    ],
    ids=lambda data: f"{len(data)} bytes",
)
def test_what_is_no_recording_or_too_much_of_one_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidMedia) as refusal:
        decode_audio(data, 16000, 3.0)
    assert "WAV" in refusal.value.remedy
    assert "0x" not in refusal.value.message


def test_a_header_that_claims_a_day_is_read_as_far_as_there_are_samples() -> None:
    at = WAV.index(b"data") + 4
    assert len(decode_audio(lying(WAV, at, 0x7FFFFFF0), 16000, 3.0)) == 1600


def test_too_few_samples_for_the_network_are_refused_in_words() -> None:
    media = msgspec.structs.replace(PLAIN, options={"min_samples": 400})
    with pytest.raises(InvalidMedia, match="needs 400"):
        audio_tensor(encoded(tones(seconds=0.01)), media)


@pytest.mark.data
def test_real_clips_are_decoded(shared_data: Path) -> None:
    for clip in sorted((shared_data / "speech").glob("*.[wf]*")):
        samples = decode_audio(clip.read_bytes(), 16000, 60.0)
        assert 0.01 < np.abs(samples).max() <= 1.01
