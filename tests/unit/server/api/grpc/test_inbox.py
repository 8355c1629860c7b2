"""Messages in pieces: any cut gives the same ones, and none is larger than the limit."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.core.errors import BodyTooLarge, InvalidRequest
from modelry.server.api.grpc.inbox import Inbox


def packed(message: bytes, flag: int = 0) -> bytes:
    return bytes([flag]) + len(message).to_bytes(4, "big") + message


@given(st.lists(st.tuples(st.binary(max_size=30), st.integers(0, 1)), max_size=6), st.data())
def test_any_cut_gives_the_same_messages(
    messages: list[tuple[bytes, int]], data: st.DataObject
) -> None:
    whole = b"".join(packed(message, flag) for message, flag in messages)
    inbox, at = Inbox(30), 0
    while at < len(whole):
        size = data.draw(st.integers(1, len(whole) - at))
        inbox.feed(whole[at : at + size])
        at += size
    assert inbox.waiting_bytes == sum(len(message) for message, _ in messages)
    found = [inbox.take() for _ in range(len(inbox))]
    assert [(one.data, int(one.is_packed)) for one in found] == messages
    assert not inbox.is_halfway
    assert inbox.waiting_bytes == 0


def test_it_tells_what_is_missing() -> None:
    inbox = Inbox(1000)
    inbox.feed(packed(b"x" * 1000)[:3])
    assert (inbox.missing_bytes, inbox.is_halfway) == (0, True)
    inbox.feed(packed(b"x" * 1000)[3:105])
    assert inbox.missing_bytes == 900


def test_a_message_beyond_the_limit_is_refused_before_it_comes() -> None:
    with pytest.raises(BodyTooLarge):
        Inbox(1000).feed(packed(b"x" * 1001)[:5] + b"x")


@given(st.lists(st.binary(max_size=12), max_size=6))
def test_noise_is_a_message_or_refused(pieces: list[bytes]) -> None:
    inbox = Inbox(100)
    with contextlib.suppress(InvalidRequest, BodyTooLarge):
        for piece in pieces:
            inbox.feed(piece)
