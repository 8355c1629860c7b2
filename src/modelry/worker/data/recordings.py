"""Encoded recordings to samples: the one way for data sets and training. Decodes WAV, FLAC, OGG and MP3 by libsndfile.

How long a file claims to be is never believed: it is read in pieces and refused where it turns out too long.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from modelry.core.errors import InvalidMedia
from modelry.core.tensors import Array

#: A recording of a data set at most.
MAX_SECONDS = 60
#: libsndfile's names of what may come in.
FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "MPEG")
#: Samples a second that a file may claim.
RATES = (1000, 384_000)
_MOST_CHANNELS = 32
#: Samples of one channel that are decoded at once.
_PIECE = 1 << 16
_REMEDY = "Bring WAV, FLAC, OGG or MP3 files."


def decode_recording(data: bytes) -> tuple[Array, int]:
    """float32 samples from -1 to 1, the mean of all channels, and how many there are a second; raises `InvalidMedia`
    for what is no recording, holds no samples or NaN, or is over `MAX_SECONDS` long.
    """
    import soundfile  # loads libsndfile, which few imports need

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            _check_head(file)
            return _samples(file), int(file.samplerate)
    except InvalidMedia:
        raise
    except Exception as error:  # libsndfile's decoders and their wrapper raise many kinds
        words = str(getattr(error, "error_string", error)).split("<_io")[0].strip(" .:")
        raise _refusal(words or "it cannot be read") from None


def _check_head(file: Any) -> None:
    if file.format not in FORMATS:
        raise _refusal(f"it is a {file.format} file")
    if not RATES[0] <= file.samplerate <= RATES[1]:
        raise _refusal(f"it claims {file.samplerate} samples a second")
    if not 1 <= file.channels <= _MOST_CHANNELS:
        raise _refusal(f"it claims {file.channels} channels")


def _samples(file: Any) -> Array:
    pieces, length = [], 0
    while len(piece := file.read(_PIECE, dtype="float32", always_2d=True)):
        length += len(piece)
        if length > MAX_SECONDS * file.samplerate:
            raise _refusal(f"it is longer than {MAX_SECONDS} s")
        pieces.append(piece.mean(axis=1))
    if not length:
        raise _refusal("it holds no samples")
    samples: Array = np.concatenate(pieces)
    if not np.isfinite(samples).all():
        raise _refusal("it holds samples that are no numbers")
    return samples


def _refusal(reason: str) -> InvalidMedia:
    return InvalidMedia(media="recording", reason=reason, remedy=_REMEDY)
