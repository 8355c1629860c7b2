"""Pictures to tensors: the steps of transformers' processors, and the labels a real network gives real photos."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pytest
from PIL import Image

from modelry.core.errors import InvalidMedia
from modelry.core.manifests import ImageInput
from modelry.worker.tasks import image_tensor

UNIT = ImageInput(height=6, width=8, channels=3, scale=1 / 255, input="x", shape=[6, 8, 3])


def png(width: int, height: int, mode: str = "RGB") -> bytes:
    random = np.random.default_rng(width * height)
    channels = {"L": (), "RGB": (3,)}[mode]
    pixels = random.integers(0, 256, (height, width, *channels), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def pixels_of(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)))


def but(**changes: Any) -> ImageInput:
    return msgspec.structs.replace(UNIT, **changes)


def test_a_picture_of_the_models_size_is_only_scaled() -> None:
    data = png(8, 6)
    assert np.allclose(image_tensor(data, UNIT), pixels_of(data) / 255)


def test_channels_come_in_the_order_and_the_place_the_model_wants() -> None:
    data = png(8, 6)
    first = but(layout="channels_first", order="bgr", shape=[3, 6, 8])
    assert np.allclose(
        image_tensor(data, first), pixels_of(data)[:, :, ::-1].transpose(2, 0, 1) / 255
    )


def test_mean_and_deviation_are_per_channel_and_in_the_models_order() -> None:
    data, mean, std = png(8, 6), [0.1, 0.2, 0.3], [0.5, 1.0, 2.0]
    found = image_tensor(data, but(mean=mean, std=std, order="bgr"))
    assert np.allclose(found, (pixels_of(data)[:, :, ::-1] / 255 - mean) / std, atol=1e-6)


@pytest.mark.parametrize("resample", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_another_size_is_resized_with_the_filter_that_is_named(resample: Any) -> None:
    data = png(31, 17)
    filters = getattr(Image.Resampling, resample.upper())
    expected = np.asarray(Image.open(io.BytesIO(data)).resize((8, 6), filters)) / 255
    assert np.allclose(image_tensor(data, but(resample=resample)), expected)


@pytest.mark.parametrize(
    ("width", "height", "box"), [(20, 10, (20, 10)), (10, 30, (10, 30)), (7, 7, (10, 10))]
)
def test_cropping_takes_the_middle_of_the_picture_with_its_shorter_side_resized(
    width: int, height: int, box: tuple[int, int]
) -> None:
    data = png(width, height)
    resized = Image.open(io.BytesIO(data)).resize(box, Image.Resampling.BILINEAR)
    left, top = (box[0] - 8) // 2, (box[1] - 6) // 2
    expected = np.asarray(resized)[top : top + 6, left : left + 8] / 255
    found = image_tensor(data, but(resize="crop", resize_to=10))
    assert np.allclose(found, expected)


def test_a_picture_can_be_squeezed_into_a_square_before_its_middle_is_taken() -> None:
    data = png(31, 17)
    square = Image.open(io.BytesIO(data)).resize((10, 10), Image.Resampling.BILINEAR)
    expected = np.asarray(square)[2:8, 1:9] / 255
    assert np.allclose(image_tensor(data, but(resize_to=10)), expected)


def test_a_crop_that_is_wider_than_the_resized_picture_makes_it_larger() -> None:
    assert image_tensor(png(9, 9), but(resize="crop", resize_to=4)).shape == (6, 8, 3)


def test_grey_pictures_have_one_channel() -> None:
    data = png(8, 6, "L")
    found = image_tensor(data, but(channels=1, shape=[6, 8]))
    assert np.allclose(found, pixels_of(data) / 255)


def test_a_picture_like_a_thread_is_refused_before_it_is_blown_up() -> None:
    with pytest.raises(InvalidMedia, match="oblong"):
        image_tensor(png(4000, 1), but(resize="crop", resize_to=256, width=224, height=224))


#: As the network's notes say: BGR, less the mean of ImageNet's pixels, the middle of 256.
SQUEEZENET = ImageInput(
    height=227,
    width=227,
    channels=3,
    scale=1.0,
    input="data",
    shape=[3, 227, 227],
    resize="crop",
    resize_to=256,
    layout="channels_first",
    order="bgr",
    mean=[104.0, 117.0, 123.0],
)


@pytest.mark.data
def test_real_photos_get_the_right_labels(shared_data: Path) -> None:
    packed = shared_data / "model-squeezenet-imagenet" / "squeezenet_v1.0_dc.onnx.gz"
    session = onnxruntime.InferenceSession(gzip.decompress(packed.read_bytes()))
    right = {}
    with (shared_data / "photos" / "labels.csv").open() as labels:
        for row in csv.DictReader(labels):
            if not row["imagenet_index"]:
                continue
            data = (shared_data / "photos" / row["file"]).read_bytes()
            scores = session.run(None, {"data": image_tensor(data, SQUEEZENET)[None]})[0].ravel()
            known = {int(index) for index in row["imagenet_index"].split("|")}
            right[row["file"]] = known & set(np.argsort(-scores)[:1].tolist()) != set()
    # The network's published accuracy is 57.5 %; these eight are clear pictures.
    assert sum(right.values()) >= 7, right
