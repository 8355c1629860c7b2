"""The card of `transformer-classifier`: a transformer encoder over the tokens of a text, trained from scratch."""

from __future__ import annotations

from typing import Any

from modelry.core.errors import InvalidParameter
from modelry.core.recipes.card import Param, RecipeCard
from modelry.core.recipes.texts import TEXT_PARAMS
from modelry.core.recipes.training import CLASSIFICATION_PARAMS, TRAINING_PARAMS, check_training


def _check_heads(params: dict[str, Any]) -> None:
    if params["width"] % params["heads"]:
        raise InvalidParameter(
            name="heads",
            value=params["heads"],
            expected=f"a divisor of width, which is {params['width']}",
        )


TRANSFORMER_CLASSIFIER = RecipeCard(
    name="transformer-classifier",
    summary="Transformer encoder (self-attention and dense layers) over a text's tokens: text classification.",
    task="text-classification",
    takes=("text",),
    implementation="modelry.worker.recipes.transformer_classifier:transformer_classifier",
    params=(
        Param(
            name="width",
            type="int",
            default=128,
            minimum=4,
            maximum=4096,
            help="Width of a token's vector in every layer.",
            is_structural=True,
        ),
        Param(
            name="layers",
            type="int",
            default=1,
            minimum=1,
            maximum=48,
            help="Encoder layers on top of each other.",
            is_structural=True,
        ),
        Param(
            name="heads",
            type="int",
            default=4,
            minimum=1,
            maximum=64,
            help="Attention heads of each layer; a divisor of width.",
            is_structural=True,
        ),
        Param(
            name="feedforward",
            type="int",
            default=256,
            minimum=4,
            maximum=16384,
            help="Width of the dense layers inside each encoder layer.",
            is_structural=True,
        ),
        Param(
            name="dropout",
            type="float",
            default=0.3,
            minimum=0.0,
            maximum=0.95,
            help="Share of each layer's outputs switched off at random while training.",
        ),
        *TEXT_PARAMS,
        *CLASSIFICATION_PARAMS,
        *TRAINING_PARAMS,
    ),
    rules=(check_training, _check_heads),
    defaults_for={
        "text": {
            "word_dropout": 0.15,
            "label_smoothing": 0.1,
            "optimizer": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 0.05,
            "warmup": 0.1,
            "clip_norm": 1.0,
            "batch_size": 64,
            "epochs": 20,
        },
    },
)
