"""JSON that comes with models: bounded before it is parsed, and searched for what would have to run code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from modelry.worker.models.importing.base import EXPORT_TO_ONNX, refuse

#: Real tokenizers of a quarter of a million tokens take about 20 MB.
MAX_JSON_BYTES = 64 << 20
MAX_VALUES = 8_000_000
#: Keys that name Python code beside the weights.
_CODE_KEYS = ("auto_map", "custom_pipelines", "trust_remote_code")
#: Text that a tokenizer's replacements make of one letter, at most.
_MAX_GROWTH = 64
_MAX_PATTERN = 10_000
_MAX_LENGTH = 1 << 20


def read_json(name: str, file: Path) -> Any:
    """The value; raises `UnsafeFile` for what is no JSON, or is JSON that only breaks readers."""
    if file.stat().st_size > MAX_JSON_BYTES:
        raise refuse(name, f"it is JSON of more than {MAX_JSON_BYTES >> 20} MiB")
    try:
        return msgspec.json.decode(file.read_bytes())
    except RecursionError:
        raise refuse(name, "its values are nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise refuse(name, f"it is no JSON ({error})", "Mend or remove this file.") from None


def read_unique_json(name: str, data: bytes, remedy: str) -> Any:
    """The same for headers whose keys must differ: readers disagree on which of two equal keys counts."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise refuse(name, "its header has the same key twice", remedy)
        return found

    try:
        return json.loads(data, object_pairs_hook=unique)
    except RecursionError:
        raise refuse(name, "its header is nested too deeply", remedy) from None
    except ValueError as error:
        raise refuse(name, f"its header is no JSON ({error})", remedy) from None


def check_json(name: str, value: Any) -> None:
    """Raises `UnsafeFile` where a configuration asks for code of its own, or a tokenizer would eat the memory."""
    for key, _ in walk(name, value):
        if key in _CODE_KEYS:
            raise refuse(
                name,
                f"it has '{key}': the model needs Python code that comes with it, and such code is never run",
            )
    if isinstance(value, dict) and "model" in value and "pre_tokenizer" in value:
        _check_tokenizer(name, value)


def walk(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every key and its value at any depth; raises `UnsafeFile` for too many. Needs no recursion."""
    todo, seen = [value], 0
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            yield from item.items()
        inner = item.values() if isinstance(item, dict) else item
        seen += len(inner) if isinstance(item, dict | list) else 0
        if seen > MAX_VALUES:
            raise refuse(name, f"it holds more than {MAX_VALUES} values")
        if isinstance(item, dict | list):
            todo += [each for each in inner if isinstance(each, dict | list)]


def _check_tokenizer(name: str, tokenizer: dict[str, Any]) -> None:
    growth = 1.0
    for key in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        for inner_key, inner in walk(name, {key: tokenizer.get(key)}):
            if inner_key == "pattern":
                _check_pattern(name, inner)
    for _, part in walk(name, {"normalizer": tokenizer.get("normalizer")}):
        for step in part if isinstance(part, list) else [part]:
            growth *= _growth(step)
    if growth > _MAX_GROWTH:
        raise refuse(name, "its normalizer makes texts many times longer", _TOKENIZER)
    for key in ("truncation", "padding"):
        for inner_key, inner in walk(name, {key: tokenizer.get(key)}):
            is_length = inner_key in ("max_length", "Fixed", "pad_to_multiple_of", "stride")
            if is_length and (not isinstance(inner, int | None) or (inner or 0) > _MAX_LENGTH):
                raise refuse(name, f"its {key} has a length of {inner}", _TOKENIZER)


_TOKENIZER = f"Save the tokenizer anew with the `tokenizers` library. {EXPORT_TO_ONNX}"


def _check_pattern(name: str, pattern: Any) -> None:
    text = next(iter(pattern.values()), "") if isinstance(pattern, dict) else pattern
    if isinstance(text, str) and len(text) > _MAX_PATTERN:
        raise refuse(name, f"it has a pattern of {len(text)} letters", _TOKENIZER)


def _growth(step: Any) -> float:
    """How much longer one step of a normalizer can make a text."""
    if not isinstance(step, dict) or step.get("type") not in ("Replace", "Append", "Prepend"):
        return 1.0
    if step["type"] != "Replace":
        text = step.get("append") or step.get("prepend") or ""
        return 1.0 + len(str(text)) / 100
    pattern = step.get("pattern")
    found = pattern.get("String") if isinstance(pattern, dict) else None
    shortest = max(len(found), 1) if isinstance(found, str) else 1
    return max(1.0, len(str(step.get("content", ""))) / shortest)
