"""Sound before a network: the library's feature extractor as an `AudioInput`.

Believed when both make equal tensors of a few sounds.
"""

from __future__ import annotations

import importlib
import io
from typing import Any

import numpy as np

from modelry.core.errors import ModelryError, NotConvertible
from modelry.core.manifests import AudioInput, TensorSpec
from modelry.core.tensors import Array
from modelry.worker.models.importing.comparing import sliced
from modelry.worker.models.importing.huggingface.front import Front
from modelry.worker.models.importing.huggingface.loading import not_convertible
from modelry.worker.models.importing.huggingface.settings import Settings
from modelry.worker.tasks.recordings import audio_tensor

_SECONDS = (1.0, 0.7, 2.3)
_TOLERANCE = 1e-3
_REMEDY = "Export the model to ONNX and import that; it then takes its features as tensors."


def sound_front(settings: Settings, model: Any) -> Front:
    """Raises `NotConvertible` for features that an `AudioInput` cannot say."""
    library: Any = importlib.import_module("transformers")
    try:
        extractor = library.AutoFeatureExtractor.from_pretrained(
            str(settings.weights_folder), local_files_only=True, trust_remote_code=False
        )
        media = _describe(extractor, model)
    except Exception as error:  # Extractors raise whatever their settings lead them to.
        raise not_convertible(error, "its feature extractor is not understood") from None
    rows = [_sample(extractor, media, seconds) for seconds in _SECONDS]
    spec = TensorSpec(
        name=media.input,
        dtype="float32",
        shape=[None, *_shape(media, rows[0])],
        example=list(rows[0].shape),
    )
    batches = [np.repeat(rows[0][None], 2, axis=0), *(row[None] for row in rows)]
    return Front(media, [spec], [sliced({media.input: batch}) for batch in batches])


def _shape(media: AudioInput, row: Array) -> list[int | None]:
    return [None] if media.features == "waveform" else list(row.shape)


def _describe(extractor: Any, model: Any) -> AudioInput:
    rate = int(extractor.sampling_rate)
    match type(extractor).__name__:
        case "Wav2Vec2FeatureExtractor":
            options: dict[str, Any] = {
                "normalize": bool(extractor.do_normalize),
                "min_samples": _min_samples(model.config),
            }
            return AudioInput(sample_rate=rate, input="input_values", options=options)
        case "ASTFeatureExtractor":
            options = {
                "family": "kaldi",
                "frames": int(extractor.max_length),
                "bins": int(extractor.num_mel_bins),
                "normalize": bool(extractor.do_normalize),
                "mean": float(extractor.mean),
                "std": float(extractor.std),
            }
            return AudioInput(
                sample_rate=rate, input="input_values", features="log-mel", options=options
            )
        case "WhisperFeatureExtractor":
            options = {
                "family": "whisper",
                "frames": int(extractor.nb_max_frames),
                "bins": int(extractor.feature_size),
                "fft": int(extractor.n_fft),
                "hop": int(extractor.hop_length),
            }
            seconds = float(extractor.chunk_length)
            return AudioInput(
                sample_rate=rate,
                input="input_features",
                features="log-mel",
                max_seconds=seconds,
                options=options,
            )
    raise ValueError(f"{type(extractor).__name__} is not known")


def _min_samples(config: Any) -> int:
    """The fewest samples of which the convolutions leave two frames."""
    wanted = 2
    layers = list(zip(config.conv_kernel, config.conv_stride, strict=True))
    for kernel, stride in reversed(layers):
        wanted = (wanted - 1) * stride + kernel
    return int(wanted)


def _sample(extractor: Any, media: AudioInput, seconds: float) -> Array:
    """Our features of a made-up sound; raises `NotConvertible` where they are not the library's."""
    samples = _sound(int(seconds * media.sample_rate), media.sample_rate)
    try:
        ours = audio_tensor(_wav(samples, media.sample_rate), media)
        made = extractor(samples, sampling_rate=media.sample_rate, return_tensors="np")
        theirs = np.asarray(made[media.input])[0]
    except ModelryError as error:
        raise NotConvertible(reason=error.message.rstrip("."), remedy=_REMEDY) from None
    except Exception as error:
        raise not_convertible(error, "its feature extractor fails") from None
    difference = np.inf if ours.shape != theirs.shape else float(np.abs(ours - theirs).max())
    if not difference <= _TOLERANCE:
        raise NotConvertible(
            reason=f"its feature extractor does more than is known here ({difference:.2g} apart)",
            remedy=_REMEDY,
        )
    return ours


def _sound(count: int, rate: int) -> Array:
    """Three tones and some noise."""
    at = np.arange(count) / rate
    tones = sum(np.sin(2 * np.pi * hertz * at) for hertz in (220.0, 554.4, 1318.5))
    noise = np.random.default_rng(count).standard_normal(count)
    return (0.1 * tones + 0.02 * noise).astype(np.float32)


def _wav(samples: Array, rate: int) -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()
