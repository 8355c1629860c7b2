"""Modelry's own predict call: numbers, images and uploads in; labels and scores out."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from modelry.core.errors import (
    InvalidInput,
    InvalidMedia,
    InvalidRequest,
    ModelryError,
    UnsupportedMedia,
)
from modelry.core.manifests import Column, ModelManifest, TableInput, TensorSpec
from modelry.core.tensors import Payload, decode_payload, encode_payload
from modelry.server.api.doors import native
from tests.unit.server.api.doors.looks import manifest

SAMPLE = [[[0.5], [1], [-2e-3]], [[0], [7], [1.25]]]
JSON = "application/json"


def image(kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("L", (3, 2), 100).save(out, format=kind)
    return out.getvalue()


def decode(call: Any, content_type: str = JSON, of: ModelManifest | None = None) -> Payload:
    body = call if isinstance(call, bytes) else json.dumps(call).encode()
    return decode_payload(native.decode(body, content_type, of or manifest()))


def upload(name: str, *files: bytes, field: bool = False) -> tuple[bytes, str]:
    parts = [
        f'--cut\r\nContent-Disposition: form-data; name="{name}"; filename="七.png"\r\n\r\n'.encode()
        + file
        + b"\r\n"
        for file in files
    ]
    if field:
        parts.append(b'--cut\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n')
    return b"".join([*parts, b"--cut--\r\n"]), "multipart/form-data; boundary=cut"


def test_one_input_is_one_row_and_several_are_several() -> None:
    assert np.array_equal(decode({"input": SAMPLE}).tensors["x"], np.array([SAMPLE], np.float32))
    assert decode({"inputs": [SAMPLE, SAMPLE]}).tensors["x"].shape == (2, 2, 3, 1)
    assert decode({"input": {"x": SAMPLE}}).tensors["x"].shape == (1, 2, 3, 1)


def test_scalars_per_row() -> None:
    spec = TensorSpec(name="x", dtype="float32", shape=[None])
    assert decode({"input": 3}, of=manifest(spec)).tensors["x"].tolist() == [3.0]
    assert decode({"inputs": [3, 4.5]}, of=manifest(spec)).tensors["x"].tolist() == [3.0, 4.5]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
@pytest.mark.parametrize("content_type", ["", "application/x-www-form-urlencoded", "image/png"])
def test_a_raw_image_needs_no_special_care(kind: str, content_type: str) -> None:
    (medium,) = decode(image(kind), content_type).media
    assert medium.data == image(kind)
    assert medium.content_type.startswith("image/")


def test_images_may_come_as_base64() -> None:
    text = base64.b64encode(image()).decode()
    assert [medium.data for medium in decode({"input": {"b64": text}}).media] == [image()]
    assert len(decode({"inputs": [{"b64": text}] * 3}).media) == 3


def test_files_may_be_uploaded() -> None:
    big = image() + bytes(3 << 20)
    media = decode(*upload("file", image(), big)).media
    assert [medium.data for medium in media] == [image(), big]
    assert media[0].content_type == "image/png"


@pytest.mark.parametrize(
    ("body", "content_type", "error"),
    [
        (b"{", JSON, InvalidRequest),
        ({}, JSON, InvalidRequest),
        ({"input": SAMPLE, "more": 1}, JSON, InvalidRequest),
        ({"inputs": []}, JSON, InvalidRequest),
        ({"inputs": 3}, JSON, InvalidRequest),
        ({"input": {"b64": 5}}, JSON, InvalidRequest),
        ({"input": {"b64": "AAAA", "x": 1}}, JSON, InvalidRequest),
        ({"input": {"b64": "?"}}, JSON, InvalidMedia),
        ({"inputs": [{"b64": "AAAA"}, SAMPLE]}, JSON, InvalidRequest),
        ({"input": [SAMPLE]}, JSON, InvalidInput),
        ({"input": {"y": 1}}, JSON, InvalidInput),
        (b"hello", "text/plain", UnsupportedMedia),
        (b"hello", "", UnsupportedMedia),
        (b"hello", "multipart/form-data", InvalidRequest),
        (b"hello", "multipart/form-data; boundary=cut", InvalidRequest),
        (*upload("other", image()), InvalidRequest),
        (*upload("file", image(), field=True), InvalidRequest),
        (*upload("file"), InvalidRequest),
    ],
)
def test_what_is_not_taken_is_refused(
    body: Any, content_type: str, error: type[ModelryError]
) -> None:
    with pytest.raises(error):
        decode(body, content_type)


def test_a_model_of_tensors_takes_no_images() -> None:
    with pytest.raises(UnsupportedMedia, match="not taken") as caught:
        decode(image(), "image/png", manifest(is_visual=False))
    assert "(N, 2, 3, 1)" in caught.value.remedy


def test_options_are_numbers_and_nothing_else() -> None:
    assert native.read_options("") == native.Options(10, None)
    assert native.read_options("top_k=3&version=12") == native.Options(3, 12)
    for wrong in ("top_k=0", "top_k=-1", "version=x", "explain=1"):
        with pytest.raises(InvalidRequest):
            native.read_options(wrong)


def encode(output: Any, top_k: int = 10) -> dict[str, Any]:
    payload = encode_payload({"probabilities": np.array(output, np.float32)})
    timing = native.Timing(0.001, 0.0025, 0.01)
    about = {"deployment": "digits", "model": "mnist", "version": 3}
    answer: dict[str, Any] = json.loads(native.encode(payload, manifest(), top_k, about, timing))
    return answer


def test_labels_come_best_first() -> None:
    answer = encode([[0.25, 0.5, 0.25], [1, 0, 0]])
    assert answer["version"] == 3
    assert answer["timing"] == {"queue_ms": 1.0, "inference_ms": 2.5, "total_ms": 10.0}
    first, second = answer["predictions"]
    assert first["label"] == "one"
    assert first["score"] == 0.5
    assert [score["label"] for score in first["scores"]] == ["one", "零", "two"]
    assert second["label"] == "零"
    assert [len(p["scores"]) for p in encode([[0.2, 0.5, 0.3]], top_k=2)["predictions"]] == [2]


def test_an_output_without_labels_is_given_as_it_is() -> None:
    assert encode([[1.0, 2.0]])["predictions"] == [{"values": [1.0, 2.0]}]


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_no_answer(number: float) -> None:
    with pytest.raises(InvalidInput, match="finite"):
        encode([[0.2, 0.5, 0.3], [number, 0, 0]])


def table(*names: str) -> ModelManifest:
    """A model of rows with these columns, whose tensor is called `x`."""
    return msgspec.structs.replace(
        manifest(),
        inputs=[TensorSpec(name="x", dtype="float32", shape=[None, len(names)])],
        media=TableInput(columns=[Column(name=name) for name in names], input="x"),
    )


@pytest.mark.parametrize("name", ["age", "x", "b64", "inputs"])
def test_a_row_may_have_a_column_of_any_name(name: str) -> None:
    of = table(name)
    for value, expected in ((1.5, 1.5), ("2", 2.0), (None, np.nan)):
        found = decode({"inputs": [{name: value}]}, of=of).tensors["x"]
        assert np.array_equal(found, [[expected]], equal_nan=True)
    assert decode({"inputs": [[3.0]]}, of=of).tensors["x"].tolist() == [[3]]
    assert decode({"input": {"x": [4.0]}}, of=of).tensors["x"].tolist() == [[4]]


def test_a_row_with_other_columns_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="row 0 lacks the column 'town'"):
        decode({"input": {"age": 3}}, of=table("age", "town"))
