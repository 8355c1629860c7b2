"""What every request body shares: unknown fields are refused, and numbers are numbers, not words."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

#: The largest count or number of a call; every database holds it.
LARGEST = 2**31 - 1


class Body(BaseModel):
    """A JSON body; nothing in it is accepted and ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
