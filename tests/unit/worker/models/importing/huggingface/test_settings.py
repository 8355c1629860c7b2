"""What a folder says before the library sees it: whose code, how large, which task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelry.core.errors import NotConvertible, UnsafeFile
from modelry.worker.models.importing.huggingface.settings import read_settings


def folder(at: Path, config: dict[str, Any], **files: Any) -> Path:
    at.mkdir(exist_ok=True)
    (at / "config.json").write_text(json.dumps({"model_type": "bert", **config}))
    (at / "model.safetensors").write_bytes(b"\0")
    for name, content in files.items():
        (at / f"{name}.json").write_text(json.dumps(content))
    return at


@pytest.mark.parametrize(
    ("config", "task"),
    [
        ({"architectures": ["BertForTokenClassification"]}, "token-classification"),
        ({"architectures": ["BertForSequenceClassification"]}, "text-classification"),
        (
            {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "ENTAILMENT"}},
            "zero-shot-classification",
        ),
        (
            {"architectures": ["Wav2Vec2ForSequenceClassification"], "model_type": "wav2vec2"},
            "audio-classification",
        ),
        ({"architectures": ["BertForQuestionAnswering"]}, "question-answering"),
        ({"architectures": ["BertForMaskedLM"]}, "fill-mask"),
        ({"architectures": ["ViTForImageClassification"]}, "image-classification"),
        ({"architectures": ["BertModel"]}, "feature-extraction"),
        ({}, "feature-extraction"),
    ],
)
def test_the_task_is_that_of_the_architecture(
    tmp_path: Path, config: dict[str, Any], task: str
) -> None:
    assert read_settings(folder(tmp_path, config), None).task == task
    assert read_settings(tmp_path, "fill-mask").task == "fill-mask"


@pytest.mark.parametrize(
    "architecture", ["GPT2LMHeadModel", "LlamaForCausalLM", "T5ForConditionalGeneration"]
)
def test_what_generates_is_refused_with_the_tasks_that_are_served(
    tmp_path: Path, architecture: str
) -> None:
    with pytest.raises(NotConvertible, match="generates") as refusal:
        read_settings(folder(tmp_path, {"architectures": [architecture]}), None)
    assert "text-classification" in refusal.value.remedy


def test_a_task_nobody_serves_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotConvertible, match="translation"):
        read_settings(folder(tmp_path, {}), "translation")


@pytest.mark.parametrize(
    "config",
    [
        {"auto_map": {"AutoModel": "evil.Model"}},
        {"text_config": {"auto_map": {"AutoModel": "evil--repo.Model"}}},
        {"custom_pipelines": {"x": {"impl": "evil.P"}}},
        {"quantization_config": {"quant_method": "custom"}},
        {"transformers_weights": "../../other.safetensors"},
        {"hidden_size": 10**12},
        {"num_hidden_layers": 1e12},
        {"model_type": 7},
    ],
    ids=lambda config: next(iter(config)),
)
def test_code_and_absurd_sizes_are_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(UnsafeFile, match=r"config\.json"):
        read_settings(folder(tmp_path, config), None)


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"auto_map": {"AutoTokenizer": ["evil.T", None]}}},
        {"tokenizer_config": {"fast_tokenizer_files": ["../../../etc/passwd"]}},
        {"preprocessor_config": {"auto_map": {"AutoImageProcessor": "evil.P"}}},
        {"processor_config": {"auto_map": {"AutoProcessor": "evil.P"}}},
        {"modules": [{"type": "sentence_transformers.models.Transformer", "path": "../.."}]},
        {"preprocessor_config": ["no table"]},
    ],
    ids=str,
)
def test_code_and_paths_in_the_other_files_are_refused(
    tmp_path: Path, files: dict[str, Any]
) -> None:
    with pytest.raises(UnsafeFile):
        read_settings(folder(tmp_path, {}, **files), None)


def test_adapters_and_folders_without_safetensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotConvertible, match="adapter"):
        read_settings(folder(tmp_path / "adapter", {}, adapter_config={}), None)
    bare = folder(tmp_path / "bare", {})
    (bare / "model.safetensors").unlink()
    with pytest.raises(UnsafeFile, match="safetensors"):
        read_settings(bare, None)
