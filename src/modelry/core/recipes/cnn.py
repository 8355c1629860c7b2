"""The card of `cnn`: a convolutional network for images of one size."""

from __future__ import annotations

from modelry.core.recipes.card import Param, RecipeCard
from modelry.core.recipes.training import CLASSIFICATION_PARAMS, TRAINING_PARAMS, check_training

CNN = RecipeCard(
    name="cnn",
    summary="Convolution and pooling blocks, then dense layers: image classification.",
    task="image-classification",
    takes=("image", "tensor"),
    implementation="modelry.worker.recipes.cnn:cnn",
    params=(
        Param(
            name="channels",
            type="ints",
            default=[32, 64],
            minimum=1,
            maximum=2048,
            help="Filters of each convolution; one block of convolution and pooling per number.",
            is_structural=True,
        ),
        Param(
            name="kernel",
            type="int",
            default=3,
            minimum=1,
            maximum=15,
            help="Side of the square filters, without padding.",
            is_structural=True,
        ),
        Param(
            name="pooling",
            type="str",
            default="max",
            choices=("max", "average"),
            help="How 2×2 neighbours become one.",
            is_structural=True,
        ),
        Param(
            name="hidden",
            type="ints",
            default=[64],
            minimum=1,
            maximum=16384,
            help="Widths of the dense layers before the last.",
            is_structural=True,
        ),
        Param(
            name="dropout",
            type="float",
            default=0.0,
            minimum=0.0,
            maximum=0.95,
            help="Share of the dense layers' inputs switched off at random while training.",
        ),
        *CLASSIFICATION_PARAMS,
        *TRAINING_PARAMS,
    ),
    rules=(check_training,),
    presets={
        "reference": {"schedule": "constant"},
        "fast": {
            "epochs": 2,
            "batch_size": 128,
            "learning_rate": 3e-3,
            "schedule": "one-cycle",
        },
    },
)
