"""What both callers of the doors share: encodings undone within bounds, answers compressed if asked, headers safe."""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.core.errors import (
    BodyTooLarge,
    InvalidRequest,
    ModelryError,
    NotFound,
    UnsupportedMedia,
)
from modelry.core.frames import Stats
from modelry.server.api.doors.door import Answer, Call, Find, Head, Refusal, Target
from modelry.server.api.exchange import (
    answer,
    choose_encoding,
    decode,
    read_deadline,
    refuse,
    undo,
)
from modelry.server.gateway import Reply

HEAD = Head(Target("digits"), "", {"accept-encoding": "gzip"})
REPLY: Any = Reply(memoryview(b""), Stats(1, 2_000_000, 3_000, 4), "mnist", 7, None)  # type: ignore[arg-type]


class APretendDoor:
    """Says what it is told to say."""

    paths = ("/",)

    def __init__(self, said: Any, *, compresses: bool = False) -> None:
        self.said = said
        self.compresses = compresses

    def match(self, path: str) -> Target | None:
        return None

    def decode(self, head: Head, body: bytes, find: Find) -> Call:
        return Call("digits", None, b"", 1, self.encode)

    def encode(self, reply: Reply) -> Answer:
        if isinstance(self.said, Exception):
            raise self.said
        assert isinstance(self.said, Answer)
        return self.said

    def encode_error(self, error: ModelryError) -> Refusal:
        return Refusal(error.code.encode(), headers=(("x-why", "a\r\nset-cookie: 字\x00"),))


def ask(said: Any, **options: Any) -> Any:
    door = APretendDoor(said, **options)
    return answer(door, HEAD, decode(door, HEAD, b"", lambda *_: None), REPLY)  # type: ignore[arg-type,return-value]


@given(st.binary(max_size=3000), st.sampled_from([1, 6, 9]))
def test_what_was_compressed_is_what_was_meant(body: bytes, level: int) -> None:
    raw = zlib.compressobj(level, wbits=-15)
    assert undo(gzip.compress(body, level), "gzip", 3000) == body
    assert undo(zlib.compress(body, level), "deflate", 3000) == body
    assert undo(raw.compress(body) + raw.flush(), " Deflate ", 3000) == body
    assert undo(body, "", 0) == body


@pytest.mark.parametrize("parts", [1, 3])
def test_a_bomb_is_never_unpacked_whole(parts: int) -> None:
    bomb = gzip.compress(bytes(64 << 20)) * parts
    with pytest.raises(BodyTooLarge):
        undo(bomb, "gzip", 1 << 20)
    assert undo(gzip.compress(bytes(1 << 20)), "gzip", 1 << 20) == bytes(1 << 20)
    with pytest.raises(BodyTooLarge):
        undo(gzip.compress(bytes((1 << 20) + 1)), "gzip", 1 << 20)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@given(noise=st.binary(max_size=100))
def test_noise_is_refused_or_read(encoding: str, noise: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert len(undo(noise, encoding, 1000)) <= 1000


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(UnsupportedMedia, match="zstd"):
        undo(b"", "zstd", 10)


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("gzip, deflate", "gzip"),
        ("deflate;q=0.9, gzip;q=0.1", "deflate"),
        ("br, GZIP;q=0.5", "gzip"),
        ("gzip;q=0", ""),
        ("gzip;q=much", ""),
        ("identity", ""),
        ("", ""),
    ],
)
def test_an_answer_is_compressed_as_the_client_likes_it(accepted: str, chosen: str) -> None:
    assert choose_encoding(accepted) == chosen


def test_only_doors_whose_protocol_asks_for_it_compress_and_only_what_is_worth_it() -> None:
    large, small = Answer(b"x" * 5000), Answer(b"x" * 500)
    assert gzip.decompress(ask(large, compresses=True).body) == large.body
    assert "content-encoding: gzip\r\n" in ask(large, compresses=True).head
    assert ask(small, compresses=True).body == small.body
    assert ask(large).body == large.body


def test_an_answer_says_who_gave_it_and_where_the_time_went() -> None:
    lines = ask(Answer(b"", "text/plain", (("x-more", "1"),))).head.split("\r\n")
    assert lines == [
        "content-type: text/plain",
        "x-model-version: 7",
        "x-queue-time: 2.000000",
        "x-inference-time: 0.003000",
        "x-batch-rows: 4",
        "x-more: 1",
        "",
    ]


def test_an_answer_that_cannot_be_said_is_an_error_in_the_doors_shape() -> None:
    assert ask(NotFound(noun="a", name="b")).body == b"not_found"
    assert ask(ZeroDivisionError()).body == b"internal_error"
    assert ask(ZeroDivisionError()).status == 500


def test_nothing_in_a_header_begins_another() -> None:
    said = refuse(APretendDoor(None), NotFound(noun="a", name="b"))
    assert said.status == 404
    assert said.head.count("\r\n") == len(said.head.splitlines())
    assert "set-cookie" not in {line.split(":")[0] for line in said.head.splitlines()}
    said.head.encode("latin-1")


@given(st.text(max_size=10) | st.floats().map(str))
def test_a_deadline_is_seconds_or_refused(text: str) -> None:
    try:
        seconds = read_deadline(text)
    except InvalidRequest:
        return
    assert seconds is not None
    assert 0 < seconds <= 3600
    assert json.dumps(seconds)
