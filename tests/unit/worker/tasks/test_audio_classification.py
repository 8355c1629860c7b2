"""Recordings to labels: tiny networks on waveforms and on spectrograms answer as transformers' own do."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers

from modelry.core.errors import InvalidInput, InvalidMedia, NotConvertible
from modelry.core.tensors import Media, Payload
from modelry.worker.tasks import prepare
from tests.unit.worker.tasks import tiny
from tests.unit.worker.tasks.tiny import Served

LABELS = dict(enumerate(["yes", "no", "up"]))
_ENCODER = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "initializer_range": 0.3,
}
_WAV2VEC = {
    **_ENCODER,
    "conv_dim": (8, 8),
    "conv_stride": (5, 4),
    "conv_kernel": (10, 8),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 8,
}
CASES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "wav2vec2, group": ("Wav2Vec2ForSequenceClassification", _WAV2VEC, lambda: transformers.Wav2Vec2FeatureExtractor()),
    "wav2vec2, layer": (
        "Wav2Vec2ForSequenceClassification",
        {**_WAV2VEC, "feat_extract_norm": "layer", "do_stable_layer_norm": True},
        lambda: transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True),
    ),
    "hubert": (
        "HubertForSequenceClassification",
        _WAV2VEC,
        lambda: transformers.Wav2Vec2FeatureExtractor(do_normalize=False),
    ),
    "spectrogram": (
        "ASTForAudioClassification",
        {**_ENCODER, "max_length": 64, "num_mel_bins": 32},
        lambda: transformers.ASTFeatureExtractor(max_length=64, num_mel_bins=32),
    ),
    "whisper": (
        "WhisperForAudioClassification",
        {
            "d_model": 16,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 20,
            "decoder_ffn_dim": 20,
            "num_mel_bins": 20,
            "max_source_positions": 150,
            "init_std": 0.3,
        },
        lambda: transformers.WhisperFeatureExtractor(feature_size=20, chunk_length=3),
    ),
}  # fmt: skip


def save(folder: Path, case: str) -> Path:
    head, sizes, make_extractor = CASES[case]
    kind = getattr(transformers, head)
    torch.manual_seed(0)
    config = kind.config_class(**sizes, id2label=LABELS, label2id={v: k for k, v in LABELS.items()})
    kind(config).eval().save_pretrained(folder)
    make_extractor().save_pretrained(folder)
    return folder


def sound(seconds: float, rate: int = 16000) -> np.ndarray[Any, Any]:
    at = np.arange(int(seconds * rate)) / rate
    return (0.4 * np.sin(2 * np.pi * (300 + 200 * at) * at)).astype("f4")


def wav(samples: np.ndarray[Any, Any], rate: int = 16000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


@pytest.mark.parametrize("case", CASES)
def test_scores_are_the_librarys(tmp_path: Path, case: str) -> None:
    model = tiny.served(save(tmp_path / "source", case), tmp_path / "out")
    head, _, make_extractor = CASES[case]
    network = getattr(transformers, head).from_pretrained(model.source).eval()
    for seconds in (0.6, 1.5):
        given = make_extractor()(sound(seconds), sampling_rate=16000, return_tensors="pt")
        with torch.inference_mode():
            expected = network(**given).logits[0].softmax(0).tolist()
        found = {each["label"]: each["score"] for each in model.value(media=wav(sound(seconds)))}
        assert found == pytest.approx(dict(zip(LABELS.values(), expected, strict=True)), abs=1e-4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("sound")
    return tiny.served(save(folder / "source", "hubert"), folder / "out")


def test_another_rate_and_container_are_heard_as_the_same_sound(model: Served) -> None:
    plain = {each["label"]: each["score"] for each in model.value(media=wav(sound(1.0)))}
    faster = {
        each["label"]: each["score"] for each in model.value(media=wav(sound(1.0, 48000), 48000))
    }
    assert faster == pytest.approx(plain, abs=0.02)


def test_a_sound_that_is_too_short_or_long_or_none_is_refused(model: Served) -> None:
    for seconds in (0.0005, 31.0):
        with pytest.raises(InvalidMedia):
            model.value(media=wav(sound(seconds)))
    with pytest.raises(InvalidInput):
        model.value("a text")


def test_recordings_reach_the_tensor_input_of_plain_prediction_too(model: Served) -> None:
    media = tuple(Media(wav(sound(each)), "audio/wav") for each in (0.5, 0.5))
    inputs = prepare(Payload(media=media), model.manifest)
    assert inputs["input_values"].shape == (2, 8000)
    mixed = (media[0], Media(wav(sound(0.7)), "audio/wav"))
    with pytest.raises(InvalidInput, match="differ in length"):
        prepare(Payload(media=mixed), model.manifest)


def test_features_that_are_not_known_are_refused(tmp_path: Path) -> None:
    source = save(tmp_path / "source", "hubert")
    transformers.SeamlessM4TFeatureExtractor().save_pretrained(source)
    with pytest.raises(NotConvertible, match="feature extractor"):
        tiny.served(source, tmp_path / "out")
