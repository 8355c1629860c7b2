"""The spectrogram inside a network is the formula's, and what is silent is silent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from modelry.worker.recipes.log_mel import LogMel, masked, standardised

Array = np.ndarray[Any, Any]


def by_formula(samples: Array, rate: int, mels: int) -> Array:
    """mels × frames, by a plain Fourier transform of every frame."""
    window, hop = rate * 25 // 1000, rate // 100
    points = 2 ** int(np.ceil(np.log2(window)))
    steps = np.linspace(*(2595 * np.log10(1 + hz / 700) for hz in (20, rate / 2)), mels + 2)
    edges = 700 * (10 ** (steps / 2595) - 1)
    at = np.fft.rfftfreq(points, 1 / rate)
    filters = np.stack(
        [np.interp(at, edges[band : band + 3], [0, 1, 0], 0, 0) for band in range(mels)]
    )
    padded = np.pad(samples.astype(np.float64), (0, window))
    frames = np.stack([padded[start : start + window] for start in range(0, len(samples) + 1, hop)])
    power = np.abs(np.fft.rfft(frames * np.hanning(window + 1)[:-1], points)) ** 2
    return np.log(filters @ power.T + 1e-6)


def noise(samples: int, rows: int = 2) -> torch.Tensor:
    return 0.1 * torch.from_numpy(np.random.default_rng(0).standard_normal((rows, samples), "f4"))


@pytest.mark.parametrize(("rate", "mels"), [(8000, 40), (16000, 64), (44000, 23)])
@pytest.mark.parametrize("samples", [1, 200, 799, 4000])
def test_it_is_the_formula(rate: int, mels: int, samples: int) -> None:
    waves = noise(samples)
    found = LogMel(rate, mels)(waves).numpy()
    expected = np.stack([by_formula(row, rate, mels) for row in waves.numpy()])
    assert found.shape == expected.shape
    assert np.allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 32000, 44100, 48000])
def test_every_band_hears_something(rate: int) -> None:
    assert (LogMel(rate, 64).filters.sum(dim=1) > 0).all()


def test_a_tone_is_loudest_in_the_band_of_its_pitch() -> None:
    layer = LogMel(8000, 40)
    at = torch.arange(8000) / 8000
    loudest = [
        int(layer(torch.sin(2 * torch.pi * hz * at)[None]).mean(dim=2).argmax())
        for hz in (300, 1000, 3000)
    ]
    mel = 2595 * np.log10(1 + np.array([20, 300, 1000, 3000, 4000]) / 700)
    places = (mel[1:4] - mel[0]) / (mel[4] - mel[0]) * 41 - 1
    assert np.abs(np.array(loudest) - places).max() <= 1


def test_what_follows_a_recording_is_not_heard_and_changes_nothing() -> None:
    layer = LogMel(8000, 40)
    waves = noise(1234)
    padded = torch.cat((waves, torch.zeros(2, 3000)), dim=1)
    is_heard = layer.is_heard(padded)
    frames = int(layer.is_heard(waves).sum(dim=2).max())
    assert is_heard[0, 0].tolist() == [1.0] * frames + [0.0] * (is_heard.shape[2] - frames)
    alone = standardised(layer(waves), layer.is_heard(waves))
    together = standardised(layer(padded), is_heard)
    assert torch.allclose(together[:, :, :frames], alone[:, :, :frames], atol=1e-5)
    assert not together[:, :, frames:].any()


def test_loudness_falls_out_and_silence_is_zeros() -> None:
    layer = LogMel(8000, 40)
    waves = noise(4000)
    loud, quiet = (standardised(layer(each), layer.is_heard(each)) for each in (waves, 0.3 * waves))
    assert torch.allclose(loud, quiet, atol=1e-2)
    silence = torch.zeros(1, 4000)
    assert not standardised(layer(silence), layer.is_heard(silence)).any()


def test_masks_are_one_run_of_bands_and_one_of_frames_for_each_recording() -> None:
    torch.manual_seed(0)
    rows = masked(torch.ones(200, 40, 100), most_mels=8, most_frames=10) == 0
    bands, frames = rows.all(dim=2).sum(dim=1), rows.all(dim=1).sum(dim=1)
    assert (bands.max(), frames.max()) == (8, 10)
    assert (bands.min(), frames.min()) == (0, 0)
    for row, band_count, frame_count in zip(rows, bands, frames, strict=True):
        assert row.sum() == 100 * band_count + 40 * frame_count - band_count * frame_count
    assert not (masked(torch.ones(9, 40, 100), 0, 0) == 0).any()


def test_constants_are_in_no_file_of_weights() -> None:
    assert not LogMel(8000, 40).state_dict()
