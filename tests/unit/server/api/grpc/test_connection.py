"""HTTP/2 as an independent client speaks it: streams, windows, limits, farewells, and everything malformed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
from h2.errors import ErrorCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from modelry.server.api.grpc import http2
from modelry.server.api.grpc.connection import Connection
from modelry.server.api.grpc.hpack import name_of, value_of
from modelry.server.api.grpc.http2 import PREFACE, frame
from modelry.server.api.grpc.stream import Fields, Stream

CALL = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "localhost"),
    (":path", "/a.B/C"),
    ("te", "trailers"),
]
HEAD = b"\x88"
TRAILERS = name_of("grpc-status") + value_of("0")


class Socket:
    """What a transport is to a connection."""

    def __init__(self) -> None:
        self.written = b""
        self.is_closed = False
        self.is_reading = True

    def write(self, data: bytes) -> None:
        assert not self.is_closed
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 4711)


class Taken:
    """A request as its receiver got it; answers when it is whole."""

    def __init__(self, stream: Stream, headers: Fields, answer: bytes | None) -> None:
        self.stream = stream
        self.headers = headers
        self.answer = answer
        self.body = b""
        self.is_gone = False

    def take(self, piece: bytes) -> None:
        self.body += piece
        self.stream.allow(len(piece))

    def end(self) -> None:
        if self.answer is not None:
            self.stream.answer(HEAD, self.answer, TRAILERS)

    def gone(self) -> None:
        assert not self.is_gone
        self.is_gone = True

    def look(self, now: float, limit_s: float) -> None:
        """Nothing to look at."""


class Talk:
    """A client and the connection that it talks to, in memory."""

    def __init__(self, answer: bytes | None = b"\0\0\0\0\0") -> None:
        self.taken: list[Taken] = []
        self.socket = Socket()
        self.all: set[Connection] = set()

        def accept(stream: Stream, headers: Fields) -> Taken:
            self.taken.append(Taken(stream, headers, answer))
            return self.taken[-1]

        self.server = Connection(accept, self.all)
        self.server.connection_made(self.socket)  # type: ignore[arg-type]
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.client.initiate_connection()
        self.events: list[Any] = []
        self.got: dict[int, bytes] = {}

    async def pass_on(self, acknowledge: bool = True) -> None:
        """Lets both say what they have to say, until neither has anything left."""
        while True:
            said = self.client.data_to_send()
            if said and not self.socket.is_closed:
                self.server.data_received(said)
            await asyncio.sleep(0)
            heard, self.socket.written = self.socket.written, b""
            for event in self.client.receive_data(heard) if heard else ():
                self.events.append(event)
                if isinstance(event, h2.events.DataReceived):
                    self.got[event.stream_id] = self.got.get(event.stream_id, b"") + event.data
                    if acknowledge:
                        self.client.acknowledge_received_data(
                            event.flow_controlled_length, event.stream_id
                        )
            if not heard and not said:
                return

    def ask(self, body: bytes = b"\0\0\0\0\1x", **options: Any) -> int:
        """Opens a stream with a body that fits its window."""
        stream_id: int = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, CALL, **options)
        self.client.send_data(stream_id, body, end_stream=True)
        return stream_id

    def ended(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def live(story: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await story()

    asyncio.run(limited())


def test_calls_of_one_connection_are_each_answered() -> None:
    async def story() -> None:
        talk = Talk(b"\0\0\0\0\2ok")
        streams = [talk.ask(b"\0\0\0\0\1" + bytes([number])) for number in range(20)]
        await talk.pass_on()
        assert [one.body[-1] for one in talk.taken] == list(range(20))
        assert talk.taken[0].headers == CALL
        assert talk.got == dict.fromkeys(streams, b"\0\0\0\0\2ok")
        assert len(talk.ended(h2.events.TrailersReceived)) == 20
        assert talk.server.streams == {}

    live(story)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_cut_of_the_bytes_is_understood(data: st.DataObject) -> None:
    async def story() -> None:
        talk = Talk()
        for _ in range(3):
            talk.ask()
        said, at = talk.client.data_to_send(), 0
        while at < len(said):
            size = data.draw(st.integers(1, len(said) - at))
            talk.server.data_received(said[at : at + size])
            at += size
        await talk.pass_on()
        assert len(talk.ended(h2.events.StreamEnded)) == 3

    live(story)


@pytest.mark.parametrize("window", [1, 1000, 65_535, 1 << 20])
def test_a_large_answer_never_goes_over_the_clients_windows(window: int) -> None:
    answer = bytes(range(256)) * 400 if window == 1 else bytes(range(256)) * 4000
    answer = answer[: 300 if window == 1 else None]

    async def story() -> None:
        talk = Talk(answer)
        talk.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        await talk.pass_on()
        # The client raises a protocol error for a byte too many.
        streams = [talk.ask(), talk.ask()]
        await talk.pass_on()
        assert [talk.got[one] for one in streams] == [answer, answer]
        assert len(talk.ended(h2.events.StreamEnded)) == 2

    live(story)


def test_what_the_windows_hold_back_waits_and_says_since_when() -> None:
    async def story() -> None:
        talk = Talk(bytes(200_000))
        stream_id = talk.ask()
        await talk.pass_on(acknowledge=False)
        assert len(talk.got[stream_id]) == 65_535
        assert talk.taken[0].stream.blocked_at is not None
        talk.client.increment_flow_control_window(200_000)
        talk.client.increment_flow_control_window(200_000, stream_id)
        await talk.pass_on(acknowledge=False)
        assert len(talk.got[stream_id]) == 200_000
        assert talk.taken[0].stream.blocked_at is None

    live(story)


def test_a_large_request_is_let_in_as_it_is_taken() -> None:
    async def story() -> None:
        talk = Talk()
        body = bytes(range(256)) * 20_000
        client = talk.client
        stream_id = client.get_next_available_stream_id()
        client.send_headers(stream_id, CALL)
        at = 0
        while at < len(body):
            window = client.local_flow_control_window(stream_id)
            size = min(window, client.max_outbound_frame_size, len(body) - at)
            # Padding counts against the windows too.
            padding = (
                7 if 99 < size < window - 8 and size < client.max_outbound_frame_size else None
            )
            client.send_data(stream_id, body[at : at + size], pad_length=padding)
            at += size
            await talk.pass_on()
        talk.client.end_stream(stream_id)
        await talk.pass_on()
        assert talk.taken[0].body == body
        assert len(talk.ended(h2.events.StreamEnded)) == 1

    live(story)


def test_more_than_a_window_allows_ends_the_connection() -> None:
    async def story() -> None:
        talk = Talk(None)
        talk.taken.clear()
        talk.client.send_headers(1, CALL)
        await talk.pass_on()
        talk.taken[0].take = lambda piece: None  # type: ignore[method-assign]
        for _ in range(5):
            talk.server.data_received(frame(http2.DATA, 0, 1, bytes(16_000)))
        await talk.pass_on()
        (end,) = talk.ended(h2.events.ConnectionTerminated)
        assert end.error_code == ErrorCodes.FLOW_CONTROL_ERROR
        assert talk.socket.is_closed

    live(story)


def test_a_stream_that_is_given_up_is_told_to_its_receiver_and_forgotten() -> None:
    async def story() -> None:
        talk = Talk(None)
        stream_id = talk.ask()
        await talk.pass_on()
        talk.client.reset_stream(stream_id, ErrorCodes.CANCEL)
        await talk.pass_on()
        assert talk.taken[0].is_gone
        talk.taken[0].stream.answer(HEAD, b"late", TRAILERS)
        talk.taken[0].stream.send(b"later")
        await talk.pass_on()
        assert talk.server.streams == {}
        assert talk.got == {}

    live(story)


def test_a_connection_that_is_lost_takes_its_streams_with_it() -> None:
    async def story() -> None:
        talk = Talk(None)
        for _ in range(3):
            talk.ask()
        await talk.pass_on()
        talk.server.connection_lost(None)
        assert all(one.is_gone for one in talk.taken)
        assert talk.all == set()

    live(story)


def test_an_answer_before_the_request_is_whole_ends_the_stream() -> None:
    async def story() -> None:
        talk = Talk(None)
        talk.client.send_headers(1, CALL)
        await talk.pass_on()
        talk.taken[0].stream.end(HEAD + TRAILERS)
        # What was under way meanwhile is passed over.
        talk.server.data_received(frame(http2.DATA, 0, 1, bytes(1000)))
        talk.server.data_received(frame(http2.WINDOW_UPDATE, 0, 1, bytes([0, 0, 0, 9])))
        await talk.pass_on()
        assert talk.taken[0].body == b""
        assert len(talk.ended(h2.events.StreamReset)) == 1
        assert not talk.socket.is_closed
        talk.client.close_connection()

    live(story)


def test_streams_at_once_have_a_limit() -> None:
    async def story() -> None:
        talk = Talk(None)
        await talk.pass_on()
        assert talk.client.remote_settings.max_concurrent_streams == http2.STREAM_LIMIT
        for number in range(http2.STREAM_LIMIT + 1):
            block = talk.client.encoder.encode(CALL)
            flags = http2.END_HEADERS | http2.END_STREAM
            talk.server.data_received(frame(http2.HEADERS, flags, 2 * number + 1, block))
        await asyncio.sleep(0)
        assert len(talk.taken) == http2.STREAM_LIMIT
        assert talk.socket.written.endswith(
            frame(http2.RST_STREAM, 0, 2 * http2.STREAM_LIMIT + 1, bytes([0, 0, 0, 7]))
        )

    live(story)


def test_a_farewell_takes_what_is_on_its_way_and_nothing_after() -> None:
    async def story() -> None:
        talk = Talk(None)
        talk.ask()
        await talk.pass_on()
        talk.server.say_farewell()
        late = frame(http2.HEADERS, 5, 3, talk.client.encoder.encode(CALL))
        talk.server.data_received(late)
        talk.server.leave()
        too_late = talk.client.encoder.encode(CALL)
        talk.server.data_received(frame(http2.HEADERS, http2.END_HEADERS, 5, too_late))
        talk.server.data_received(frame(http2.DATA, http2.END_STREAM, 5, b"x"))
        assert len(talk.taken) == 2
        for one in talk.taken:
            one.stream.answer(HEAD, b"\0\0\0\0\0", TRAILERS)
        assert not talk.socket.is_closed
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert talk.socket.is_closed
        assert frame(http2.GOAWAY, 0, 0, bytes([0, 0, 0, 3, 0, 0, 0, 0])) in talk.socket.written

    live(story)


def test_while_the_client_does_not_read_nothing_of_it_is_read() -> None:
    async def story() -> None:
        talk = Talk(bytes(1000))
        await talk.pass_on()
        talk.server.pause_writing()
        assert not talk.socket.is_reading
        assert talk.server.is_stuck
        talk.ask()
        await talk.pass_on()
        assert talk.got == {}
        talk.server.resume_writing()
        assert talk.socket.is_reading
        await talk.pass_on()
        assert talk.got == {1: bytes(1000)}

    live(story)


def test_a_ping_is_answered_and_unknown_kinds_are_passed_over() -> None:
    async def story() -> None:
        talk = Talk()
        talk.client.ping(b"abcdefgh")
        await talk.pass_on()
        talk.server.data_received(
            frame(99, 255, 7, b"later") + frame(http2.PRIORITY, 0, 1, bytes(5))
        )
        talk.ask()
        await talk.pass_on()
        assert [event.ping_data for event in talk.ended(h2.events.PingAckReceived)] == [b"abcdefgh"]
        assert len(talk.ended(h2.events.StreamEnded)) == 1

    live(story)


def test_headers_may_come_in_many_frames_but_not_without_end() -> None:
    async def story() -> None:
        talk = Talk()
        talk.client.send_headers(1, [*CALL, ("x-long", "y" * 14_000)], end_stream=False)
        whole = talk.client.data_to_send()
        block = talk.client.encoder.encode([*CALL, ("x-a", "b")])
        talk.server.data_received(whole)
        talk.server.data_received(frame(http2.HEADERS, http2.END_STREAM, 3, block[:4]))
        assert talk.server.is_halfway
        talk.server.data_received(frame(http2.CONTINUATION, 0, 3, block[4:7]))
        talk.server.data_received(frame(http2.CONTINUATION, http2.END_HEADERS, 3, block[7:]))
        assert talk.taken[1].headers[-1] == ("x-a", "b")
        talk.server.data_received(frame(http2.HEADERS, 0, 5, b""))
        for _ in range(40):
            if not talk.socket.is_closed:
                talk.server.data_received(frame(http2.CONTINUATION, 0, 5, b"\x82"))
        assert talk.socket.is_closed

    live(story)


def test_who_gives_up_call_after_call_is_left() -> None:
    async def story() -> None:
        talk = Talk(None)
        await talk.pass_on()
        for number in range(http2.GIVEN_UP_LIMIT + 2):
            if talk.socket.is_closed:
                break
            stream_id = 2 * number + 1
            block = talk.client.encoder.encode(CALL)
            talk.server.data_received(
                frame(http2.HEADERS, http2.END_HEADERS, stream_id, block)
                + frame(http2.RST_STREAM, 0, stream_id, bytes([0, 0, 0, 8]))
            )
        assert talk.socket.is_closed
        assert http2.NUMBER.pack(http2.ENHANCE_YOUR_CALM) in talk.socket.written

    live(story)


_BLOCK = b"".join([b"\x83\x86", b"\x04", value_of("/a.B/C")])
OPEN = frame(http2.HEADERS, http2.END_HEADERS, 1, _BLOCK)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", http2.PROTOCOL_ERROR),
        (PREFACE[:-2] + b"XX", http2.PROTOCOL_ERROR),
        (PREFACE + b"\xff\xff\xff\0\0\0\0\0\1", http2.FRAME_SIZE_ERROR),
        (PREFACE + frame(http2.HEADERS, 4, 2, _BLOCK), http2.PROTOCOL_ERROR),
        (PREFACE + frame(http2.HEADERS, 4, 0, _BLOCK), http2.PROTOCOL_ERROR),
        (PREFACE + frame(http2.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff"), http2.COMPRESSION_ERROR),
        (PREFACE + frame(http2.HEADERS, 0, 1, _BLOCK) + OPEN, http2.PROTOCOL_ERROR),
        (PREFACE + frame(http2.HEADERS, 0x24, 1, b"abc"), http2.FRAME_SIZE_ERROR),
        (PREFACE + frame(http2.HEADERS, 0x0C, 1, b"\x09ab"), http2.PROTOCOL_ERROR),
        (PREFACE + OPEN + OPEN, http2.PROTOCOL_ERROR),
        (PREFACE + frame(http2.CONTINUATION, 4, 1, b""), http2.PROTOCOL_ERROR),
        (PREFACE + frame(http2.DATA, 0, 0, b"x"), http2.PROTOCOL_ERROR),
        (PREFACE + frame(http2.DATA, 0, 1, b"x"), http2.PROTOCOL_ERROR),
        (PREFACE + OPEN + frame(http2.DATA, 8, 1, b"\x05x"), http2.PROTOCOL_ERROR),
        (PREFACE + OPEN + frame(http2.DATA, 1, 1) + frame(http2.DATA, 0, 1), http2.STREAM_CLOSED),
        (PREFACE + frame(http2.RST_STREAM, 0, 1, bytes(4)), http2.PROTOCOL_ERROR),
        (PREFACE + OPEN + frame(http2.RST_STREAM, 0, 1, b"x"), http2.FRAME_SIZE_ERROR),
        (PREFACE + frame(http2.SETTINGS, 0, 0, b"x"), http2.FRAME_SIZE_ERROR),
        (PREFACE + frame(http2.SETTINGS, 0, 1), http2.FRAME_SIZE_ERROR),
        (PREFACE + frame(http2.SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff"), http2.FLOW_CONTROL_ERROR),
        (PREFACE + frame(http2.SETTINGS, 0, 0, b"\0\5\0\0\0\1"), http2.PROTOCOL_ERROR),
        (PREFACE + frame(http2.PING, 0, 0, b"x"), http2.FRAME_SIZE_ERROR),
        (PREFACE + frame(http2.PUSH_PROMISE, 4, 1, bytes(4)), http2.PROTOCOL_ERROR),
        (PREFACE + frame(http2.WINDOW_UPDATE, 0, 0, bytes(4)), http2.PROTOCOL_ERROR),
        (PREFACE + frame(http2.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), http2.FLOW_CONTROL_ERROR),
        (PREFACE + frame(http2.WINDOW_UPDATE, 0, 9, b"\0\0\0\1"), http2.PROTOCOL_ERROR),
        (PREFACE + frame(http2.WINDOW_UPDATE, 0, 1, b"\0"), http2.FRAME_SIZE_ERROR),
    ],
)
def test_what_is_malformed_ends_the_connection_with_its_code(said: bytes, code: int) -> None:
    async def story() -> None:
        talk = Talk(None)
        talk.server.data_received(said)
        assert talk.socket.is_closed
        last = talk.socket.written.rindex(b"\x07\0\0\0\0\0")
        assert talk.socket.written[last + 10 : last + 14] == http2.NUMBER.pack(code)
        talk.server.connection_lost(None)
        assert talk.server.streams == {}

    live(story)


@pytest.mark.parametrize("more", [bytes(4), b"\x7f\xff\xff\xff"])
def test_a_window_that_is_none_ends_its_stream_alone(more: bytes) -> None:
    async def story() -> None:
        talk = Talk(None)
        talk.server.data_received(PREFACE + OPEN + frame(http2.WINDOW_UPDATE, 0, 1, more))
        assert talk.taken[0].is_gone
        assert not talk.socket.is_closed

    live(story)


kinds = st.integers(0, 10)
noise = st.lists(
    st.builds(
        frame,
        kinds,
        st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x2D, 255]),
        st.integers(0, 7),
        st.binary(max_size=20),
    )  # fmt: skip
    | st.just(OPEN)
    | st.binary(max_size=12),
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(noise)
def test_noise_is_understood_or_ends_the_connection(pieces: list[bytes]) -> None:
    async def story() -> None:
        talk = Talk(b"answer")
        talk.server.data_received(PREFACE)
        for piece in pieces:
            if not talk.socket.is_closed:
                talk.server.data_received(piece)
        await asyncio.sleep(0)
        talk.server.connection_lost(None)
        assert talk.server.streams == {}

    live(story)
