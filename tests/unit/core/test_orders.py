"""Messages between the deciding side and an agent arrive whole, however the stream is cut."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.core.errors import InvalidRequest
from modelry.core.orders import LARGEST_MESSAGE_BYTES, MessageReader, send_message


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 50))
def test_messages_survive_every_way_of_cutting_the_stream(messages: list[bytes], size: int) -> None:
    sender, receiver = socket.socketpair()
    with sender, receiver:
        for message in messages:
            send_message(sender, message)
        sender.close()
        reader = MessageReader()
        found: list[bytes] = []
        while chunk := receiver.recv(size):
            found += reader.feed(chunk)
    assert found == messages


def test_a_length_that_cannot_be_is_refused() -> None:
    head = (LARGEST_MESSAGE_BYTES + 1).to_bytes(4, "big")
    with pytest.raises(InvalidRequest):
        list(MessageReader().feed(head))
