"""Numbers in JSON, read by the compiled part and without it: the same numbers, to the last bit."""

from __future__ import annotations

import json
import shutil
import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelry.core.manifests import TensorSpec
from modelry.server.api.doors import numbers

compiled = pytest.mark.skipif(not numbers.IS_COMPILED, reason="built without a C compiler")

SPACE = st.sampled_from(["", " ", "\n", "\t \r"])


def read(text: bytes, *shape: int | None, is_batch: bool = True, dtype: str = "float64") -> object:
    spec = TensorSpec(name="x", dtype=dtype, shape=list(shape))
    found = numbers.read_regular(text, spec, is_batch=is_batch)
    return None if found is None else (found.shape, found.tobytes())


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "IS_COMPILED", False)


def read_both_ways(text: bytes, *shape: int | None, **said: object) -> tuple[object, object]:
    quick = read(text, *shape, **said)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numbers, "IS_COMPILED", False)
        return quick, read(text, *shape, **said)  # type: ignore[arg-type]


def test_the_compiled_part_is_there_where_a_compiler_is() -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here")
    assert numbers.IS_COMPILED


@st.composite
def written(draw: st.DrawFn) -> str:
    """A number as somebody may write it."""
    value = draw(st.floats(allow_nan=False, allow_infinity=False) | st.floats(-10, 10, width=32))
    form = draw(st.sampled_from(["r", "e", "f", "g"]))
    if form == "r" or abs(value) > 1e15:
        return repr(value)
    digits = draw(st.integers(1, 24))
    return f"{value:.{digits}{form}}"


@compiled
@given(written())
@example("-0.0")
@example("-0")
@example("0.1e-0022")
@example("9007199254740993.0")
@example("9223372036854775807")
@example("123456789012345678.5")
@example("0.00000000000000000001234567890123456789")
@example("4.9e-324")
@example("1.7976931348623157e308")
def test_a_number_is_read_to_the_last_bit(text: str) -> None:
    found = read(f"[{text}]".encode(), 1, is_batch=True)
    expected = 0.0 if text.lstrip("-") == "0" else float(text)
    assert found == ((1,), struct.pack("d", expected))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "+1",
        ".5",
        "1.",
        "01",
        "1e",
        "1e+",
        "0x1",
        "1_0",
        "--1",
        "1.5.",
        "NaN",
        "nul",
        "1e999",
    ]
    + ["Infinity", "-1e400", "1,", ",1", "[1", "1]", '"1"', "true", "1 1", "1e99999", "\0", "1\0"]
    + ["9" * 80, "0." + "1" * 80, "18446744073709551616"],
)
def test_what_is_no_plain_number_is_left_to_the_general_way(text: str) -> None:
    assert read(f"[{text}]".encode(), None) is None or float(text) == float("0." + "1" * 80)


@compiled
@given(st.binary(max_size=40) | st.text("[]0123456789.,-+eE \n", max_size=60).map(str.encode))
def test_nothing_that_both_ways_read_differs(text: bytes) -> None:
    for shape in ((None,), (None, 1), (None, 2, 1)):
        for is_batch in (True, False):
            quick, slow = read_both_ways(text, *shape, is_batch=is_batch)
            if quick is not None:
                json.loads(text)
            if quick is not None and slow is not None:
                assert quick == slow


@compiled
@given(st.lists(st.floats(-1e6, 1e6), min_size=6, max_size=24), SPACE, st.booleans())
def test_both_ways_read_a_batch_alike(values: list[float], space: str, is_narrow: bool) -> None:
    rows = np.array(values[: len(values) // 6 * 6]).reshape(-1, 3, 2)
    text = json.dumps(rows.tolist(), separators=("," + space, ":")).replace("[", f"[{space}")
    dtype = "float32" if is_narrow else "float64"
    quick, slow = read_both_ways(text.encode(), None, 3, 2, dtype=dtype)
    assert quick == slow == (rows.shape, rows.astype(dtype).tobytes())


@compiled
def test_rows_of_very_different_lengths_find_room() -> None:
    rows = [[0.5, 0.5]] * 3 + [[0.12345678901234567, 1e-300]] + [[1, 2]] * 5000
    text = json.dumps(rows).encode()
    assert read(text, None, 2) == ((5004, 2), np.array(rows, np.float64).tobytes())


@pytest.mark.usefixtures("uncompiled")
def test_without_the_compiled_part_the_same_is_read() -> None:
    assert read(b"[[1.5, 2]]", None, 2) == ((1, 2), struct.pack("dd", 1.5, 2.0))
    assert read(b"[[1.5], [2]]", None, 2) is None


@pytest.mark.parametrize("is_compiled", [False, numbers.IS_COMPILED])
@pytest.mark.parametrize("row", [(1 << 40,), (1 << 30, 1 << 30), (1 << 70,), (100_000, 100_000)])
def test_a_huge_shape_takes_no_memory(
    row: tuple[int, ...], is_compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbers, "IS_COMPILED", is_compiled)
    assert read(b"[[1]]", None, *row) is None
