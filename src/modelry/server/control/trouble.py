"""Whose trouble an error is: that of everything, or of the one job or deployment that was looked at."""

from __future__ import annotations

from modelry.core.errors import (
    ComputeUnavailable,
    InternalError,
    ModelryError,
    StaleEpoch,
    StoreUnavailable,
    to_wire,
)

#: Nothing can be done for anybody just now: the round ends, and the next one begins anew.
EVERYBODYS = (StaleEpoch, StoreUnavailable, ComputeUnavailable)


def as_known(error: Exception) -> ModelryError:
    """The error with a code and a sentence; what nobody foresaw is a bug, and the log has its traceback."""
    if isinstance(error, ModelryError):
        return error
    return InternalError(reason=repr(error), request_id="of the log")


def as_failure(error: ModelryError) -> dict[str, object]:
    """What the row of a job, a replica or a deployment says of the error."""
    return {**to_wire(error), "detail": ""}
