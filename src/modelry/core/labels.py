"""Files with the names of classes: one a line, or JSON (a list, or index → name as in Hugging Face's `id2label`)."""

from __future__ import annotations

from typing import Any

import msgspec

from modelry.core.errors import InvalidData

MAX_LABELS = 100_000
#: Letters of one label.
MAX_LETTERS = 500
MAX_BYTES = 16 << 20


def read_labels(name: str, data: bytes) -> list[str]:
    """The labels in the order of the model's output; raises `InvalidData` with the file's name."""
    if len(data) > MAX_BYTES:
        raise InvalidData(file=name, reason="it is too large for a list of labels")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidData(file=name, reason="it is not UTF-8 text") from None
    found = _from_json(name, text) if name.lower().endswith(".json") else _from_lines(text)
    return check_labels(name, found)


def check_labels(name: str, labels: list[Any]) -> list[str]:
    """The list if it can name classes; raises `InvalidData`."""
    if not labels or len(labels) > MAX_LABELS:
        raise InvalidData(
            file=name, reason=f"it has {len(labels)} labels; 1 to {MAX_LABELS} are known"
        )
    for number, label in enumerate(labels):
        if not isinstance(label, str) or not label or len(label) > MAX_LETTERS:
            raise InvalidData(
                file=name, reason=f"label {number} is no text of 1 to {MAX_LETTERS} letters"
            )
        if not label.isprintable():
            raise InvalidData(file=name, reason=f"label {number} has unprintable characters")
    return labels


def _from_lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _from_json(name: str, text: str) -> list[Any]:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidData(file=name, reason=f"it is no JSON ({error})") from None
    if isinstance(value, dict) and isinstance(value.get("id2label"), dict):
        value = value["id2label"]
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return _in_order(name, value)
    raise InvalidData(file=name, reason="it is neither a list nor index → name")


def _in_order(name: str, named: dict[str, Any]) -> list[Any]:
    """`{"0": "cat", "1": "dog"}` as a list; every index from 0 must be there."""
    try:
        by_index = {int(index): label for index, label in named.items()}
    except ValueError:
        raise InvalidData(file=name, reason="its keys are not the indices 0, 1, 2, …") from None
    if sorted(by_index) != list(range(len(named))):
        raise InvalidData(file=name, reason="its indices are not 0, 1, 2, … without a gap")
    return [by_index[index] for index in range(len(by_index))]
