"""JSON from the service to records and errors. Knows the shapes, opens no connection."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from modelry.core.errors import InternalError, ModelryError, from_wire

Record = TypeVar("Record")

_encoder = msgspec.json.Encoder()


def encode(body: Any) -> bytes:
    """A request's body as JSON."""
    return _encoder.encode(body)


def decode(content: bytes) -> Any:
    """An answer's body as plain values; something else than JSON is not from a Modelry service."""
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:
        raise InternalError(
            "The answer is not JSON.",
            remedy="Is this address really a Modelry service? A proxy may have answered in its place.",
        ) from None


def to_record(cls: type[Record], value: Any) -> Record:
    """A core record; fields that a later service adds are passed over."""
    try:
        return msgspec.convert(value, cls, strict=False)
    except msgspec.ValidationError as error:
        raise InternalError(
            f"The service answered something that is no {cls.__name__}: {error}.",
            remedy="Client and service may have different versions; `modelry status` tells both.",
        ) from None


def to_records(cls: type[Record], value: Any) -> list[Record]:
    """A list of core records."""
    return [to_record(cls, item) for item in value]


def to_error(status: int, content: bytes, request_id: str | None) -> ModelryError:
    """The error an answer describes, rebuilt in its own class."""
    try:
        body = msgspec.json.decode(content)["error"]
    except (msgspec.DecodeError, KeyError, TypeError):
        body = None
    if isinstance(body, dict):
        error = from_wire(body)
    else:
        said = body if isinstance(body, str) else content[:200].decode(errors="replace").strip()
        error = InternalError(
            f"The service answered with status {status}: {said or 'nothing more'}.",
            remedy="Look at the service's logs, or at the proxy between.",
        )
    if request_id:
        error.facts["request_id"] = request_id
    return error
