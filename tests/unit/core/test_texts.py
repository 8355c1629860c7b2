"""Tensors of texts: they travel beside numbers, and bytes that are no texts are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.core.errors import InvalidInput
from modelry.core.tensors import decode_payload, encode_payload, wrap_payload
from modelry.core.texts import STRING, blank, pack_texts, type_name, unpack_texts

rows = st.lists(st.lists(st.text(max_size=8), min_size=2, max_size=2), min_size=1, max_size=4)


@given(rows)
def test_what_goes_in_comes_out(values: list[list[str]]) -> None:
    texts = np.array(values, object)
    numbers = np.arange(5, dtype=np.int8)
    payload = encode_payload({"a": numbers, "t": texts, "b": numbers})
    found = decode_payload(payload).tensors
    assert found["t"].tolist() == values
    assert found["t"].shape == texts.shape
    assert type_name(found["t"]) == STRING
    assert np.array_equal(found["a"], numbers)
    assert np.array_equal(found["b"], numbers)


@given(rows)
def test_packed_texts_travel_as_they_are(values: list[list[str]]) -> None:
    texts = np.array(values, object)
    packed = pack_texts("t", texts)
    assert unpack_texts("t", packed, texts.shape).tolist() == values
    payload = wrap_payload([("t", STRING, texts.shape, packed)])
    assert payload == encode_payload({"t": texts})


@given(st.binary(max_size=30), st.lists(st.integers(0, 4), max_size=2))
def test_any_bytes_are_read_or_refused(data: bytes, shape: list[int]) -> None:
    try:
        texts = unpack_texts("t", data, shape)
    except InvalidInput:
        return
    assert pack_texts("t", texts) == data


@pytest.mark.parametrize(
    ("data", "shape", "word"),
    [
        (b"", [1], "hold no"),
        (b"", [10**18], "hold no"),
        (b"\x02\0\0\0a", [1], "cut off"),
        (b"\xff\xff\xff\xffa", [1], "cut off"),
        (b"\x01\0\0\0ab", [1], "follow"),
        (b"\x01\0\0\0\xff", [1], "UTF-8"),
        (b"\x04\0\0\0\0\0\0\0", [2], "cut off"),
    ],
)
def test_what_is_no_text_is_refused_with_the_reason(
    data: bytes, shape: list[int], word: str
) -> None:
    with pytest.raises(InvalidInput, match=word):
        unpack_texts("t", data, shape)


def test_other_objects_do_not_travel() -> None:
    for element in (b"bytes", None, 3, ["a"]):
        array = np.empty(1, object)
        array[0] = element
        with pytest.raises(InvalidInput, match="object"):
            encode_payload({"t": array})


def test_an_empty_input_is_zeros_or_empty_texts() -> None:
    assert blank(STRING, [1, 2]).tolist() == [["", ""]]
    assert blank("int8", [2]).tolist() == [0, 0]
