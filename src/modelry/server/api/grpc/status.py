"""Errors as gRPC tells them: a status code, one line of text, and trailing metadata for programs."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from modelry.core.errors import ModelryError
from modelry.server.api.errors import error_headers, status_of


class Code(IntEnum):
    """gRPC's codes, as far as they are used here."""

    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


#: HTTP status, which every error has → gRPC's code.
CODE_OF_STATUS: Mapping[int, Code] = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    405: Code.UNIMPLEMENTED,
    408: Code.DEADLINE_EXCEEDED,
    409: Code.FAILED_PRECONDITION,
    413: Code.RESOURCE_EXHAUSTED,
    415: Code.INVALID_ARGUMENT,
    422: Code.INVALID_ARGUMENT,
    429: Code.RESOURCE_EXHAUSTED,
    500: Code.INTERNAL,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
    507: Code.UNAVAILABLE,
}
#: Bytes of a status text at most: clients take 8 KiB of trailing metadata, and each may become three on the wire.
LONGEST_TEXT_BYTES = 2000

Metadata = tuple[tuple[str, str], ...]


def code_of(error: ModelryError) -> Code:
    """The error's gRPC code."""
    return CODE_OF_STATUS.get(status_of(error), Code.INTERNAL)


def text_of(error: ModelryError) -> str:
    """What happened and what to do next, cut to what fits into metadata."""
    return str(error).encode()[:LONGEST_TEXT_BYTES].decode(errors="ignore")


def metadata_of(error: ModelryError) -> Metadata:
    """`x-modelry-error` with the stable code, and `retry-after` (seconds) where trying again can help."""
    headers = error_headers(error)
    wait = (("retry-after", headers["retry-after"]),) if "retry-after" in headers else ()
    return (("x-modelry-error", error.code), *wait)
