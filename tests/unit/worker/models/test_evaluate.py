"""Metrics against scikit-learn's, batch by batch."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    confusion_matrix,
    log_loss,
    mean_absolute_error,
    precision_recall_fscore_support,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)

from modelry.worker.models.evaluate import Evaluation, NumberEvaluation, evaluation_of

LABELS = ["零", "one", "two", "never"]


def test_the_metrics_are_those_of_scikit_learn_in_whatever_batches() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, 100)
    probabilities = random.dirichlet([0.3, 0.3, 0.3, 0.01], 100).astype(np.float32)
    evaluation = Evaluation(LABELS)
    for start in (0, 7, 40):
        stop = {0: 7, 7: 40, 40: 100}[start]
        evaluation.add(probabilities[start:stop], truth[start:stop])
    found = evaluation.metrics()
    guessed = probabilities.argmax(axis=1)
    expected = precision_recall_fscore_support(truth, guessed, labels=range(4), zero_division=0.0)
    for index, row in enumerate(found["classes"]):
        values = (row["precision"], row["recall"], row["f1"], row["support"])
        assert values == pytest.approx([part[index] for part in expected])
    assert [row["label"] for row in found["classes"]] == LABELS
    assert found["confusion"] == confusion_matrix(truth, guessed, labels=range(4)).tolist()
    assert found["accuracy"] == pytest.approx(float((truth == guessed).mean()))
    clipped = np.maximum(probabilities.astype(np.float64), 1e-12)
    mean_log = -np.log(clipped[np.arange(100), truth]).mean()
    assert found["loss"] == pytest.approx(mean_log)
    assert log_loss(truth, clipped / clipped.sum(1, keepdims=True), labels=range(4)) == (
        pytest.approx(mean_log, abs=1e-4)
    )


def test_a_probability_of_zero_does_not_make_the_loss_infinite() -> None:
    evaluation = Evaluation(["a", "b"])
    evaluation.add(np.array([[1.0, 0.0]], dtype=np.float32), np.array([1]))
    assert np.isfinite(evaluation.metrics()["loss"])


def test_calibration_by_hand_and_in_whatever_batches() -> None:
    best = np.array([0.55, 0.58, 0.93, 0.97, 1.0, 0.91])
    is_right = np.array([True, False, True, True, True, False])
    probabilities = np.stack([best, 1 - best], axis=1)
    truth = np.where(is_right, 0, 1)
    whole, parts = Evaluation(["a", "b"]), Evaluation(["a", "b"])
    whole.add(probabilities, truth)
    for row in range(6):
        parts.add(probabilities[row : row + 1], truth[row : row + 1])
    found = whole.metrics()["calibration"]
    assert parts.metrics()["calibration"]["error"] == pytest.approx(found["error"])
    assert [part["rows"] for part in found["bins"]] == [2, 4]
    assert [part["accuracy"] for part in found["bins"]] == pytest.approx([0.5, 0.75])
    assert [part["probability"] for part in found["bins"]] == pytest.approx([0.565, 0.9525])
    assert found["error"] == pytest.approx((2 * 0.065 + 4 * 0.2025) / 6)


def test_the_errors_it_was_surest_of_come_first_with_their_rows() -> None:
    random = np.random.default_rng(1)
    probabilities = random.dirichlet([1, 1, 1], 500)
    truth = random.integers(0, 3, 500)
    evaluation = Evaluation(["a", "b", "c"])
    for start in range(0, 500, 64):
        evaluation.add(probabilities[start : start + 64], truth[start : start + 64])
    said = probabilities.argmax(axis=1)
    wrong = [row for row in range(500) if said[row] != truth[row]]
    wrong.sort(key=lambda row: -probabilities[row, said[row]])
    found = evaluation.metrics()["worst"]
    assert [error["row"] for error in found] == wrong[:32]
    first = found[0]
    assert (first["truth"], first["said"]) == ("abc"[truth[wrong[0]]], "abc"[said[wrong[0]]])
    assert first["probability"] == pytest.approx(probabilities[wrong[0]].max())


def test_a_model_without_errors_has_none() -> None:
    evaluation = Evaluation(["a", "b"])
    evaluation.add(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]))
    assert evaluation.metrics()["worst"] == []


def test_the_area_under_the_curve_is_that_of_scikit_learn_with_equal_scores_too() -> None:
    random = np.random.default_rng(1)
    truth = random.integers(0, 2, 200)
    score = np.round(random.random(200) * 0.7 + truth * 0.3, 1)
    probabilities = np.stack([1 - score, score], axis=1).astype(np.float32)
    evaluation = Evaluation(["no", "yes"])
    for start in range(0, 200, 64):
        evaluation.add(probabilities[start : start + 64], truth[start : start + 64])
    assert evaluation.metrics()["auc"] == pytest.approx(roc_auc_score(truth, score))


def test_one_label_alone_has_no_area_and_many_have_none_named() -> None:
    evaluation = Evaluation(["no", "yes"])
    evaluation.add(np.array([[0.2, 0.8]], dtype=np.float32), np.array([1]))
    assert evaluation.metrics()["auc"] is None
    many = Evaluation(LABELS)
    many.add(np.full((1, 4), 0.25, np.float32), np.array([1]))
    assert "auc" not in many.metrics()


def test_errors_of_numbers_are_those_of_scikit_learn_in_whatever_batches() -> None:
    random = np.random.default_rng(2)
    truth = random.normal(1000.0, 5.0, 100).astype(np.float32)
    said = (truth + random.normal(0, 2.0, 100)).astype(np.float32)
    evaluation = evaluation_of([])
    assert isinstance(evaluation, NumberEvaluation)
    for start, stop in ((0, 7), (7, 40), (40, 100)):
        evaluation.add(said[start:stop, None], truth[start:stop])
    found = evaluation.metrics()
    assert found["mae"] == pytest.approx(mean_absolute_error(truth, said), rel=1e-4)
    assert found["rmse"] == pytest.approx(root_mean_squared_error(truth, said), rel=1e-4)
    assert found["r2"] == pytest.approx(r2_score(truth, said), rel=1e-3)
    assert found["spread"] == pytest.approx(float(truth.std()), rel=1e-3)
    errors = np.abs(said.astype(np.float64) - truth)
    assert [one["row"] for one in found["worst"]] == np.argsort(-errors)[:32].tolist()
