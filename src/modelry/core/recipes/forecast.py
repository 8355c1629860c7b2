"""The card of `forecast`: the next values of a series, from a window of the rows before them."""

from __future__ import annotations

from modelry.core.recipes.card import Param, RecipeCard
from modelry.core.recipes.training import TRAINING_PARAMS, check_training

FORECAST = RecipeCard(
    name="forecast",
    summary=(
        "A recurrent network over a window of rows in the order of time: the next values of a number, from its own "
        "past and that of the other columns, missing values too."
    ),
    task="time-series-forecasting",
    takes=("number", "category"),
    goals=("forecasting",),
    implementation="modelry.worker.recipes.forecast:forecast",
    params=(
        Param(
            name="window",
            type="int",
            default=24,
            minimum=1,
            maximum=4096,
            help="Rows that are looked at.",
            is_structural=True,
        ),
        Param(
            name="horizon",
            type="int",
            default=6,
            minimum=1,
            maximum=1024,
            help="Rows after them whose target is forecast.",
            is_structural=True,
        ),
        Param(
            name="season",
            type="int",
            default=24,
            minimum=1,
            maximum=100_000,
            help="Rows after which the series repeats itself: the test compares with the value of so many rows ago.",
        ),
        Param(
            name="cell",
            type="str",
            default="gru",
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
            default=1,
            minimum=1,
            maximum=16,
            help="Recurrent layers on top of each other.",
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
        *TRAINING_PARAMS,
    ),
    rules=(check_training,),
    defaults_for={
        "series": {
            "optimizer": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 0.01,
            "warmup": 0.05,
            "clip_norm": 1.0,
            "batch_size": 256,
            "epochs": 10,
        },
    },
)
