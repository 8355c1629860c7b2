"""Embeddings: pooled as the model was made, equal to torch's and to transformers' pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from modelry.core.calls import TaskAnswer
from modelry.core.errors import InvalidInput, InvalidParameter, NotConvertible
from tests.unit.worker.tasks import tiny
from tests.unit.worker.tasks.conftest import Make
from tests.unit.worker.tasks.tiny import TEXTS, Served


def array(answer: TaskAnswer) -> np.ndarray[Any, Any]:
    return np.frombuffer(answer.array, "<f4").reshape(answer.shape)


def expected(model: Served, text: str, pooling: str = "mean") -> np.ndarray[Any, Any]:
    """torch's own, one text alone."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(model.source)
    network = transformers.AutoModel.from_pretrained(model.source).eval()
    given = tokenizer(text, return_tensors="pt", truncation=True, max_length=64)
    with torch.inference_mode():
        states = network(**given).last_hidden_state[0].numpy()
    return np.asarray({"mean": states.mean(0), "cls": states[0], "max": states.max(0)}[pooling])


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_pooled_vectors_are_torchs(make: Make, pooling: str) -> None:
    model = make("Model")
    texts = [*TEXTS, " ".join(TEXTS * 3)]
    answer = model.answer(texts, pooling=pooling)
    assert answer.shape == [len(texts), 32]
    for row, text in zip(array(answer), texts, strict=True):
        assert np.allclose(row, expected(model, text, pooling), atol=1e-5)


def test_every_token_keeps_its_vector_without_pooling(make: Make) -> None:
    model = make("Model")
    pipeline = transformers.pipeline("feature-extraction", str(model.source))
    for found, text in zip(model.value(TEXTS, pooling="none"), TEXTS, strict=True):
        assert np.allclose(found, pipeline(text)[0], atol=1e-5)


def test_vectors_get_the_length_one_where_that_is_asked(make: Make) -> None:
    model = make("Model")
    plain, normal = (array(model.answer(TEXTS, normalize=each)) for each in (False, True))
    assert np.allclose(normal, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-6)


def test_one_text_is_one_row_and_the_tokens_are_counted(make: Make) -> None:
    answer = make("Model").answer("Marie Curie worked in Paris")
    tokenizer = tiny.word_pieces()
    assert answer.shape == [1, 32]
    assert answer.tokens == len(tokenizer.encode("Marie Curie worked in Paris").ids)


def test_a_long_text_is_refused_where_it_must_not_be_cut(make: Make) -> None:
    model = make("Model")
    assert model.answer(" ".join(TEXTS * 5)).tokens == 64
    with pytest.raises(InvalidInput, match="tokens"):
        model.answer(" ".join(TEXTS * 5), truncate=False)


@pytest.mark.parametrize(
    "parameters",
    [{"dimensions": 8}, {"prompt_name": "query"}, {"truncation_direction": "left"}],
    ids=str,
)
def test_what_the_model_does_not_do_is_refused(make: Make, parameters: dict[str, Any]) -> None:
    model = make("Model")
    with pytest.raises(InvalidParameter):
        model.answer(TEXTS, **parameters)
    assert model.answer(TEXTS, dimensions=32)


def sentence_folder(folder: Path, pooling: dict[str, Any], *more: str, **settings: Any) -> Path:
    """A folder as sentence-transformers writes it."""
    tiny.save_text_model(folder, "Model")
    kinds = ["Transformer", "Pooling", *more]
    modules = [
        {
            "idx": at,
            "name": str(at),
            "path": "" if kind == "Transformer" else f"{at}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for at, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 24}))
    return folder


def test_a_sentence_model_pools_prompts_and_cuts_as_its_folder_says(tmp_path: Path) -> None:
    pooling = {
        "word_embedding_dimension": 32,
        "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": False,
    }
    source = sentence_folder(
        tmp_path / "source",
        pooling,
        "Normalize",
        prompts={"query": "river: ", "document": ""},
        similarity_fn_name="cosine",
    )
    model = tiny.served(source, tmp_path / "out")
    assert model.manifest.task == "feature-extraction"
    vector = expected(model, "river: one ferry", "cls")
    found = array(model.answer("one ferry", prompt_name="query"))[0]
    assert np.allclose(found, vector / np.linalg.norm(vector), atol=1e-5)
    assert model.answer(" ".join(TEXTS)).tokens == 24
    with pytest.raises(InvalidParameter, match="prompt_name"):
        model.answer(TEXTS[0], prompt_name="nobody")


def test_modules_that_are_not_known_are_refused(tmp_path: Path) -> None:
    source = sentence_folder(tmp_path / "dense", {"pooling_mode_mean_tokens": True}, "Dense")
    with pytest.raises(NotConvertible, match="Dense"):
        tiny.served(source, tmp_path / "out")
    source = sentence_folder(tmp_path / "last", {"pooling_mode_lasttoken": True})
    with pytest.raises(NotConvertible, match="lasttoken"):
        tiny.served(source, tmp_path / "out2")


def test_similarity_is_the_cosine_of_the_embeddings(make: Make) -> None:
    model = make("Model")
    vectors = array(model.answer(TEXTS, normalize=True))
    found = model.value({"source_sentence": TEXTS[0], "sentences": TEXTS})
    assert found == pytest.approx((vectors @ vectors[0]).tolist(), abs=1e-5)
    assert found[0] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    "inputs",
    [
        {"source_sentence": "a"},
        {"source_sentence": "a", "sentences": []},
        {"source_sentence": 1, "sentences": ["a"]},
    ],
)
def test_similarity_needs_a_sentence_and_others(make: Make, inputs: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        make("Model").value(inputs)
