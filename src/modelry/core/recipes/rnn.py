"""The card of `rnn`: stacked recurrent layers over a sequence of fixed length."""

from __future__ import annotations

from modelry.core.recipes.card import Param, RecipeCard
from modelry.core.recipes.training import TRAINING_PARAMS, check_training

RNN = RecipeCard(
    name="rnn",
    summary="Stacked recurrent layers (plain, LSTM or GRU), last state to classes; an image is read row by row.",
    task="sequence-classification",
    takes=("image", "tensor"),
    implementation="modelry.worker.recipes.rnn:rnn",
    params=(
        Param(
            name="cell",
            type="str",
            default="lstm",
            choices=("rnn", "lstm", "gru"),
            help="The recurrent cell.",
            is_structural=True,
        ),
        Param(
            name="hidden",
            type="int",
            default=128,
            minimum=1,
            maximum=4096,
            help="Width of each recurrent layer.",
            is_structural=True,
        ),
        Param(
            name="layers",
            type="int",
            default=3,
            minimum=1,
            maximum=16,
            help="Recurrent layers on top of each other.",
            is_structural=True,
        ),
        Param(
            name="bidirectional",
            type="bool",
            default=False,
            help="Read the sequence from both ends.",
            is_structural=True,
        ),
        Param(
            name="dropout",
            type="float",
            default=0.0,
            minimum=0.0,
            maximum=0.95,
            help="Share of each layer's outputs switched off at random while training.",
        ),
        *TRAINING_PARAMS,
    ),
    rules=(check_training,),
    presets={"reference": {"schedule": "constant"}},
)
