"""A call's parameters as a task's own struct: what it does not know is refused, never ignored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from modelry.core.errors import InvalidParameter, UnknownParameter

Struct = TypeVar("Struct", bound=msgspec.Struct)

#: A count of at least one.
Count = Annotated[int, msgspec.Meta(ge=1)]
#: What turns a model's outputs into scores.
Function = Literal["none", "softmax", "sigmoid"]

_PLACE = re.compile(r" - at `\$\.(\w+)[^`]*`$")


class NoParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a task that takes none."""


def read_parameters(kind: type[Struct], given: Mapping[str, Any], task: str) -> Struct:
    """The parameters as `kind`; None counts as not given. Raises `UnknownParameter` and `InvalidParameter`."""
    present = {name: value for name, value in given.items() if value is not None}
    known = kind.__struct_fields__
    for name in present:
        if name not in known:
            raise UnknownParameter(
                owner=f"The task {task}", name=name, known=", ".join(known) or "none"
            )
    try:
        return msgspec.convert(present, kind)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), present) from None


def _invalid(message: str, given: Mapping[str, Any]) -> InvalidParameter:
    """msgspec's words with the parameter's name at the front."""
    place = _PLACE.search(message)
    if place is None:
        return InvalidParameter(message=f"A parameter is missing or malformed: {message}.")
    reason = message[: place.start()].replace("`", "'")
    return InvalidParameter(
        name=place[1], value=given.get(place[1]), expected=f"another value ({reason})"
    )
