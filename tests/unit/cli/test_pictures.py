"""The quickstart's pictures: every label can be read, whatever fonts there are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelry.cli.held_out import HeldOut
from modelry.cli.pictures import draw_answers, draw_curves, drawable, save_digit
from modelry.client.predictions import Prediction
from modelry.core.records import MetricPoint


def held_out() -> HeldOut:
    dice = np.random.default_rng(0)
    return HeldOut(dice.random((40, 8, 8, 1), dtype=np.float32), ["七", "7"] * 20)


def test_a_character_without_a_font_is_told_by_its_number() -> None:
    assert drawable("7 ✗ 50 %") == "7 ✗ 50 %"
    assert drawable("\ue123") == "U+E123"
    assert drawable("手写") in ("手写", "U+624BU+5199")


def test_chinese_is_drawn_where_a_font_has_it() -> None:
    has_font = any(Path("/usr/share/fonts").rglob("wqy-microhei.ttc"))
    if not has_font:
        message = "no Chinese font is installed (apt-get install fonts-wqy-microhei)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    assert drawable("手写数字 七") == "手写数字 七"


def test_the_answers_become_a_picture(tmp_path: Path) -> None:
    answers = [Prediction("7", 0.9, {"7": 0.9}, 1)] * 40
    draw_answers(tmp_path / "七.png", held_out(), answers)
    with Image.open(tmp_path / "七.png") as picture:
        assert picture.width > 800


def test_the_curves_become_a_picture_with_any_number_of_points(tmp_path: Path) -> None:
    names = ("epoch/train_loss", "epoch/train_accuracy", "train/loss")
    points = [
        MetricPoint(name=name, step=step, value=0.5, at=0) for name in names for step in (1, 2)
    ]
    for number, some in enumerate((points, [])):
        draw_curves(tmp_path / f"{number}.png", some, 0.98 if some else None)
        with Image.open(tmp_path / f"{number}.png") as picture:
            assert picture.width > 800


def test_one_digit_is_saved_in_its_own_size(tmp_path: Path) -> None:
    save_digit(tmp_path / "seven.png", held_out(), label="七")
    with Image.open(tmp_path / "seven.png") as picture:
        assert picture.size == (8, 8)
        expected = (held_out().images[0].squeeze() * 255).round().astype(np.uint8)
        assert np.array_equal(np.asarray(picture), expected)
