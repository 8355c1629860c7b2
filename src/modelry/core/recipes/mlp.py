"""The card of `mlp`: dense layers over the columns of a table."""

from __future__ import annotations

from modelry.core.recipes.card import Param, RecipeCard
from modelry.core.recipes.training import CLASSIFICATION_PARAMS, TRAINING_PARAMS, check_training

MLP = RecipeCard(
    name="mlp",
    summary="Dense layers over a table's columns (numbers and categories, missing values too): labels or numbers.",
    task="tabular-classification",
    takes=("number", "category"),
    goals=("classification", "regression"),
    implementation="modelry.worker.recipes.mlp:mlp",
    params=(
        Param(
            name="hidden",
            type="ints",
            default=[128, 64],
            minimum=1,
            maximum=16384,
            help="Widths of the dense layers before the last.",
            is_structural=True,
        ),
        Param(
            name="embedding",
            type="int",
            default=8,
            minimum=1,
            maximum=1024,
            help="Width of a category's vector, at most; one with few values gets half as many numbers as values.",
            is_structural=True,
        ),
        Param(
            name="bins",
            type="int",
            default=16,
            minimum=0,
            maximum=256,
            help="Parts of equal size that a number's range is cut into, each with a slope of its own; 0: none.",
            is_structural=True,
        ),
        Param(
            name="dropout",
            type="float",
            default=0.3,
            minimum=0.0,
            maximum=0.95,
            help="Share of the dense layers' inputs switched off at random while training.",
        ),
        *CLASSIFICATION_PARAMS,
        *TRAINING_PARAMS,
    ),
    rules=(check_training,),
    defaults_for={
        "table": {
            "optimizer": "adamw",
            "learning_rate": 2e-3,
            "weight_decay": 0.01,
            "warmup": 0.05,
            "clip_norm": 1.0,
            "batch_size": 256,
            "epochs": 12,
        },
    },
)
