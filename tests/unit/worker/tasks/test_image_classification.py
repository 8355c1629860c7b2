"""Pictures to labels: tiny networks of several families answer as transformers' own pipeline."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from modelry.core.calls import TaskCall, pack
from modelry.core.errors import InvalidInput, InvalidMedia, NotConvertible, UnsupportedMedia
from modelry.worker.tasks import open_task
from tests.unit.worker.tasks import tiny
from tests.unit.worker.tasks.tiny import Served

LABELS = dict(enumerate(["cat", "dog", "owl", "bird", "bee", "fox"]))
_VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "image_size": 32,
    "patch_size": 8,
    "initializer_range": 0.3,
}
_RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
_CONVNEXT = {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "initializer_range": 0.3}


def picture(width: int = 90, height: int = 60, kind: str = "PNG") -> bytes:
    random = np.random.default_rng(width)
    small = Image.fromarray(random.integers(0, 256, (6, 9, 3), dtype=np.uint8))
    file = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).save(file, format=kind)
    return file.getvalue()


def save(folder: Path, family: str, processor: Any, **sizes: Any) -> Path:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        **sizes, id2label=LABELS, label2id={name: at for at, name in LABELS.items()}
    )
    getattr(transformers, f"{family}ForImageClassification")(config).eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def vit_processor(**changes: Any) -> Any:
    return transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}, **changes)


def expected(model: Served, processor: Any, family: str, data: bytes) -> dict[str, float]:
    """The library's own processor and network, one picture alone."""
    network = getattr(transformers, f"{family}ForImageClassification").from_pretrained(model.source)
    image = Image.open(io.BytesIO(data)).convert("RGB")
    with torch.inference_mode():
        logits = network.eval()(**processor(image, return_tensors="pt")).logits[0]
    return dict(zip(LABELS.values(), logits.softmax(0).tolist(), strict=True))


CASES = {
    "DeiT": (
        _VIT,
        lambda: transformers.DeiTImageProcessorPil(
            size={"height": 40, "width": 40}, crop_size={"height": 32, "width": 32}
        ),
    ),
    "ViT": (_VIT, vit_processor),
    "ResNet": (
        _RESNET,
        lambda: transformers.ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=0.875),
    ),
    "ConvNext": (
        _CONVNEXT,
        lambda: transformers.CLIPImageProcessorPil(
            size={"shortest_edge": 48}, crop_size={"height": 32, "width": 32}
        ),
    ),
}


@pytest.mark.parametrize("family", CASES)
def test_scores_are_the_librarys(tmp_path: Path, family: str) -> None:
    sizes, make_processor = CASES[family]
    processor = make_processor()
    model = tiny.served(save(tmp_path / "source", family, processor, **sizes), tmp_path / "out")
    for data in (picture(), picture(40, 200), picture(500, 333, "JPEG")):
        found = {each["label"]: each["score"] for each in model.value(media=data, top_k=9)}
        assert found == pytest.approx(expected(model, processor, family, data), abs=1e-4)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("vit")
    return tiny.served(save(folder / "source", "ViT", vit_processor(), **_VIT), folder / "out")


def test_five_labels_are_told_the_best_first(vit: Served) -> None:
    found = vit.value(media=picture())
    assert len(found) == 5
    assert [each["score"] for each in found] == sorted(
        (each["score"] for each in found), reverse=True
    )


def test_what_is_no_picture_is_refused(vit: Served) -> None:
    with pytest.raises(InvalidMedia):
        vit.value(media=b"no picture")
    with pytest.raises(InvalidInput):
        vit.value("a text")
    with pytest.raises(UnsupportedMedia):
        open_task(pack(TaskCall(media=picture(), media_type="audio/wav")), vit)


def test_a_processor_that_does_more_than_can_be_said_is_refused(tmp_path: Path) -> None:
    for at, changes in enumerate([{"do_resize": False}, {"resample": 4}]):
        source = save(tmp_path / f"source{at}", "ViT", vit_processor(**changes), **_VIT)
        with pytest.raises(NotConvertible, match="image processor"):
            tiny.served(source, tmp_path / f"out{at}")
