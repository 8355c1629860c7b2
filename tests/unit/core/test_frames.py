"""Frames: any split of bytes gives the same messages, garbage raises, nobody's memory is filled."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.core.errors import FormatTooNew
from modelry.core.frames import (
    BODY_LIMIT,
    FRAME_LIMIT,
    HEADER_SIZE,
    INITIAL_CREDIT,
    PROTOCOL,
    Assembler,
    Decoder,
    Frame,
    FrameError,
    Kind,
    Message,
    Op,
    Outbox,
    Stats,
    credit_frame,
    encode_frame,
    split_stats,
)

frames = st.builds(
    Frame,
    kind=st.sampled_from(list(Kind)),
    request_id=st.integers(0, 2**64 - 1),
    body=st.binary(max_size=300),
    op=st.sampled_from([int(op) for op in Op]),
    flags=st.integers(0, 3),
    deadline_ms=st.integers(0, 2**32 - 1),
    trace=st.binary(min_size=16, max_size=16),
)


@given(st.lists(frames, max_size=8), st.data())
def test_any_split_of_the_bytes_gives_the_same_frames(
    sent: list[Frame], data: st.DataObject
) -> None:
    stream = b"".join(encode_frame(frame) for frame in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    decoder, got = Decoder(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += decoder.feed(stream[start:end])
    assert got == sent


@given(st.binary(min_size=HEADER_SIZE, max_size=400))
def test_garbage_raises_or_waits_for_less_than_a_frame_more(noise: bytes) -> None:
    decoder = Decoder()
    try:
        decoder.feed(noise)
    except (FrameError, FormatTooNew):
        return
    # What was not refused has the shape of a frame, and at most a frame of it is held.
    assert 0 < noise[4] <= PROTOCOL
    assert struct.unpack_from("<I", noise)[0] <= BODY_LIMIT


def test_a_length_over_the_limit_is_refused_before_its_bytes_come() -> None:
    head = bytearray(encode_frame(Frame(Kind.REQUEST, 1)))
    head[0:4] = struct.pack("<I", BODY_LIMIT + 1)
    with pytest.raises(FrameError):
        Decoder().feed(bytes(head))


def test_a_later_protocol_is_refused_with_the_reason() -> None:
    later = bytearray(encode_frame(Frame(Kind.PING, 0)))
    later[4] = PROTOCOL + 1
    with pytest.raises(FormatTooNew, match="later version"):
        Decoder().feed(bytes(later))


def deliver(outbox: Outbox, *, grants: bool) -> tuple[list[Message], int]:
    """Carries everything over a pretended wire; the messages, and the most bytes of one take."""
    decoder, assembler = Decoder(), Assembler()
    messages, most = [], 0
    while outbox.can_write:
        taken = outbox.take()
        assert all(len(piece) <= FRAME_LIMIT for piece in taken)
        most = max(most, sum(map(len, taken)))
        for frame in decoder.feed(b"".join(taken)):
            message = assembler.take(frame)
            if message is not None:
                messages.append(message)
            elif grants:
                outbox.credit(credit_frame(frame.request_id, len(frame.body)))
    return messages, most


@given(st.lists(st.integers(0, 3 * INITIAL_CREDIT), min_size=1, max_size=4))
def test_messages_of_every_length_arrive_whole(sizes: list[int]) -> None:
    outbox = Outbox()
    bodies = {number: bytes([number]) * size for number, size in enumerate(sizes, 1)}
    for number, body in bodies.items():
        outbox.put(Frame(Kind.REQUEST, number, body, op=Op.PREDICT, deadline_ms=7))
    messages, _ = deliver(outbox, grants=True)
    assert {message.head.request_id: message.body for message in messages} == bodies
    assert all(message.head.deadline_ms == 7 for message in messages)
    assert outbox.is_empty


def test_a_reader_that_grants_nothing_gets_no_more_than_the_first_credit() -> None:
    outbox = Outbox()
    outbox.put(Frame(Kind.DONE, 1, bytes(10 * INITIAL_CREDIT)))
    messages, _ = deliver(outbox, grants=False)
    assert messages == []
    assert not outbox.can_write
    assert not outbox.is_empty
    outbox.drop(1)
    assert outbox.is_empty


def test_a_short_message_overtakes_a_long_one() -> None:
    outbox = Outbox()
    outbox.put(Frame(Kind.REQUEST, 1, bytes(3 * FRAME_LIMIT)))
    outbox.take(FRAME_LIMIT)
    outbox.put(Frame(Kind.CANCEL, 2))
    assert Decoder().feed(outbox.take()[0])[0].kind is Kind.CANCEL


def test_the_rest_of_a_dropped_message_is_passed_over() -> None:
    outbox = Outbox()
    outbox.put(Frame(Kind.REQUEST, 1, bytes(3 * BODY_LIMIT)))
    first, second, third = Decoder().feed(b"".join(outbox.take()))
    assembler = Assembler()
    assert assembler.take(first) is None
    assert assembler.held_bytes == BODY_LIMIT
    assembler.drop(1)
    assert assembler.held_bytes == 0
    assert assembler.take(second) is None
    assert assembler.take(third) is None
    assert assembler.held_bytes == 0


def test_a_message_that_begins_twice_is_no_message() -> None:
    outbox = Outbox()
    outbox.put(Frame(Kind.REQUEST, 1, bytes(2 * BODY_LIMIT)))
    first = Decoder().feed(outbox.take()[0])[0]
    assembler = Assembler()
    assembler.take(first)
    with pytest.raises(FrameError):
        assembler.take(first)


@given(st.tuples(*[st.integers(0, 2**40)] * 4), st.binary(max_size=20))
def test_stats_survive_the_way(numbers: tuple[int, int, int, int], rest: bytes) -> None:
    stats, left = split_stats(Stats(*numbers).encode() + rest)
    assert stats == Stats(*(min(number, 2**32 - 1) for number in numbers))
    assert left == rest


def test_an_answer_without_stats_is_refused() -> None:
    with pytest.raises(FrameError):
        split_stats(b"short")
    with pytest.raises(FrameError):
        Outbox().credit(Frame(Kind.CREDIT, 1, b"?"))
