"""What a `tokenizer.json` from a stranger may hold. Knows the file's format, not the library.

The library only ever reads it as data, but two kinds of file would still hurt: one that is too large, and one whose
normalisers make a text longer and longer until the memory is gone.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from typing import Any

import msgspec

#: The largest vocabularies in use (256,000 tokens with their merges) take half of it.
MAX_BYTES = 64 << 20
#: How many times longer than it came a text may become before it is cut into tokens.
_MOST_GROWTH = 128
#: Steps of one kind, one after the other.
_MOST_STEPS = 64
_PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")


def complaint(data: bytes) -> str | None:
    """What is wrong with the file, as the end of a sentence; None where nothing is."""
    if len(data) > MAX_BYTES:
        return f"is over {MAX_BYTES >> 20} MiB"
    try:
        content = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "is not JSON"
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        return "is no tokenizer"
    for part in _PARTS:
        steps = list(_steps(content.get(part)))
        if len(steps) > _MOST_STEPS:
            return f"has {len(steps)} steps in its {part}"
        growth = 1.0
        for step in steps:
            growth *= _growth(step)
        if growth > _MOST_GROWTH:
            return f"lets its {part} make texts {growth:.0f} times as long"
    return None


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    """The part's steps, sequences of them opened."""
    todo = [part]
    while todo:
        step = todo.pop()
        if isinstance(step, dict):
            yield step
            for value in step.values():
                todo.extend(value if isinstance(value, list) else ())


def _growth(step: dict[str, Any]) -> float:
    """How many times longer the step can make a text."""
    if step.get("type") == "Precompiled":
        return _growth_of_map(step.get("precompiled_charsmap"))
    if step.get("type") in ("Prepend", "Append"):
        # Once for each part of the text, not for each letter.
        return 1.0 + len(str(step.get("prepend") or step.get("append") or "")) / 100
    text = step.get("content")
    if step.get("type") != "Replace" or not isinstance(text, str):
        return 1.0
    pattern = step.get("pattern")
    replaced = pattern.get("String") if isinstance(pattern, dict) else None
    if isinstance(replaced, str) and replaced:
        return max(1.0, len(text) / len(replaced))
    # A regular expression can match single letters, and nothing between them.
    return max(1.0, 2.0 * len(text))


def _growth_of_map(encoded: Any) -> float:
    """The longest replacement in SentencePiece's table: a search tree's size, the tree, then texts that end in 0."""
    try:
        table = binascii.a2b_base64(encoded)
    except (binascii.Error, TypeError, ValueError):
        return 1.0
    texts = table[4 + int.from_bytes(table[:4], "little") :]
    return float(max((len(text) for text in texts.split(b"\0")), default=1)) or 1.0
