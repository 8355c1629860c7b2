"""`fill-mask`: a text with masked tokens → `[{"sequence", "score", "token", "token_str"}]`, the best first.

With several masks in one text: a list for each of them. Scores are over the whole vocabulary, also with `targets`.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import numpy as np

from modelry.core.calls import TaskAnswer, TaskCall, pack
from modelry.core.errors import InvalidInput, InvalidParameter
from modelry.core.tensors import Array
from modelry.worker.tasks.opened import Opened
from modelry.worker.tasks.opening import TaskModel
from modelry.worker.tasks.parameters import Count, read_parameters
from modelry.worker.tasks.scores import softmax
from modelry.worker.tasks.texts import one_or_many, read_text
from modelry.worker.tasks.tokens import Tokens, tokenizer_of


class FillMaskParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the task takes."""

    top_k: Count = 5
    #: Only these words are considered; of one that is no token, its first token.
    targets: Annotated[list[str], msgspec.Meta(min_length=1, max_length=4096)] | None = None


def open_call(call: TaskCall, model: TaskModel) -> Opened:
    """Raises `BadInput`; a text longer than the model takes, or without a mask, is refused."""
    given = read_parameters(FillMaskParameters, call.parameters, "fill-mask")
    texts, are_many = one_or_many(call.inputs, read_text)
    tokens = tokenizer_of(model)
    encodings = [tokens.encode(text, cut=None)[0] for text in texts]
    masks = [_masks(encoding.ids, tokens) for encoding in encodings]
    wanted = None if given.targets is None else _target_ids(given.targets, tokens)

    def finish(outputs: dict[str, Array]) -> bytes:
        logits = outputs[model.manifest.outputs[0].name]
        answers = [
            _answer(row, encoding.ids, places, tokens, given.top_k, wanted)
            for row, encoding, places in zip(logits, encodings, masks, strict=True)
        ]
        return pack(
            TaskAnswer(
                value=answers if are_many else answers[0],
                tokens=sum(len(encoding.ids) for encoding in encodings),
            )
        )

    return Opened(tokens.rows(encodings), finish)


def _masks(ids: list[int], tokens: Tokens) -> list[int]:
    """Where the masks stand; raises `InvalidInput` where there is none."""
    mask = tokens.media.options["mask_token_id"]
    places = [place for place, token in enumerate(ids) if token == mask]
    if not places:
        raise InvalidInput(
            reason="the text has no masked token",
            expected=f"a text with '{tokens.token(mask)}' in the place to be filled",
        )
    return places


def _target_ids(targets: list[str], tokens: Tokens) -> Array:
    """Each word's own or first token, once; raises `InvalidParameter` for a word that has none."""
    found: dict[int, None] = {}
    for word in targets:
        index = tokens.find(word)
        if index is None:
            ids = tokens.encode(word, special=False)[0].ids
            if not ids:
                raise InvalidParameter(name="targets", value=word, expected="words with a letter")
            index = ids[0]
        found[index] = None
    return np.array(list(found))


def _answer(
    logits: Array,
    ids: list[int],
    places: list[int],
    tokens: Tokens,
    top_k: int,
    wanted: Array | None,
) -> list[Any]:
    """What fits each mask of one text."""
    is_single = len(places) == 1
    rows = []
    for place in places:
        scores = softmax(logits[place])
        candidates = np.arange(len(scores)) if wanted is None else wanted
        order = np.argsort(-scores[candidates], kind="stable")[:top_k]
        best = [int(index) for index in candidates[order]]
        rows.append(
            [
                {
                    "sequence": tokens.decode(_filled(ids, place, index), skip_special=is_single),
                    "score": float(scores[index]),
                    "token": index,
                    "token_str": tokens.decode([index]),
                }
                for index in best
            ]
        )
    return rows[0] if is_single else rows


def _filled(ids: list[int], place: int, token: int) -> list[int]:
    return [*ids[:place], token, *ids[place + 1 :]]
