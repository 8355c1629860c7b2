"""Header blocks: what an independent writer writes is read, and noise is refused."""

from __future__ import annotations

import contextlib

import pytest
from hpack import Decoder as TheirDecoder
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from modelry.server.api.grpc.hpack import Decoder, HpackError, name_of, value_of

names = st.sampled_from([":path", "authorization", "te", "content-type", "x-a", "x-" + "b" * 50])
values = st.text(st.characters(max_codepoint=255), max_size=300)
fields = st.lists(st.tuples(names, values), max_size=8)


def test_the_examples_of_the_specification_are_read() -> None:
    decoder = Decoder(10_000)
    first = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")]  # fmt: skip
    assert decoder.decode(bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff")) == first
    second = [*first, ("cache-control", "no-cache")]
    assert decoder.decode(bytes.fromhex("828684be5886a8eb10649cbf")) == second


@given(st.lists(st.tuples(fields, st.booleans(), st.sampled_from([None, 0, 60, 4096])), max_size=6))
def test_blocks_of_one_connection_are_read_as_they_were_meant(
    blocks: list[tuple[list[tuple[str, str]], bool, int | None]],
) -> None:
    encoder, decoder = Encoder(), Decoder(1 << 20)
    for block, huffman, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        data = encoder.encode(
            [(name.encode(), value.encode("latin-1")) for name, value in block], huffman=huffman
        )
        assert decoder.decode(data) == block


@given(
    st.lists(st.tuples(names.filter(lambda name: name[0] != ":"), st.text("abc 9", max_size=300)))
)
def test_what_we_write_others_read(block: list[tuple[str, str]]) -> None:
    data = b"".join(name_of(name) + value_of(value) for name, value in block)
    assert [tuple(field) for field in TheirDecoder().decode(data, raw=False)] == block


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_noise_is_read_or_refused(blocks: list[bytes]) -> None:
    decoder = Decoder(4096)
    with contextlib.suppress(HpackError):
        for block in blocks:
            decoder.decode(block)


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("80", "no field 0"),
        ("be", "no field 62"),
        ("ff8080808080", "without end"),
        ("41", "cut off"),
        ("4105616263", "cut off"),
        ("008161ff", "cut off|does not end"),
        ("0082ffff0000", "does not end"),
        ("8220", "table size"),
        ("3fe2ff01", "table size"),
    ],
)
def test_what_no_block_may_hold_is_refused(block: str, reason: str) -> None:
    with pytest.raises(HpackError, match=reason):
        Decoder(4096).decode(bytes.fromhex(block))


def test_fields_have_a_limit() -> None:
    decoder = Decoder(4096)
    data = Encoder().encode([("x", "y" * 1000)])
    for _ in range(3):
        decoder.decode(data)
    # Repeated, a field costs a byte on the wire and its whole length here.
    with pytest.raises(HpackError, match="too many"):
        decoder.decode(data + b"\xbe" * 5)
