"""From an `ExplainCall` to an `ExplainAnswer`, over models that are plain functions."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from modelry.core.calls import ExplainAnswer, ExplainCall, pack, unpack
from modelry.core.errors import InvalidInput, InvalidParameter, UnsupportedTask
from modelry.core.manifests import ModelManifest, TensorSpec
from modelry.core.tensors import encode_payload
from modelry.worker.explain import open_explain

Function = Callable[[Any], Any]
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(4, 3))
PERSON = np.float32([[0.5, -1.0, 2.0, 0.25]])


def model(shape: list[int | None], **more: Any) -> SimpleNamespace:
    manifest = ModelManifest(
        task="tabular-classification",
        recipe=None,
        inputs=[
            TensorSpec(name="x", dtype="float32", shape=shape, columns=more.pop("columns", None))
        ],
        outputs=[TensorSpec(name="y", dtype="float32", shape=[None, 3])],
        labels=["红", "green", "blue"],
        media=None,
        metrics={},
        lineage={},
        runtimes={},
        files={},
    )
    return SimpleNamespace(manifest=msgspec.structs.replace(manifest, **more))


PEOPLE = model([None, 4], columns=["age", "income", "height", "debt"])


def ask(what: Any, function: Function, inputs: Any, **call: Any) -> ExplainAnswer:
    payload = encode_payload({"x": inputs})
    opened = open_explain(pack(ExplainCall(payload=payload, **call)), what)
    rows = opened.inputs["x"]
    # As the batcher does it: in portions.
    parts = [function(rows[at : at + 30]) for at in range(0, rows.shape[0], 30)]
    return unpack(opened.finish({"y": np.concatenate(parts)}), ExplainAnswer)


def values(answer: ExplainAnswer) -> Any:
    return np.frombuffer(answer.attributions, "<f4").reshape(answer.shape)


def linear(rows: Any) -> Any:
    return (rows.astype(np.float64) @ WEIGHTS).astype(np.float32)


def test_a_linear_table_model_is_explained_by_its_own_weights() -> None:
    found = ask(PEOPLE, linear, PERSON, label="green")
    assert found.method == "kernel-shap"
    assert (found.label, found.columns) == ("green", ["age", "income", "height", "debt"])
    assert values(found) == pytest.approx(PERSON[0] * WEIGHTS[:, 1], abs=1e-5)
    assert found.evaluations == 16
    assert found.score == pytest.approx(float(linear(PERSON)[0, 1]))
    assert found.base == 0
    assert found.parameters == {"evaluations": 16, "seed": 0, "baseline": 0.0}


def test_a_baseline_is_where_the_explanation_begins() -> None:
    mean = [1.0, 1.0, 1.0, 1.0]
    found = ask(PEOPLE, linear, PERSON, label="blue", parameters={"baseline": mean})
    assert found.base == pytest.approx(float(linear(np.float32([mean]))[0, 2]))
    assert values(found) == pytest.approx((PERSON[0] - 1) * WEIGHTS[:, 2], abs=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "kernel-shap"},
        {"method": "kernel-shap", "parameters": {"patch": 3, "evaluations": 40}},
        {"method": "kernel-shap", "parameters": {"baseline": "blur", "evaluations": 200}},
        {"method": "kernel-shap", "parameters": {"patch": 9}},
    ],
    ids=str,
)
def test_shares_sum_to_what_there_is_to_explain(settings: dict[str, Any]) -> None:
    inside = RANDOM.normal(size=(12 * 12, 3))

    def network(rows: Any) -> Any:
        return np.tanh(np.maximum(rows.reshape(len(rows), -1), 0) @ inside).astype(np.float32)

    picture = RANDOM.random((1, 12, 12, 1), dtype=np.float32)
    what = model([None, 12, 12, 1], activation="softmax")
    found = ask(what, network, picture, **settings)
    assert found.shape == [12, 12]
    assert found.residual <= 1e-6 * max(abs(found.score), abs(found.base))
    whole = float(values(found).sum(dtype=np.float64))
    assert whole == pytest.approx(found.score - found.base, abs=1e-6)


def test_the_best_label_is_explained_unless_another_is_named() -> None:
    def fixed(rows: Any) -> Any:
        return np.tile(np.float32([0.1, 0.2, 3.0]), (len(rows), 1))

    what = model([None, 4], activation="softmax")
    found = ask(what, fixed, PERSON)
    assert found.label == "blue"
    assert found.score == pytest.approx(np.exp(3) / np.exp([0.1, 0.2, 3]).sum(), rel=1e-6)
    assert ask(what, fixed, PERSON, label="红").label == "红"
    with pytest.raises(InvalidParameter, match="'label' cannot be 'grün'") as refusal:
        ask(what, fixed, PERSON, label="grün")
    assert "红" in refusal.value.remedy


def test_a_model_with_one_number_a_row_explains_that_number() -> None:
    def price(rows: Any) -> Any:
        return rows[:, 0] * 2 + rows[:, 1]

    found = ask(model([None, 4], labels=[]), price, PERSON)
    assert found.label == "0"
    assert values(found) == pytest.approx([1.0, -1.0, 0, 0], abs=1e-6)


def test_a_fixed_batch_is_filled_up() -> None:
    seen: list[int] = []

    def strict(rows: Any) -> Any:
        seen.append(len(rows))
        return linear(rows)

    assert ask(model([5, 4]), strict, PERSON).evaluations == 16
    assert seen == [20]
    opened = open_explain(pack(ExplainCall(payload=encode_payload({"x": PERSON}))), model([5, 4]))
    rows = np.asarray(opened.inputs["x"])
    assert rows.shape == (20, 4)
    assert np.array_equal(rows[0], PERSON[0])
    assert not rows[1].any()
    assert np.array_equal(rows[16:], np.repeat(rows[15:16], 4, axis=0))


def test_a_large_picture_is_not_held_once_for_each_window() -> None:
    shape = (3, 128, 128)
    what = model([None, *shape])
    picture = RANDOM.random((1, *shape), dtype=np.float32)
    payload = pack(ExplainCall(payload=encode_payload({"x": picture})))
    tracemalloc.start()
    opened = open_explain(payload, what)
    rows = opened.inputs["x"]
    for at in range(0, rows.shape[0], 32):
        assert rows[at : at + 32].dtype == np.float32
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows.shape[0] > 150
    assert peak < 100 * picture.nbytes


def test_a_lone_feature_gets_all_there_is() -> None:
    found = ask(model([None, 1], labels=[]), lambda rows: 3 * rows[:, 0] + 1, np.float32([[2]]))
    assert values(found) == pytest.approx([6.0])
    assert (found.base, found.evaluations) == (1.0, 2)


def test_more_than_one_row_is_refused() -> None:
    with pytest.raises(InvalidInput, match="has 2 rows"):
        ask(PEOPLE, linear, np.repeat(PERSON, 2, axis=0))


def test_an_answer_that_is_no_number_is_refused_and_so_is_one_without_scores() -> None:
    with pytest.raises(InvalidInput, match="is no number"):
        ask(PEOPLE, lambda rows: linear(rows) * np.float32("nan"), PERSON)
    with pytest.raises(UnsupportedTask, match="no score for each class"):
        ask(PEOPLE, lambda rows: np.zeros((len(rows), 3, 3), np.float32), PERSON)
