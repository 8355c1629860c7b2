"""`feature-extraction`: texts → embeddings.

The answer is an array, texts × size. With `pooling: "none"` every token keeps its vector: tokens × size for each
text, as nested lists, because texts differ in length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from modelry.core.calls import TaskAnswer, TaskCall, pack
from modelry.core.errors import InvalidParameter
from modelry.core.manifests import ModelManifest, TextInput
from modelry.core.tensors import Array
from modelry.worker.tasks.opened import Opened
from modelry.worker.tasks.opening import TaskModel
from modelry.worker.tasks.parameters import Count, read_parameters
from modelry.worker.tasks.texts import one_or_many, read_text
from modelry.worker.tasks.tokens import Tokens, tokenizer_of

Pooling = Literal["none", "mean", "cls", "max"]


class FeatureParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the task takes; what is not given is as the model was made."""

    #: Whether vectors get the length 1.
    normalize: bool | None = None
    #: False: a text that is too long is refused instead of cut.
    truncate: bool = True
    truncation_direction: Literal["right", "Right"] = "right"
    #: One of the prompts the model came with, put before each text.
    prompt_name: str | None = None
    pooling: Pooling | None = None
    #: Must be the model's own size: a shorter vector is a different model's.
    dimensions: Count | None = None


def open_call(call: TaskCall, model: TaskModel) -> Opened:
    """Raises `BadInput`."""
    given = read_parameters(FeatureParameters, call.parameters, "feature extraction")
    _check_dimensions(given.dimensions, model.manifest)
    texts, _ = one_or_many(call.inputs, read_text)
    tokens = tokenizer_of(model)
    prompt = prompt_of(tokens.media, given.prompt_name)
    cut: Literal["longest_first"] | None = "longest_first" if given.truncate else None
    encodings = [tokens.encode(prompt + text, cut=cut)[0] for text in texts]
    lengths = [len(encoding.ids) for encoding in encodings]
    pooling: Pooling = given.pooling or tokens.media.options.get("pooling", "mean")
    is_normal = tokens.media.options.get("normalize", False)
    is_normal = is_normal if given.normalize is None else given.normalize

    def finish(outputs: dict[str, Array]) -> bytes:
        states = outputs[model.manifest.outputs[0].name]
        if pooling == "none":
            rows = [
                normal(row[:length], is_normal) for row, length in zip(states, lengths, strict=True)
            ]
            value: list[Any] = [row.tolist() for row in rows]
            return pack(TaskAnswer(value=value, tokens=sum(lengths)))
        return _array(normal(pool(states, lengths, pooling), is_normal), sum(lengths))

    return Opened(tokens.rows(encodings), finish)


def embed(tokens: Tokens, texts: Sequence[str]) -> tuple[dict[str, Array], list[int]]:
    """Rows for texts, with the prompt the model puts before each by itself, and their lengths in tokens."""
    prompt = prompt_of(tokens.media, None)
    encodings = [tokens.encode(prompt + text)[0] for text in texts]
    return tokens.rows(encodings), [len(encoding.ids) for encoding in encodings]


def prompt_of(media: TextInput, name: str | None) -> str:
    """What is put before each text; raises `InvalidParameter` for a name the model does not know."""
    prompts: dict[str, str] = media.options.get("prompts", {})
    name = name if name is not None else media.options.get("default_prompt")
    if name is None:
        return ""
    if name not in prompts:
        known = ", ".join(f"'{prompt}'" for prompt in prompts) or "none: leave it out"
        raise InvalidParameter(name="prompt_name", value=name, expected=known)
    return str(prompts[name])


def pool(states: Array, lengths: Sequence[int], pooling: str) -> Array:
    """float32 texts × size of texts × tokens × size; padding does not count."""
    if pooling == "cls":
        return states[:, 0]
    is_token = np.arange(states.shape[1]) < np.asarray(lengths)[:, None]
    if pooling == "max":
        return np.asarray(np.where(is_token[:, :, None], states, -np.inf).max(axis=1), np.float32)
    sums = np.einsum("btd,bt->bd", states, is_token.astype(states.dtype))
    means: Array = (sums / np.asarray(lengths, np.float32)[:, None]).astype(np.float32)
    return means


def normal(vectors: Array, is_wanted: bool) -> Array:
    """The vectors with length 1, where that is wanted."""
    if not is_wanted:
        return vectors
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Array = vectors / np.maximum(lengths, 1e-12)
    return scaled


def _array(vectors: Array, tokens: int) -> bytes:
    data = np.ascontiguousarray(vectors, "<f4")
    return pack(TaskAnswer(array=data.tobytes(), shape=list(data.shape), tokens=tokens))


def _check_dimensions(wanted: int | None, manifest: ModelManifest) -> None:
    size = manifest.outputs[0].shape[-1]
    if wanted is not None and wanted != size:
        raise InvalidParameter(
            name="dimensions",
            value=wanted,
            expected=f"{size}, the model's own size, or leave it out",
        )
