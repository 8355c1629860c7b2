"""Tensors in frames: what goes in comes out; bytes that do not add up are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.core.errors import InvalidInput
from modelry.core.inputs import check_inputs, describe
from modelry.core.manifests import TensorSpec
from modelry.core.tensors import DTYPES, Array, Media, decode_payload, encode_payload, wrap_payload

arrays = st.builds(
    lambda dtype, shape: np.arange(int(np.prod(shape))).reshape(shape).astype(dtype),
    st.sampled_from(sorted(DTYPES)),
    st.lists(st.integers(0, 4), max_size=3),
)
media = st.builds(Media, st.binary(max_size=50), st.sampled_from(["image/png", "图/片"]))


@given(st.dictionaries(st.text(max_size=5), arrays, max_size=4), st.lists(media, max_size=3))
def test_what_goes_in_comes_out(tensors: dict[str, Array], attached: list[Media]) -> None:
    payload = decode_payload(encode_payload(tensors, attached))
    assert payload.media == tuple(attached)
    assert payload.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert payload.tensors[name].dtype == tensor.dtype
        assert np.array_equal(payload.tensors[name], tensor)


@given(st.binary(max_size=200))
def test_noise_is_refused_or_reads_as_numbers(noise: bytes) -> None:
    try:
        payload = decode_payload(noise)
    except InvalidInput:
        return
    assert all(array.dtype.name in DTYPES for array in payload.tensors.values())


@given(st.integers(0, 60))
def test_a_cut_payload_is_refused(kept: int) -> None:
    whole = encode_payload({"x": np.ones((2, 3), np.float32)}, [Media(b"abc", "image/png")])
    with pytest.raises(InvalidInput):
        decode_payload(whole[: min(kept, len(whole) - 1)])


def test_objects_do_not_travel() -> None:
    with pytest.raises(InvalidInput, match="object"):
        encode_payload({"x": np.array([object()])})


SPECS = [TensorSpec(name="x", dtype="float32", shape=[None, 2])]


def test_the_expected_shape_is_named() -> None:
    assert describe(SPECS) == "'x': float32 of shape (N, 2)"
    assert check_inputs({"x": np.ones((3, 2), np.float32)}, SPECS) == 3


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"y": np.ones((1, 2), np.float32)},
        {"x": np.ones((1, 3), np.float32)},
        {"x": np.ones(2, np.float32)},
        {"x": np.ones((1, 2), np.float64)},
        {"x": np.ones((0, 2), np.float32)},
        {"x": np.float32(1)},
    ],
)
def test_what_does_not_fit_is_refused_with_what_is_expected(tensors: dict[str, Array]) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_inputs(tensors, SPECS)
    assert "(N, 2)" in caught.value.remedy


def test_inputs_of_different_rows_are_refused() -> None:
    two = [*SPECS, TensorSpec(name="y", dtype="float32", shape=[None])]
    tensors = {"x": np.ones((2, 2), np.float32), "y": np.ones(3, np.float32)}
    with pytest.raises(InvalidInput, match="rows"):
        check_inputs(tensors, two)


@given(st.dictionaries(st.text(max_size=5), arrays, max_size=4))
def test_bytes_that_are_tensors_already_are_wrapped_alike(tensors: dict[str, Array]) -> None:
    given_ = [
        (name, array.dtype.name, array.shape, memoryview(array.tobytes()))
        for name, array in tensors.items()
    ]
    assert wrap_payload(given_) == encode_payload(tensors)


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [("float32", (2,), 7), ("float32", (2,), 9), ("float32", (-1,), 4), ("object", (1,), 8)],
)
def test_bytes_that_are_no_such_tensor_are_refused(
    dtype: str, shape: tuple[int, ...], size: int
) -> None:
    with pytest.raises(InvalidInput, match="'x'"):
        wrap_payload([("x", dtype, shape, bytes(size))])


def test_arrays_in_any_order_of_memory_travel_in_rows() -> None:
    array = np.arange(6, dtype=">f4").reshape(2, 3)
    for other in (array, array.T.copy().T, array[:, ::-1][:, ::-1]):
        got = decode_payload(encode_payload({"x": other})).tensors["x"]
        assert got.tolist() == [[0, 1, 2], [3, 4, 5]]
        assert got.dtype == np.dtype("<f4")
