"""What a door of the inference path is: pure translation between one protocol and the gateway's calls.

A door knows no limits, no versions and no replicas. Two callers use it in the same way: the ASGI application and
the protocol class that takes inference requests before ASGI.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from modelry.core.errors import ModelryError
from modelry.core.frames import Op
from modelry.core.manifests import ModelManifest
from modelry.server.gateway import Reply

#: The manifest of a deployment: by its name and the pinned version (a number, an alias, or None).
#: Raises `NotFound` or `NoReadyReplica`.
Find = Callable[[str, "int | str | None"], ModelManifest]


class Target(msgspec.Struct, frozen=True):
    """What a path says."""

    #: The deployment; "" where the body names it.
    name: str
    #: A version's number, or an alias; None where the path pins none.
    version: int | str | None = None
    #: The task that the path asks for; "" where it says none.
    task: str = ""


class Head(msgspec.Struct, frozen=True):
    """A request without its body."""

    target: Target
    #: As sent, without the question mark.
    query: str
    #: Names in small letters; the last of a repeated one.
    headers: Mapping[str, str]


class Answer(msgspec.Struct, frozen=True):
    """What the client gets beside the headers that every answer has."""

    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


class Call(msgspec.Struct, frozen=True):
    """A decoded request: what the gateway is asked, and how its reply is written down."""

    name: str
    version: int | str | None
    payload: bytes
    #: How many rows it counts as, for limits and usage.
    rows: int
    #: Raises `ModelryError` where the reply cannot be said in this protocol.
    encode: Callable[[Reply], Answer]
    op: Op = Op.PREDICT


class Refusal(msgspec.Struct, frozen=True):
    """An error in the protocol's own shape; the status and the common headers come from the error itself."""

    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


class Door(Protocol):
    """One inference call of one protocol; always a POST."""

    @property
    def paths(self) -> tuple[str, ...]:
        """What `match` takes, as templates for the reference: `/v1/models/{name}:predict`."""

    @property
    def compresses(self) -> bool:
        """Whether the protocol's clients expect `accept-encoding` (gzip, deflate) to be followed."""

    def match(self, path: str) -> Target | None:
        """What the path (percent-decoded) names; None if it is not this door's. Raises `InvalidRequest`."""

    def decode(self, head: Head, body: bytes, find: Find) -> Call:
        """The call; raises what `find` raises, or any `BadInput`. A body's `content-encoding` is undone before."""

    def encode_error(self, error: ModelryError) -> Refusal:
        """The error's body."""
