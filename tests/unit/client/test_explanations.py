"""Explanations as they come back, and the pictures of them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modelry.client import Explanation
from modelry.client.explanations import AGAINST, FOR, read_explanation
from modelry.client.predictions import Media, Tensor
from modelry.core.errors import UnsupportedTask
from tests.unit.client.answering import talking

ANSWER = {
    "deployment": "digits", "model": "mnist", "version": 3, "method": "occlusion", "label": "七",
    "parameters": {"window": 4}, "score": 0.9, "base": 0.1, "residual": 0.2, "evaluations": 171,
    "attributions": [[0.5, 0.0], [0.0, -0.25]], "timing": {},
    "seen": {"height": 2, "width": 2, "resize": "exact", "resize_to": None},
}  # fmt: skip
COLUMNS = [{"column": "年龄", "attribution": -0.5}, {"column": "income", "attribution": 0.25}]


def png(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(out, format="PNG")
    return out.getvalue()


def explanation(source: Any = None, **more: Any) -> Explanation:
    return read_explanation({**ANSWER, **more}, source or Media(png(40, 40)))


def test_a_call_says_what_is_to_be_explained_and_how(tmp_path: Path) -> None:
    path = tmp_path / "seven.png"
    path.write_bytes(png(5, 5))
    with talking((200, ANSWER)) as (server, client):
        found = client.explain("digits", path, label="七", window=4, baseline=0.5, version=3)
    [asked] = server.asked
    assert asked.path == ("/explain/digits?label=%E4%B8%83&version=3&window=4&baseline=0.5")
    assert asked.headers["content-type"] == "image/png"
    assert (found.label, found.score, found.evaluations) == ("七", 0.9, 171)
    assert found.attributions.tolist() == [[0.5, 0.0], [0.0, -0.25]]


def test_several_numbers_of_a_setting_travel_together() -> None:
    with talking((200, {**ANSWER, "columns": COLUMNS})) as (server, client):
        found = client.explain("people", [1.0, 2.0], method="kernel-shap", baseline=[0.5, 1])
    assert "baseline=0.5%2C1" in server.asked[0].path
    assert json.loads(server.asked[0].body) == {"input": [1.0, 2.0]}
    assert found.columns == ("年龄", "income")
    assert found.attributions.tolist() == [-0.5, 0.25]


def test_a_picture_is_orange_where_it_speaks_for_the_label_and_blue_where_against() -> None:
    picture = explanation(method="kernel-shap").picture(side=100)
    assert picture.size == (100, 100)
    assert np.abs(np.array(picture.getpixel((25, 25))) - _rgb(FOR)).max() <= 1
    assert picture.getpixel((75, 25)) == (255, 255, 255)
    against = np.array(picture.getpixel((75, 75)), float)
    mixed = 255 + (np.array(_rgb(AGAINST), float) - 255) * 0.5**0.9
    assert np.abs(against - mixed).max() <= 1


def test_an_explanation_of_nothing_is_the_pale_picture_itself() -> None:
    found = explanation(attributions=[[0.0, 0.0], [0.0, 0.0]])
    assert found.picture(side=10).getpixel((3, 3)) == (255, 255, 255)


def test_only_the_middle_is_shown_where_only_the_middle_was_seen() -> None:
    image = Image.new("RGB", (300, 100), "white")
    image.paste("black", (125, 25, 175, 75))
    out = io.BytesIO()
    image.save(out, format="PNG")
    seen = {"height": 2, "width": 2, "resize": "crop", "resize_to": 4}
    shown = explanation(Media(out.getvalue()), seen=seen).shown()
    assert shown.shape == (50, 50, 3)
    assert not shown.any()


@pytest.mark.parametrize("shape", [(2, 2), (2, 2, 1), (1, 2, 2), (2, 2, 3), (3, 2, 2), (2, 6)])
def test_tensors_of_every_layout_have_a_picture(shape: tuple[int, ...]) -> None:
    values = np.linspace(-1, 1, int(np.prod(shape))).reshape(shape)
    found = explanation(Tensor(values.tolist()), seen=None)
    assert found.shown().shape == (2, 2, 3)
    assert found.picture(side=20).size == (20, 20)


def test_a_table_is_drawn_as_bars_and_has_no_picture() -> None:
    from matplotlib.figure import Figure

    found = explanation(Tensor([1.0, 2.0]), columns=COLUMNS)
    axes = Figure().subplots()
    found.plot(axes)
    assert [bar.get_width() for bar in axes.patches] == [0.25, -0.5]
    with pytest.raises(UnsupportedTask):
        found.picture()


def _rgb(colour: str) -> list[int]:
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
