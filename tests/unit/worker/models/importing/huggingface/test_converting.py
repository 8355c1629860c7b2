"""Folders to packages: what the manifest says, which networks convert, and which are refused with a way out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers

from modelry.core.errors import NotConvertible
from modelry.core.jobs import ImportModelParams
from modelry.core.manifests import TextInput
from modelry.core.specs import JobSpec
from modelry.worker.context import JobContext
from modelry.worker.folder import WorkerFolder
from modelry.worker.models.importing.huggingface import convert
from modelry.worker.models.importing.sampling import sample_rows
from tests.unit.worker.tasks import tiny

LABELS = ["bad", "fine", "good"]
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 37,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}


def save(folder: Path, name: str, **sizes: Any) -> Path:
    """A random text classifier of another family, with BERT's tokenizer."""
    tokenizer = tiny.save_tokenizer(folder)
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(vocab_size=len(tokenizer), **sizes)
    getattr(transformers, f"{name}ForSequenceClassification")(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("XLMRoberta", {"max_position_embeddings": 66}),
        ("Albert", {"embedding_size": 16}),
        ("Electra", {"embedding_size": 16}),
        (
            "DebertaV2",
            {"relative_attention": True, "position_buckets": 16, "pos_att_type": ["p2c", "c2p"]},
        ),
        ("ModernBert", {"local_attention": 16, "global_attn_every_n_layers": 2}),
        (
            "SqueezeBert",
            {
                "embedding_size": 32,
                "q_groups": 2,
                "k_groups": 2,
                "v_groups": 2,
                "intermediate_groups": 1,
                "output_groups": 1,
            },
        ),
        ("MobileBert", {"embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32}),
    ],
)
def test_families_of_encoders_convert_and_answer_as_they_did(
    tmp_path: Path, name: str, more: dict[str, Any]
) -> None:
    model = tiny.served(save(tmp_path / "source", name, **{**SIZES, **more}), tmp_path / "out")
    form = model.manifest.runtimes["onnxruntime"]
    assert form.verification is not None
    assert form.verification.max_difference < 1e-4
    pipeline = transformers.pipeline("text-classification", str(model.source))
    for text, row in zip(tiny.TEXTS, model.value(tiny.TEXTS), strict=True):
        expected = {each["label"]: each["score"] for each in pipeline(text, top_k=None)}
        assert {each["label"]: each["score"] for each in row} == pytest.approx(expected, abs=1e-4)


def test_a_network_the_exporter_does_not_know_is_refused_with_a_way_out(tmp_path: Path) -> None:
    sizes = {name: size for name, size in SIZES.items() if name != "num_attention_heads"}
    with pytest.raises(NotConvertible, match="exporter") as refusal:
        tiny.served(save(tmp_path / "source", "FNet", **sizes), tmp_path / "out")
    assert "ONNX" in refusal.value.remedy


def context(folder: Path) -> JobContext:
    spec = JobSpec(
        worker_id="job_test-1",
        job_id="job_test",
        attempt=1,
        kind="import-model",
        params={},
        inputs={},
        artifacts=str(folder / "blobs"),
    )
    worker = WorkerFolder(folder / "run")
    worker.path.mkdir(parents=True)
    return JobContext(worker, spec)


def test_a_job_makes_a_package_in_a_process_of_its_own(tmp_path: Path) -> None:
    source = tiny.save_text_model(tmp_path / "source", "ForSequenceClassification", labels=LABELS)
    job, out = context(tmp_path / "job"), tmp_path / "out"
    out.mkdir()
    params = ImportModelParams(model="m", source="path")
    manifest = convert(source, params, out, job)
    assert sorted(path.name for path in out.iterdir()) == ["model.onnx", "tokenizer.json"]
    assert (manifest.task, manifest.labels) == ("text-classification", LABELS)
    assert manifest.framework == "transformers"
    assert manifest.source is not None
    assert manifest.source["architecture"] == "BertForSequenceClassification"
    assert isinstance(manifest.media, TextInput)
    assert manifest.media.max_length == 64
    assert [spec.name for spec in manifest.inputs] == list(manifest.media.inputs.values())
    rows = sample_rows(manifest, job.work)
    assert {name: array.dtype for name, array in rows.items()} == dict.fromkeys(rows, np.int64)
    graph = onnx.load(out / "model.onnx").graph
    assert {value.name for value in graph.input} == set(rows)
    job.close()


def test_the_half_precision_of_the_files_is_no_obstacle(tmp_path: Path) -> None:
    source = tiny.save_text_model(tmp_path / "source", "ForSequenceClassification")
    network = transformers.AutoModelForSequenceClassification.from_pretrained(source)
    network.half().save_pretrained(source)
    model = tiny.served(source, tmp_path / "out")
    assert model.manifest.outputs[0].dtype == "float32"


def test_weights_that_are_missing_are_not_made_up(tmp_path: Path) -> None:
    source = tiny.save_text_model(tmp_path / "source", "Model")
    with pytest.raises(NotConvertible, match="classifier") as refusal:
        tiny.served(source, tmp_path / "out", "text-classification")
    assert "trained for" in str(refusal.value)


def test_settings_larger_than_the_weights_are_refused_before_memory_is_taken(
    tmp_path: Path,
) -> None:
    source = tiny.save_text_model(tmp_path / "source", "Model")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(
        json.dumps({**config, "num_hidden_layers": 12, "hidden_size": 2048})
    )
    with pytest.raises(NotConvertible, match="MiB"):
        tiny.served(source, tmp_path / "out")


def test_an_unknown_kind_of_network_is_refused(tmp_path: Path) -> None:
    source = tiny.save_text_model(tmp_path / "source", "Model")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "model_type": "nobody-knows"}))
    with pytest.raises(NotConvertible):
        tiny.served(source, tmp_path / "out")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    source = tiny.save_text_model(tmp_path / "source", "Model")
    for file in source.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(NotConvertible, match="tokenizer"):
        tiny.served(source, tmp_path / "out")


def test_a_tokenizer_is_made_of_a_vocabulary_where_the_folder_has_no_more(tmp_path: Path) -> None:
    source = tiny.save_text_model(tmp_path / "source", "ForSequenceClassification")
    words = tiny.word_pieces().get_vocab()
    (source / "vocab.txt").write_text("\n".join(sorted(words, key=lambda word: words[word])))
    (source / "tokenizer.json").unlink()
    (source / "tokenizer_config.json").write_text(
        json.dumps(
            {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 64}
        )
    )
    model = tiny.served(source, tmp_path / "out")
    pipeline = transformers.pipeline("text-classification", str(source))
    expected = {each["label"]: each["score"] for each in pipeline(tiny.TEXTS[3], top_k=None)}
    found = {each["label"]: each["score"] for each in model.value(tiny.TEXTS[3])[0]}
    assert found == pytest.approx(expected, abs=1e-5)


def test_settings_for_pictures_are_refused_where_the_folder_has_its_own(tmp_path: Path) -> None:
    source = tiny.save_text_model(tmp_path / "source", "Model")
    with pytest.raises(NotConvertible, match="preprocess"):
        convert(
            source,
            ImportModelParams(model="m", source="path", preprocess="imagenet"),
            tmp_path,
            context(tmp_path / "job"),
        )
