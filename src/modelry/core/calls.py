"""What travels inside a frame for the ops beside `predict`: calls and answers in the words of a task.

`predict` speaks tensors (`core/tensors.py`); these speak text, labels and spans. Plain values only, as msgpack.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from modelry.core.errors import InvalidInput


class TaskCall(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a task, in Hugging Face's words."""

    #: The task's own: a text, several, `{"question", "context"}`, …; None where `media` has it.
    inputs: Any = None
    #: `top_k`, `candidate_labels`, …; the task refuses those it does not know.
    parameters: dict[str, Any] = {}
    #: Encoded image or audio.
    media: bytes = b""
    #: Its type, such as `image/png`; "" where the caller did not say.
    media_type: str = ""


class TaskAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: a value in Hugging Face's shape, or an array of embeddings."""

    #: `[{"label", "score"}]`, `{"answer", "score", "start", "end"}`, …; None where `array` has it.
    value: Any = None
    #: float32, little-endian, row-major.
    array: bytes = b""
    shape: list[int] = []
    #: Tokens that were read; 0 where the task has none.
    tokens: int = 0


class ExplainCall(msgspec.Struct, frozen=True, kw_only=True):
    """Why did the model answer so? One row, or one image."""

    #: `occlusion` or `kernel-shap`; "" lets the model's kind of input decide.
    method: str = ""
    #: The method's own settings, such as `{"window": 4}`.
    parameters: dict[str, Any] = {}
    #: Whose score is explained; None: the best one.
    label: str | None = None
    #: A payload (`encode_payload`) with exactly one row or one medium.
    payload: bytes = b""


class ExplainAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What each part of the input gave to the score."""

    method: str
    #: The class that is explained: its label (or its index as text) and its score for this input.
    label: str
    score: float
    #: The score of the baseline, in which every part is absent.
    base: float
    #: float32 bytes, little-endian: one number for each pixel (height × width) or column.
    attributions: bytes
    shape: list[int]
    #: The columns' names, for tables.
    columns: list[str] = []
    #: |sum of attributions - (score - base)|: 0 means that nothing is left unexplained.
    residual: float = 0.0
    #: How often the model was asked.
    evaluations: int = 0
    #: The method's settings as they were used.
    parameters: dict[str, Any] = {}


Struct = TypeVar("Struct", TaskCall, TaskAnswer, ExplainCall, ExplainAnswer)


def pack(call: TaskCall | TaskAnswer | ExplainCall | ExplainAnswer) -> bytes:
    """The bytes of a call or an answer; raises `InvalidInput` for values that no message carries."""
    try:
        return msgspec.msgpack.encode(call)
    except (TypeError, OverflowError, RecursionError) as error:
        raise InvalidInput(
            reason=f"it cannot be carried ({error})", expected="plain values"
        ) from None


def unpack(data: bytes | memoryview, kind: type[Struct]) -> Struct:
    """The call or the answer; raises `InvalidInput` where the bytes are none."""
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput(
            reason=f"the call is malformed ({error})", expected=f"a {kind.__name__}"
        ) from None
