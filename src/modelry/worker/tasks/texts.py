"""The texts of a call: one or several, some tasks in pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from modelry.core.errors import InvalidInput

Item = TypeVar("Item")

Pair = tuple[str, str | None]

#: Characters that one call may have read, all its texts together: some seconds of work.
MOST_LETTERS = 2_000_000


def one_or_many(inputs: Any, read: Callable[[Any], Item]) -> tuple[list[Item], bool]:
    """The call's inputs, and whether they came as a list; raises what `read` raises."""
    if isinstance(inputs, list):
        if not inputs:
            raise InvalidInput(reason="the list of inputs is empty", expected="a text at least")
        items = [read(item) for item in inputs]
        check_letters(sum(_letters(item) for item in items))
        return items, True
    return [read(inputs)], False


def check_letters(count: int) -> None:
    """Raises `InvalidInput` for a call that would keep its model's other callers waiting for its reading alone."""
    if count > MOST_LETTERS:
        raise InvalidInput(
            reason=f"{count} characters are to be read for it", expected=f"at most {MOST_LETTERS}"
        )


def read_text(value: Any) -> str:
    """A text; raises `InvalidInput`."""
    if not isinstance(value, str):
        raise InvalidInput(
            reason=f"'inputs' holds {_kind(value)}", expected="a text or a list of texts"
        )
    return value


def read_pair(value: Any) -> Pair:
    """A text, or two as `{"text", "text_pair"}`; raises `InvalidInput`."""
    if isinstance(value, dict) and set(value) in ({"text"}, {"text", "text_pair"}):
        pair = value.get("text_pair")
        return read_text(value["text"]), None if pair is None else read_text(pair)
    return read_text(value), None


def read_fields(value: Any, names: tuple[str, ...]) -> list[Any]:
    """An object's fields in this order; raises `InvalidInput` unless it has exactly these."""
    if not isinstance(value, dict) or set(value) != set(names):
        found = f"an object with {sorted(value)}" if isinstance(value, dict) else _kind(value)
        expected = "an object with " + " and ".join(f"'{name}'" for name in names)
        raise InvalidInput(reason=f"'inputs' is {found}", expected=expected)
    return [value[name] for name in names]


def _letters(item: Any) -> int:
    parts = item if isinstance(item, tuple) else (item,)
    return sum(len(part) for part in parts if part)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool() | int() | float():
            return "a number"
        case list():
            return "a list"
        case dict():
            return "an object"
    return f"{type(value).__name__}"
