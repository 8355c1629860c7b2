"""`/api/v1/keys` and `/api/v1/whoami`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from modelry.core.records import Key, KeyLimits
from modelry.server.api.auth import Call, guarded_router, needs
from modelry.server.api.bodies import Body
from modelry.server.control import access

router = guarded_router()


@dataclass(frozen=True, slots=True)
class KeyWithText:
    """A new key; its text is shown this once and stored nowhere."""

    key: Key
    text: str


class Limits(Body):
    """What a key may use; no value means no limit."""

    requests_per_s: float | None = Field(default=None, description="Requests a second.")
    rows_per_s: float | None = Field(default=None, description="Rows (inputs) a second.")
    burst_s: float | None = Field(
        default=None, description="Seconds' worth that may come at once; 1 if not given."
    )
    requests_per_month: int | None = Field(
        default=None, description="Requests in a calendar month (UTC)."
    )
    rows_per_month: int | None = Field(default=None, description="Rows in a calendar month (UTC).")


class NewKey(Body):
    """A key to make."""

    label: str = Field(description="For people: whose key this is.")
    scopes: list[str] = Field(description="What it may do: train, run, deploy, infer, read; admin.")
    project: str | None = Field(
        default=None, description="Its project; none makes an instance key, which must be admin."
    )
    expires_in_s: float | None = Field(default=None, description="Seconds of life; none: no end.")
    limits: Limits = Field(default=Limits(), description="What it may use; nothing: no limits.")


class Rotation(Body):
    """How a key is followed by another."""

    overlap_s: float = Field(
        default=0.0, ge=0, description="Seconds for which the old key still works."
    )


@router.get("/api/v1/whoami")
def whoami(call: Annotated[Call, needs("read")]) -> Key:
    """The key of this call."""
    return call.key


@router.get("/api/v1/keys")
def list_keys(call: Annotated[Call, needs("admin")], project: str | None = None) -> list[Key]:
    """Every key without its secret, or those of one project."""
    return access.list_keys(call.service.store, project)


@router.post("/api/v1/keys", status_code=201)
def create_key(call: Annotated[Call, needs("admin")], body: NewKey) -> KeyWithText:
    """A new key with its text."""
    return KeyWithText(
        *access.create_key(
            call.service.store,
            call.service.pepper,
            label=body.label,
            scopes=tuple(body.scopes),
            project=body.project,
            expires_in_s=body.expires_in_s,
            limits=KeyLimits(**body.limits.model_dump(exclude_none=True)),
        )
    )


@router.patch("/api/v1/keys/{key_id}/limits")
def limit_key(call: Annotated[Call, needs("admin")], key_id: str, body: Limits) -> Key:
    """Changes the limits that are given; null takes one away. The key with its limits."""
    return access.limit_key(call.service.store, key_id, body.model_dump(exclude_unset=True))


@router.post("/api/v1/keys/{key_id}/rotate", status_code=201)
def rotate_key(
    call: Annotated[Call, needs("admin")], key_id: str, body: Rotation | None = None
) -> KeyWithText:
    """A key with the same rights; the old one ends now or after the overlap."""
    overlap_s = body.overlap_s if body else 0.0
    return KeyWithText(
        *access.rotate_key(call.service.store, call.service.pepper, key_id, overlap_s)
    )


@router.delete("/api/v1/keys/{key_id}", status_code=204)
def revoke_key(call: Annotated[Call, needs("admin")], key_id: str) -> None:
    """Ends a key; it stops everywhere within two seconds."""
    access.revoke_key(call.service.store, key_id)
