"""One inference request between its head and its answer: what both callers of the doors share, so they cannot differ.

    head ──Head──► door.decode(body) ──Call──► gateway ──Reply──► call.encode ──Outgoing──► the client

Knows HTTP's words and no socket.
"""

from __future__ import annotations

import gzip
import logging
import re
import zlib
from collections.abc import Iterable
from typing import NamedTuple

from modelry.core.errors import (
    BodyTooLarge,
    InternalError,
    InvalidRequest,
    ModelryError,
    UnsupportedMedia,
)
from modelry.server.api.doors.door import Call, Door, Find, Head
from modelry.server.api.errors import error_headers, status_of
from modelry.server.gateway import Reply

log = logging.getLogger(__name__)

#: The scope that all inference calls need.
SCOPE = "infer"
#: From this size on a body is decoded beside the event loop.
LARGE_BODY_BYTES = 1 << 20
#: The longest deadline that a client may ask for, seconds.
LONGEST_DEADLINE_S = 3600.0
#: Smaller answers are sent as they are.
COMPRESSED_FROM_BYTES = 1024
_NOT_IN_HEADERS = re.compile(r"[^\x20-\x7e\xa0-\xff]")
#: Quick rather than thorough.
_LEVEL = 1


class Outgoing(NamedTuple):
    """An answer, ready to be written."""

    status: int
    body: bytes
    #: Its own header lines, each with its end; what every answer has besides comes on top.
    head: str


def read_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers as they came (names in small letters already); the last of a repeated one."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in raw}


def read_deadline(text: str | None) -> float | None:
    """The seconds of `x-request-timeout`; raises `InvalidRequest`."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST_DEADLINE_S:
        raise InvalidRequest(
            reason=f"x-request-timeout must be seconds, more than 0 and at most {LONGEST_DEADLINE_S:g}"
        )
    return seconds


def decode(door: Door, head: Head, body: bytes, find: Find) -> Call:
    """The call; whatever a door raises that is no error of ours becomes one."""
    try:
        return door.decode(head, body, find)
    except ModelryError:
        raise
    except Exception as error:
        raise _broken(error, head) from error


def answer(door: Door, request: Head, call: Call, outcome: Reply | ModelryError) -> Outgoing:
    """What the client gets."""
    if isinstance(outcome, ModelryError):
        return refuse(door, outcome)
    try:
        said = call.encode(outcome)
    except ModelryError as error:
        return refuse(door, error)
    except Exception as error:
        return refuse(door, _broken(error, request))
    stats = outcome.stats
    head = (
        f"content-type: {said.content_type}\r\n"
        f"x-model-version: {outcome.version}\r\n"
        f"x-queue-time: {stats.queue_us / 1e6:.6f}\r\n"
        f"x-inference-time: {stats.inference_us / 1e6:.6f}\r\n"
        f"x-batch-rows: {stats.batch_rows}\r\n"
    )
    if said.headers:
        head += _lines(said.headers)
    if door.compresses and len(said.body) >= COMPRESSED_FROM_BYTES:
        return _compressed(said.body, head, request.headers.get("accept-encoding", ""))
    return Outgoing(200, said.body, head)


def refuse(door: Door, error: ModelryError) -> Outgoing:
    """An error in the door's shape."""
    refusal = door.encode_error(error)
    headers = (
        ("content-type", refusal.content_type),
        *error_headers(error).items(),
        *refusal.headers,
    )
    return Outgoing(status_of(error), refusal.body, _lines(headers))


def _lines(headers: Iterable[tuple[str, str]]) -> str:
    """Header lines; what no header may hold is replaced."""
    return "".join([f"{name}: {_NOT_IN_HEADERS.sub('?', value)}\r\n" for name, value in headers])


def undo(body: bytes, encoding: str, limit: int) -> bytes:
    """The body as it was before its `content-encoding`; raises `UnsupportedMedia`, `InvalidRequest`, `BodyTooLarge`."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in ("gzip", "x-gzip", "deflate"):
        raise UnsupportedMedia(
            f"A body in the content encoding '{encoding}' is not taken here.",
            remedy="Send it in gzip or deflate, or as it is.",
        )
    try:
        if name == "deflate" and not _has_zlib_head(body):
            return _inflate(body, -zlib.MAX_WBITS, limit)
        return _inflate(body, zlib.MAX_WBITS if name == "deflate" else zlib.MAX_WBITS | 16, limit)
    except zlib.error as error:
        raise InvalidRequest(reason=f"the body is not {name} ({error})") from None


def too_large(limit_bytes: int) -> BodyTooLarge:
    """The refusal of a body beyond the setting."""
    return BodyTooLarge(limit_bytes=limit_bytes, setting="MODELRY_MAX_BODY_BYTES")


def _inflate(body: bytes, window: int, limit: int) -> bytes:
    """Never makes more bytes than the limit and one, however small the body."""
    parts: list[bytes] = []
    left, rest = limit + 1, body
    while rest and left > 0:
        stream = zlib.decompressobj(window)
        parts.append(stream.decompress(rest, left))
        left -= len(parts[-1])
        if left > 0 and not stream.eof:
            raise zlib.error("it is cut off")
        # A gzip body may be several, one behind the other.
        rest = stream.unused_data
    if left <= 0:
        raise too_large(limit)
    return b"".join(parts)


def _has_zlib_head(body: bytes) -> bool:
    """Some clients send deflate as the standard says, with zlib's head, and some without."""
    return len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2]) % 31 == 0


def _compressed(body: bytes, head: str, accepted: str) -> Outgoing:
    encoding = choose_encoding(accepted)
    if encoding == "gzip":
        body = gzip.compress(body, _LEVEL, mtime=0)
    elif encoding == "deflate":
        body = zlib.compress(body, _LEVEL)
    else:
        return Outgoing(200, body, head)
    return Outgoing(200, body, f"{head}content-encoding: {encoding}\r\nvary: accept-encoding\r\n")


def choose_encoding(accepted: str) -> str:
    """gzip or deflate, whichever `accept-encoding` likes better; "" for neither."""
    likings: dict[str, float] = {}
    for part in accepted.lower().split(","):
        name, _, parameter = part.partition(";")
        quality = parameter.strip().removeprefix("q=")
        try:
            likings[name.strip()] = float(quality) if quality else 1.0
        except ValueError:
            likings[name.strip()] = 0.0
    best = max(("gzip", "deflate"), key=lambda name: likings.get(name, 0.0))
    return best if likings.get(best, 0.0) > 0 else ""


def _broken(error: Exception, head: Head) -> InternalError:
    log.exception("inference broke deployment=%s", head.target.name)
    return InternalError(reason=type(error).__name__, request_id="of this answer")
