"""Which data a recipe takes, decided from the manifest alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from modelry.core.errors import InvalidParameter, WrongDataKind
from modelry.core.learning import Lesson, check_scope, plan_lesson
from modelry.core.manifests import DatasetManifest, Feature, Split
from modelry.core.recipes import get_recipe

LABEL = Feature(kind="label", dtype="int64", labels=["a", "b"])
PICTURE = Feature(kind="image", dtype="bytes", shape=[8, 8, 1], scale=1 / 255)
TEXT = Feature(kind="text", dtype="string")
NUMBER = Feature(kind="number", dtype="float64")
CATEGORY = Feature(kind="category", dtype="string")
SOUND = Feature(kind="audio", dtype="bytes")
STEPS = Feature(kind="sequence", dtype="float32", shape=[12])


def data(target: str | None = "label", **features: Feature) -> DatasetManifest:
    return DatasetManifest(
        features=features,
        target=target,
        splits={"train": Split(rows=4, files=[]), "test": Split(rows=2, files=[])},
        statistics={},
        preview=[],
        fingerprint="",
        source={},
    )


def pictures(**changes: Any) -> DatasetManifest:
    return msgspec.structs.replace(data(image=PICTURE, label=LABEL), **changes)


def in_time(**features: Feature) -> DatasetManifest:
    return msgspec.structs.replace(data("dust", **features), time="hour")


@pytest.mark.parametrize(
    ("recipe", "manifest", "lesson"),
    [
        ("cnn", pictures(), Lesson("tensor", ("image",), "label", "classification")),
        ("rnn", pictures(), Lesson("tensor", ("image",), "label", "classification")),
        (
            "rnn",
            data(text=TEXT, age=NUMBER, label=LABEL),
            Lesson("text", ("text",), "label", "classification", ("age",)),
        ),
        (
            "rnn",
            data(x=STEPS, label=LABEL),
            Lesson("sequence", ("x",), "label", "classification"),
        ),
        (
            "speech-commands",
            data(sound=SOUND, speaker=CATEGORY, label=LABEL),
            Lesson("audio", ("sound",), "label", "classification", ("speaker",)),
        ),
        (
            "mlp",
            data(age=NUMBER, job=CATEGORY, note=TEXT, label=LABEL),
            Lesson("table", ("age", "job"), "label", "classification", ("note",)),
        ),
        (
            "mlp",
            data("price", size=NUMBER, price=NUMBER),
            Lesson("table", ("size",), "price", "regression"),
        ),
        (
            "forecast",
            in_time(wind=CATEGORY, dust=NUMBER, note=TEXT, rain=NUMBER),
            Lesson("series", ("dust", "wind", "rain"), "dust", "forecasting", ("note",)),
        ),
        (
            "forecast",
            msgspec.structs.replace(data("dust", dust=NUMBER), task="time-series-forecasting"),
            Lesson("series", ("dust",), "dust", "forecasting"),
        ),
        (
            "mlp",
            in_time(wind=CATEGORY, dust=NUMBER),
            Lesson("table", ("wind",), "dust", "regression"),
        ),
    ],
)
def test_what_is_learned_from_what(recipe: str, manifest: DatasetManifest, lesson: Lesson) -> None:
    assert plan_lesson(get_recipe(recipe), manifest, "mine") == lesson


@pytest.mark.parametrize(
    ("recipe", "manifest", "reason"),
    [
        ("cnn", pictures(target=None), "it names no feature to predict"),
        (
            "cnn",
            data(image=PICTURE, label=NUMBER),
            "its target 'label' is a number, and the recipe predicts labels",
        ),
        (
            "mlp",
            data("note", age=NUMBER, note=TEXT),
            "its target 'note' is a text, and the recipe predicts labels or numbers",
        ),
        (
            "cnn",
            data(image=PICTURE, label=Feature(kind="label", dtype="int64", labels=["a"])),
            "fewer than two labels",
        ),
        ("cnn", pictures(splits={"train": Split(rows=4, files=[])}), "no rows in the split 'test'"),
        (
            "cnn",
            pictures(splits={"train": Split(rows=0, files=[]), "test": Split(rows=1, files=[])}),
            "no rows in the split 'train'",
        ),
        ("cnn", data(text=TEXT, label=LABEL), "it holds text and the recipe takes image or tensor"),
        (
            "speech-commands",
            pictures(),
            "it holds image and the recipe takes audio",
        ),
        ("rnn", data(sound=SOUND, label=LABEL), "it holds audio and the recipe takes image"),
        (
            "rnn",
            data(question=TEXT, answer=TEXT, label=LABEL),
            r"2 columns of that kind \('question', 'answer'\)",
        ),
        (
            "forecast",
            data("dust", rain=NUMBER, dust=NUMBER),
            "no order in time; import it with --time COLUMN",
        ),
        (
            "forecast",
            msgspec.structs.replace(data(rain=NUMBER, label=LABEL), time="hour"),
            "'label' is a label, and the recipe predicts the next numbers of a series",
        ),
    ],
)
def test_other_data_are_refused_with_the_reason(
    recipe: str, manifest: DatasetManifest, reason: str
) -> None:
    with pytest.raises(WrongDataKind, match=reason) as refusal:
        plan_lesson(get_recipe(recipe), manifest, "mine")
    assert "modelry data show mine" in refusal.value.remedy


def test_a_parameter_for_other_data_is_refused() -> None:
    card = get_recipe("rnn")
    text = Lesson("text", ("text",), "label", "classification")
    check_scope(card, text, ["vocabulary", "cell", "class_weights"])
    picture = Lesson("tensor", ("image",), "label", "classification")
    check_scope(card, picture, ["cell"])
    with pytest.raises(InvalidParameter, match="'vocabulary' is for text"):
        check_scope(card, picture, ["cell", "vocabulary"])
    price = Lesson("table", ("size",), "price", "regression")
    with pytest.raises(InvalidParameter, match="'class_weights' is for classification"):
        check_scope(get_recipe("mlp"), price, ["hidden", "class_weights"])
