"""Log-mel spectrograms as speech and sound models were trained on, in numpy alone.

Two families: `kaldi` (Povey et al. 2011, `fbank`: what Audio Spectrogram Transformers take) and `whisper`
(Radford et al. 2022: Slaney's mel scale, base-10 logarithm, 8 orders of magnitude).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from modelry.core.errors import InvalidMedia
from modelry.core.tensors import Array

_KALDI_FRAME, _KALDI_HOP, _KALDI_FFT = 400, 160, 512
_KALDI_FLOOR = 1.192092955078125e-07
_PREEMPHASIS = 0.97
#: Slaney's scale is linear below 1000 Hz and logarithmic above.
_SLANEY_HZ, _SLANEY_MEL, _SLANEY_STEP = 1000.0, 15.0, 27.0 / np.log(6.4)


def log_mel(samples: Array, sample_rate: int, options: dict[str, Any]) -> Array:
    """float32 frames × bins (`kaldi`) or bins × frames (`whisper`), cut or padded to `frames`; `InvalidMedia`."""
    if options["family"] == "whisper":
        return _whisper(samples, sample_rate, options)
    return _kaldi(samples, sample_rate, options)


def _kaldi(samples: Array, sample_rate: int, options: dict[str, Any]) -> Array:
    if len(samples) < _KALDI_FRAME:
        raise InvalidMedia(
            media="recording",
            reason=f"it has {len(samples)} samples and one frame needs {_KALDI_FRAME}",
            remedy="Send a longer recording.",
        )
    wanted, bins = int(options["frames"]), int(options["bins"])
    frames = sliding_window_view(samples.astype(np.float64), _KALDI_FRAME)[::_KALDI_HOP][:wanted]
    frames = frames - frames.mean(axis=1, keepdims=True)
    # Each sample less a share of the one before it; the first has itself before it.
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames = (frames - _PREEMPHASIS * before) * np.hanning(_KALDI_FRAME)
    power = np.abs(np.fft.rfft(frames, _KALDI_FFT)) ** 2
    energies = np.log(np.maximum(power @ _kaldi_filters(bins, sample_rate), _KALDI_FLOOR))
    padded = np.zeros((wanted, bins), np.float32)
    padded[: len(energies)] = energies
    if options.get("normalize"):
        # The padding is normalised with the rest: that is how these models were trained.
        padded = (padded - options["mean"]) / (2 * options["std"])
    return padded.astype(np.float32)


@lru_cache(maxsize=2)
def _kaldi_filters(bins: int, sample_rate: int) -> Array:
    """Frequencies × bins: triangles of equal width on the mel scale, from 20 Hz to half the sampling rate."""
    mel = 1127.0 * np.log1p(np.arange(_KALDI_FFT // 2 + 1) * sample_rate / _KALDI_FFT / 700.0)
    low, high = 1127.0 * np.log1p(np.array([20.0, sample_rate // 2]) / 700.0)
    return _triangles(mel, np.linspace(low, high, bins + 2))


def _whisper(samples: Array, sample_rate: int, options: dict[str, Any]) -> Array:
    size, hop, wanted = int(options["fft"]), int(options["hop"]), int(options["frames"])
    padded = np.zeros(wanted * hop, np.float64)
    padded[: min(len(samples), len(padded))] = samples[: len(padded)]
    padded = np.pad(padded, size // 2, mode="reflect")
    # The last frame begins where the recording ends and is left out.
    frames = sliding_window_view(padded, size)[::hop][:wanted]
    window = np.hanning(size + 1)[:-1]
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    filters = _slaney_filters(int(options["bins"]), sample_rate, size)
    energies = np.log10(np.maximum(power @ filters, 1e-10)).T
    energies = np.maximum(energies, energies.max() - 8.0)
    return np.asarray((energies + 4.0) / 4.0, np.float32)


@lru_cache(maxsize=2)
def _slaney_filters(bins: int, sample_rate: int, size: int) -> Array:
    """Frequencies × bins: triangles of equal area in Hz, equally spaced on Slaney's mel scale up to 8 kHz."""
    highest = min(8000.0, sample_rate / 2)
    edges = _slaney_to_hz(np.linspace(0.0, float(_hz_to_slaney(highest)), bins + 2))
    filters = _triangles(np.linspace(0.0, sample_rate / 2, size // 2 + 1), edges)
    areas: Array = filters * (2.0 / (edges[2:] - edges[:-2]))
    return areas


def _triangles(at: Array, edges: Array) -> Array:
    """Rises from each edge to the next and falls to the one after it; points × (edges - 2)."""
    rising = (at[:, None] - edges[None, :-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[None, 2:] - at[:, None]) / (edges[2:] - edges[1:-1])
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)))


def _hz_to_slaney(hz: float) -> float:
    if hz < _SLANEY_HZ:
        return 3.0 * hz / 200.0
    return float(_SLANEY_MEL + np.log(hz / _SLANEY_HZ) * _SLANEY_STEP)


def _slaney_to_hz(mel: Array) -> Array:
    logarithmic = _SLANEY_HZ * np.exp((mel - _SLANEY_MEL) / _SLANEY_STEP)
    return np.where(mel < _SLANEY_MEL, 200.0 * mel / 3.0, logarithmic)
