"""How good a version is, in words: the metrics of `model.json` that people are shown, by every page and table alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: Metric → what it is called, and its form; the first one a version has stands for all.
MEASURES: tuple[tuple[str, str, str], ...] = (
    ("accuracy", "test accuracy", "{:.2%}"),
    ("mae", "mean absolute error", "{:.4g}"),
    ("naive_mae", "of the last value repeated", "{:.4g}"),
    ("seasonal_mae", "of the value a season ago", "{:.4g}"),
    ("gain", "below the better of the two", "{:.1%}"),
    ("auc", "area under the curve", "{:.4f}"),
    ("macro_f1", "macro F1", "{:.4f}"),
    ("rmse", "root mean squared error", "{:.4g}"),
    ("r2", "variance explained", "{:.2%}"),
    ("loss", "loss", "{:.4f}"),
    ("rows", "test rows", "{:,}"),
)
#: What curves of a score are called.
SCORES = {"accuracy": "accuracy", "mae": "mean absolute error"}


def show_measure(metrics: Mapping[str, Any], key: str) -> str:
    """One metric for people; "" where the version has none."""
    form = next(form for known, _, form in MEASURES if known == key)
    value = metrics.get(key)
    return "" if value is None else form.format(value)


def main_measure(metrics: Mapping[str, Any]) -> tuple[str, str] | None:
    """What it is called and its value, of the figure that stands for all; None for a model that was not measured."""
    for key, name, form in MEASURES:
        if metrics.get(key) is not None and key in SCORES:
            return name, form.format(metrics[key])
    return None


def score_of(curves: Iterable[str]) -> str:
    """Which score the curves `epoch/train_…` tell beside the loss."""
    names = set(curves)
    return next((score for score in SCORES if f"epoch/train_{score}" in names), "accuracy")
