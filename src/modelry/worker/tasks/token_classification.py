"""`token-classification`: what each word of a text is → `[{"entity_group", "score", "word", "start", "end"}]`.

Labels may say where a name begins (`B-PER`) and goes on (`I-PER`). How tokens become words and words become
entities is the `aggregation_strategy`:

    none      every token by itself, as `entity`, with its `index`
    simple    neighbouring tokens of one kind together
    first, average, max    first one label for each word (its first token's, the mean's, the surest token's), then
                           neighbouring words of one kind together
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from modelry.core.calls import TaskAnswer, TaskCall, pack
from modelry.core.errors import InvalidParameter
from modelry.core.manifests import ModelManifest
from modelry.core.tensors import Array
from modelry.worker.tasks.opened import Opened
from modelry.worker.tasks.opening import TaskModel
from modelry.worker.tasks.parameters import read_parameters
from modelry.worker.tasks.scores import label_of, softmax
from modelry.worker.tasks.texts import one_or_many, read_text
from modelry.worker.tasks.tokens import Tokens, tokenizer_of

Strategy = Literal["none", "simple", "first", "average", "max"]


class TokenParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the task takes."""

    aggregation_strategy: Strategy = "simple"
    #: Labels that are left out of the answer.
    ignore_labels: list[str] = msgspec.field(default_factory=lambda: ["O"])
    #: Read a long text in windows that overlap by so many tokens; without it the text is cut at its end.
    stride: Annotated[int, msgspec.Meta(ge=1)] | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A token, or a word of several: its scores, and where it stands in the text."""

    tokens: tuple[str, ...]
    scores: Array
    start: int
    end: int
    index: int
    #: Whether it goes on with the word of the token before it.
    is_inside: bool = False


@dataclass(frozen=True, slots=True)
class Labelled:
    """A piece with its label."""

    label: str
    score: float
    piece: Piece


def open_call(call: TaskCall, model: TaskModel) -> Opened:
    """A text, or several: then the answer is a list for each. Raises `BadInput`."""
    given = read_parameters(TokenParameters, call.parameters, "token classification")
    if given.stride is not None and given.aggregation_strategy == "none":
        raise InvalidParameter(
            name="stride", value=given.stride, expected="it with another aggregation_strategy"
        )
    texts, are_many = one_or_many(call.inputs, read_text)
    tokens = tokenizer_of(model)
    windows = [tokens.encode(text, stride=given.stride) for text in texts]
    every = [window for each in windows for window in each]

    def finish(outputs: dict[str, Array]) -> bytes:
        logits = iter(outputs[model.manifest.outputs[0].name])
        answers = [
            _entities(text, each, logits, tokens, model.manifest, given)
            for text, each in zip(texts, windows, strict=True)
        ]
        return pack(
            TaskAnswer(
                value=answers if are_many else answers[0],
                tokens=sum(len(window.ids) for window in every),
            )
        )

    return Opened(tokens.rows(every), finish)


def _entities(
    text: str,
    windows: list[Any],
    logits: Iterator[Array],
    tokens: Tokens,
    manifest: ModelManifest,
    given: TokenParameters,
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for window in windows:
        pieces = _pieces(text, window, softmax(next(logits)[: len(window.ids)]), tokens)
        found += _aggregate(pieces, given.aggregation_strategy, tokens, manifest)
    kept = [
        entity
        for entity in found
        if entity.get("entity", entity.get("entity_group")) not in given.ignore_labels
    ]
    return _without_overlaps(kept) if len(windows) > 1 else kept


def _pieces(text: str, window: Any, scores: Array, tokens: Tokens) -> list[Piece]:
    """The window's tokens that stand for a part of the text."""
    pieces = []
    for index, is_special in enumerate(window.special_tokens_mask):
        if is_special:
            continue
        start, end = window.offsets[index]
        token, part = window.tokens[index], text[start:end]
        if tokens.knows_words:
            # The mark of a token inside a word makes it longer than the text it stands for.
            is_inside = len(token) != len(part)
        else:
            is_inside = start > 0 and " " not in text[start - 1 : start + 1]
        if window.ids[index] == tokens.unknown_id:
            token, is_inside = part, False
        pieces.append(Piece((token,), scores[index], start, end, index, is_inside))
    return pieces


def _aggregate(
    pieces: list[Piece], strategy: Strategy, tokens: Tokens, manifest: ModelManifest
) -> list[dict[str, Any]]:
    if strategy in ("none", "simple"):
        labelled = [_label(piece, piece.scores, manifest) for piece in pieces]
    else:
        labelled = [_label_word(word, strategy, tokens, manifest) for word in _words(pieces)]
    if strategy == "none":
        return [
            {
                "entity": each.label,
                "score": each.score,
                "index": each.piece.index,
                "word": each.piece.tokens[0],
                "start": each.piece.start,
                "end": each.piece.end,
            }
            for each in labelled
        ]
    return [_group(members, tokens) for members in _neighbours(labelled)]


def _words(pieces: list[Piece]) -> list[list[Piece]]:
    words: list[list[Piece]] = []
    for piece in pieces:
        if piece.is_inside and words:
            words[-1].append(piece)
        else:
            words.append([piece])
    return words


def _label_word(
    word: list[Piece], strategy: Strategy, tokens: Tokens, manifest: ModelManifest
) -> Labelled:
    match strategy:
        case "average":
            scores = np.mean([piece.scores for piece in word], axis=0)
        case "max":
            scores = max(word, key=lambda piece: float(piece.scores.max())).scores
        case _:
            scores = word[0].scores
    name = tokens.join([token for piece in word for token in piece.tokens])
    whole = Piece((name,), scores, word[0].start, word[-1].end, word[0].index)
    return _label(whole, scores, manifest)


def _label(piece: Piece, scores: Array, manifest: ModelManifest) -> Labelled:
    best = int(scores.argmax())
    return Labelled(label_of(manifest, best), float(scores[best]), piece)


def _neighbours(labelled: list[Labelled]) -> list[list[Labelled]]:
    """Runs of one kind; a label that begins a name begins a run."""
    runs: list[list[Labelled]] = []
    for each in labelled:
        begins, kind = _kind(each.label)
        if runs and not begins and kind == _kind(runs[-1][-1].label)[1]:
            runs[-1].append(each)
        else:
            runs.append([each])
    return runs


def _kind(label: str) -> tuple[bool, str]:
    """Whether the label says that a name begins, and the kind of name."""
    if label.startswith(("B-", "I-")):
        return label.startswith("B-"), label[2:]
    return False, label


def _group(members: list[Labelled], tokens: Tokens) -> dict[str, Any]:
    words = [token for member in members for token in member.piece.tokens]
    return {
        "entity_group": members[0].label.split("-", 1)[-1],
        "score": float(np.mean([member.score for member in members])),
        "word": tokens.join(words),
        "start": members[0].piece.start,
        "end": members[-1].piece.end,
    }


def _without_overlaps(entities: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of entities that several windows found in one place: the longest, then the surest."""
    kept: list[dict[str, Any]] = []
    for entity in sorted(entities, key=lambda entity: int(entity["start"])):
        if kept and kept[-1]["start"] <= entity["start"] < kept[-1]["end"]:
            kept[-1] = max(kept[-1], entity, key=_weight)
        else:
            kept.append(entity)
    return kept


def _weight(entity: dict[str, Any]) -> tuple[int, float]:
    return entity["end"] - entity["start"], entity["score"]
