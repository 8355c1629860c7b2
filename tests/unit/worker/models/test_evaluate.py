"""Metrics against scikit-learn's, batch by batch."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support

from modelry.worker.models.evaluate import Evaluation

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
