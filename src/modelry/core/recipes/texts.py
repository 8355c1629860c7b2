"""The parameters of recipes that read texts: how a text becomes tokens, learned from the training split."""

from __future__ import annotations

from modelry.core.recipes.card import Param

TEXT_PARAMS: tuple[Param, ...] = (
    Param(
        name="tokenizer",
        type="str",
        default="words",
        choices=("words", "pieces", "characters"),
        help="What a token is: a word, a piece of a word (byte-level BPE), or a character (for Chinese, Japanese).",
        only_for=("text",),
        is_structural=True,
    ),
    Param(
        name="vocabulary",
        type="int",
        default=8000,
        minimum=300,
        maximum=1_000_000,
        help="Tokens that are told apart, at most: the most frequent ones of the training split.",
        only_for=("text",),
        is_structural=True,
    ),
    Param(
        name="max_length",
        type="int",
        default=128,
        minimum=4,
        maximum=8192,
        help="Tokens of a text; longer texts are cut at their end.",
        only_for=("text",),
        is_structural=True,
    ),
    Param(
        name="word_dropout",
        type="float",
        default=0.0,
        minimum=0.0,
        maximum=0.9,
        help="Share of the tokens that are replaced by the unknown one at random while training.",
        only_for=("text",),
    ),
)
