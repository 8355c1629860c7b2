"""Which methods there are for what, what they take, and what they cost."""

from __future__ import annotations

from typing import Any

import pytest

from modelry.core.errors import InvalidParameter, ModelryError, UnknownParameter, UnsupportedTask
from modelry.core.explaining import (
    MAX_BYTES,
    KernelShap,
    Occlusion,
    Picture,
    Table,
    check_cost,
    choose,
    starts,
    subject_of,
)
from modelry.core.manifests import ImageInput, ModelManifest, TensorSpec, TextInput

DIGIT = Picture(28, 28, 1)
ROW = Table(("age", "income", "height"))


def manifest(shape: list[int | None], **more: Any) -> ModelManifest:
    given: dict[str, Any] = {
        "task": "image-classification",
        "recipe": None,
        "inputs": [TensorSpec(name="x", dtype="float32", shape=shape)],
        "outputs": [TensorSpec(name="y", dtype="float32", shape=[None, 3])],
        "labels": ["a", "b", "c"],
        "media": None,
        "metrics": {},
        "lineage": {},
        "runtimes": {},
        "files": {},
    }
    return ModelManifest(**{**given, **more})


@pytest.mark.parametrize(
    ("shape", "subject"),
    [
        ([28, 28, 1], Picture(28, 28, 1)),
        ([3, 224, 224], Picture(224, 224, 3, is_channels_last=False)),
        ([64, 48, 3], Picture(64, 48, 3)),
        ([28, 20], Picture(28, 20, 1)),
        ([4], Table(("0", "1", "2", "3"))),
    ],
)
def test_a_tensor_is_taken_for_what_its_shape_says(shape: list[int], subject: object) -> None:
    assert subject_of(manifest([None, *shape]), shape) == subject


def test_what_the_manifest_says_of_media_and_columns_comes_first() -> None:
    wide = ImageInput(height=8, width=9, channels=3, scale=1.0, input="x", shape=[8, 27])
    assert subject_of(manifest([None, 8, 27], media=wide), [8, 27]) == Picture(8, 9, 3)
    named = TensorSpec(name="x", dtype="float32", shape=[None, 2], columns=["age", "income"])
    assert subject_of(manifest([], inputs=[named]), [2]) == Table(("age", "income"))


def test_text_and_several_inputs_are_refused_with_a_way_out() -> None:
    text = TextInput(tokenizer="tokenizer.json", max_length=8, inputs={"ids": "x"})
    two = [TensorSpec(name=name, dtype="float32", shape=[None, 2]) for name in "ab"]
    for model in (manifest([None, 8], media=text), manifest([], inputs=two)):
        with pytest.raises(UnsupportedTask) as refusal:
            subject_of(model, [8])
        assert "one picture or one row" in refusal.value.remedy


def test_the_kind_of_input_decides_where_no_method_is_named() -> None:
    assert isinstance(choose("", {}, DIGIT), Occlusion)
    assert isinstance(choose("", {}, ROW), KernelShap)


def test_texts_of_a_query_mean_the_same_as_numbers() -> None:
    texts = {"window": "5", "stride": "2", "baseline": "0.5"}
    numbers = {"window": 5, "stride": 2, "baseline": 0.5}
    assert choose("occlusion", texts, DIGIT) == choose("occlusion", numbers, DIGIT)
    listed = choose("kernel-shap", {"baseline": "1,2,3.5"}, ROW)
    assert listed.baseline == (1.0, 2.0, 3.5)


@pytest.mark.parametrize(
    ("method", "given", "subject", "error"),
    [
        ("gradients", {}, DIGIT, InvalidParameter),
        ("occlusion", {}, ROW, InvalidParameter),
        ("occlusion", {"patch": 3}, DIGIT, UnknownParameter),
        ("kernel-shap", {"patch": 3}, ROW, UnknownParameter),
        ("occlusion", {"window": 29}, DIGIT, InvalidParameter),
        ("occlusion", {"window": 0}, DIGIT, InvalidParameter),
        ("occlusion", {"window": True}, DIGIT, InvalidParameter),
        ("occlusion", {"window": "4.5"}, DIGIT, InvalidParameter),
        ("occlusion", {"window": 4, "stride": 5}, DIGIT, InvalidParameter),
        ("occlusion", {"baseline": "nan"}, DIGIT, InvalidParameter),
        ("occlusion", {"baseline": "grey"}, DIGIT, InvalidParameter),
        ("kernel-shap", {"baseline": "mean"}, ROW, InvalidParameter),
        ("kernel-shap", {"baseline": [1, 2]}, ROW, InvalidParameter),
        ("kernel-shap", {"evaluations": 60}, DIGIT, InvalidParameter),
        ("kernel-shap", {"evaluations": 30_000}, DIGIT, InvalidParameter),
        ("kernel-shap", {"seed": -1}, ROW, InvalidParameter),
    ],
)
def test_what_cannot_be_done_is_refused(
    method: str, given: dict[str, Any], subject: Any, error: type[ModelryError]
) -> None:
    with pytest.raises(error) as refusal:
        choose(method, given, subject)
    assert refusal.value.remedy


SIZES = [
    DIGIT,
    Picture(224, 224, 3),
    Picture(640, 480, 3),
    Picture(1024, 1024, 3),
    Picture(5, 90, 1),
]


@pytest.mark.parametrize("subject", [*SIZES, Picture(1, 1, 1), ROW, Table(("x",) * 1000)], ids=str)
def test_without_settings_every_input_is_affordable(subject: Any) -> None:
    if isinstance(subject, Table):
        names, row_bytes = ["kernel-shap"], 4 * len(subject.columns)
    else:
        names = ["occlusion", "kernel-shap"]
        row_bytes = 4 * subject.height * subject.width * subject.channels
    for name in names:
        assert 2 <= check_cost(choose(name, {}, subject), subject, row_bytes) <= 5000


def test_too_much_work_is_refused_with_what_to_change() -> None:
    many = choose("occlusion", {"window": 2, "stride": 1}, Picture(224, 224, 3))
    with pytest.raises(InvalidParameter, match="49731 times") as refusal:
        check_cost(many, Picture(224, 224, 3), 1)
    assert "larger 'window'" in refusal.value.remedy
    with pytest.raises(InvalidParameter, match="2 times are allowed"):
        check_cost(choose("", {}, DIGIT), DIGIT, MAX_BYTES // 2)
    wide = Table(tuple(map(str, range(3000))))
    with pytest.raises(InvalidParameter, match="fewer columns"):
        check_cost(choose("", {}, wide), wide, 4)


def test_windows_reach_both_edges() -> None:
    assert starts(28, 4, 2) == list(range(0, 25, 2))
    assert starts(10, 4, 4) == [0, 4, 6]
    assert starts(4, 4, 1) == [0]
