"""One encoded recording → one row of a model's tensor input: decoded, one channel, resampled, measured.

Decodes with libsndfile: WAV, FLAC, OGG (Vorbis, Opus) and MP3. The number of samples that a file claims is never
believed: it is read in pieces and refused where it turns out longer than the model allows.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from math import gcd
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from modelry.core.errors import InvalidInput, InvalidMedia, ModelUnloadable
from modelry.core.manifests import AudioInput
from modelry.core.tensors import Array
from modelry.worker.tasks.spectrograms import log_mel

#: libsndfile's names of what may come in.
FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "MPEG")
REMEDY = "Send the bytes of a WAV, FLAC, OGG or MP3 file."
#: Samples a second that a file may claim.
RATES = (1000, 384_000)
_MOST_CHANNELS = 32
#: Samples of one channel that are decoded at once.
_PIECE = 1 << 16
#: Zero crossings of the resampling filter on each side, and the shape of its window.
_HALF_WIDTH, _KAISER_BETA = 10, 5.0


def audio_tensor(data: bytes, media: AudioInput) -> Array:
    """float32: samples, or a spectrogram, as `media` says; raises `InvalidMedia`."""
    samples = decode_audio(data, media.sample_rate, media.max_seconds)
    if media.features == "log-mel":
        return log_mel(samples, media.sample_rate, media.options)
    return _waveform(samples, media.options)


def audio_tensors(recordings: Sequence[bytes], media: AudioInput) -> Array:
    """float32 recordings × what one becomes; raises `InvalidMedia`, `InvalidInput` where lengths may not differ."""
    rows = [audio_tensor(data, media) for data in recordings]
    if len({row.shape for row in rows}) == 1:
        return np.stack(rows)
    if not media.options.get("pad"):
        raise InvalidInput(reason="the recordings differ in length", expected="one at a time")
    padded = np.zeros((len(rows), max(map(len, rows))), np.float32)
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    return padded


def decode_audio(data: bytes, sample_rate: int, max_seconds: float) -> Array:
    """float32 samples from -1 to 1, the mean of all channels, at `sample_rate`; raises `InvalidMedia`."""
    samples, rate = _read(data, max_seconds)
    if not np.isfinite(samples).all():
        raise _refusal("it holds samples that are no numbers")
    return resample(samples, rate, sample_rate)


def resample(samples: Array, rate: int, wanted: int) -> Array:
    """float32 samples at another rate, by a polyphase filter (Crochiere and Rabiner 1983): a sinc, Kaiser window."""
    if rate == wanted:
        return samples.astype(np.float32)
    divisor = gcd(rate, wanted)
    up, down = wanted // divisor, rate // divisor
    taps, before = _phases(up, down)
    count = -(-len(samples) * up // down)
    width = taps.shape[1]
    positions = np.arange(count, dtype=np.int64) * down
    last = int(positions[-1]) // up
    padded = np.pad(samples.astype(np.float64), (before, max(0, last + width - len(samples))))
    windows = sliding_window_view(padded, width)
    resampled = np.empty(count, np.float32)
    for phase in range(min(up, count)):
        # Every `up`-th output stands at the same place between two inputs, `down` inputs further on.
        start = int(positions[phase]) // up
        mine = resampled[phase::up]
        mine[:] = windows[start::down][: len(mine)] @ taps[int(positions[phase]) % up]
    return resampled


@lru_cache(maxsize=4)
def _phases(up: int, down: int) -> tuple[Array, int]:
    """The filter's taps for each position between two inputs, and how many inputs before that position they begin."""
    most = max(up, down)
    half = _HALF_WIDTH * most
    at = np.arange(-half, half + 1)
    taps = np.sinc(at / most) * np.kaiser(2 * half + 1, _KAISER_BETA)
    taps *= up / taps.sum()
    before = half // up
    phases = np.zeros((up, 2 * before + 2))
    for phase in range(up):
        # Input j weighs h(phase - j·up); j runs from -before to before + 1.
        index = phase - up * np.arange(-before, before + 2) + half
        inside = (index >= 0) & (index < len(taps))
        phases[phase, inside] = taps[index[inside]]
    return phases, before


def _waveform(samples: Array, options: dict[str, Any]) -> Array:
    """The samples themselves, with zero mean and unit variance where the model was trained so."""
    shortest = int(options.get("min_samples", 1))
    if len(samples) < shortest:
        raise _refusal(f"it has {len(samples)} samples and the model needs {shortest}")
    if options.get("normalize"):
        samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    return samples.astype(np.float32)


def _read(data: bytes, max_seconds: float) -> tuple[Array, int]:
    soundfile = _soundfile()
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            _check_head(file)
            limit = int(max_seconds * file.samplerate)
            pieces, length = [], 0
            while len(piece := file.read(_PIECE, dtype="float32", always_2d=True)):
                length += len(piece)
                if length > limit:
                    raise _refusal(f"it is longer than {max_seconds:g} s")
                pieces.append(piece.mean(axis=1))
            rate = int(file.samplerate)
    except InvalidMedia:
        raise
    except Exception as error:  # libsndfile's decoders and their wrapper raise many kinds
        raise _refusal(_reason(error)) from None
    if not length:
        raise _refusal("it holds no samples")
    return np.concatenate(pieces), rate


def _check_head(file: Any) -> None:
    if file.format not in FORMATS:
        raise _refusal(f"it is {file.format}")
    if not RATES[0] <= file.samplerate <= RATES[1]:
        raise _refusal(f"it claims {file.samplerate} samples a second")
    if not 1 <= file.channels <= _MOST_CHANNELS:
        raise _refusal(f"it claims {file.channels} channels")


def _soundfile() -> Any:
    """The wrapper of libsndfile; imported with the first recording."""
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise ModelUnloadable(
            reason=f"recordings cannot be read ({error})",
            remedy="Install the package soundfile on the machine that serves.",
        ) from None
    return soundfile


def _refusal(reason: str) -> InvalidMedia:
    return InvalidMedia(media="recording", reason=reason, remedy=REMEDY)


def _reason(error: Exception) -> str:
    """libsndfile's words without the address of the object that was read."""
    text = str(error).split("<_io")[-1].split(">: ")[-1]
    return text.strip(" .") or "it cannot be decoded"
