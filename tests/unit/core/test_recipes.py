"""Recipe parameters: complete, bounded, readable from a command line, refused with the remedy."""

from __future__ import annotations

from typing import Any

import pytest

from modelry.core.errors import InvalidParameter, NotFound, UnknownParameter
from modelry.core.jobs import check_train_params
from modelry.core.recipes import get_recipe, list_recipes


def test_our_recipes_come_through_the_entry_points() -> None:
    assert [card.name for card in list_recipes()] == [
        "cnn",
        "forecast",
        "mlp",
        "rnn",
        "speech-commands",
        "transformer-classifier",
    ]


def test_defaults_are_the_reference_networks() -> None:
    cnn = get_recipe("cnn").check({})
    assert (cnn["channels"], cnn["kernel"], cnn["hidden"]) == ([32, 64], 3, [64])
    assert (cnn["optimizer"], cnn["epochs"], cnn["batch_size"]) == ("adam", 10, 32)
    rnn = get_recipe("rnn").check({})
    assert (rnn["cell"], rnn["hidden"], rnn["layers"]) == ("lstm", 128, 3)


def test_every_default_is_within_its_own_bounds_and_has_a_sentence() -> None:
    for card in list_recipes():
        for param in card.params:
            assert param.check(param.default) == param.default
            assert param.help.endswith(".")


def test_every_preset_is_valid() -> None:
    for card in list_recipes():
        for preset, values in card.presets.items():
            assert check_train_params(card.name, {}, preset).items() >= values.items()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("channels", "8,16", [8, 16]),
        ("epochs", "5", 5),
        ("learning_rate", "1e-2", 0.01),
        ("batch_size", "full", "full"),
        ("batch_size", "1", 1),
        ("patience", "none", None),
        ("pooling", "average", "average"),
    ],
)
def test_texts_from_a_command_line_are_read(name: str, text: str, value: Any) -> None:
    assert get_recipe("cnn").check({name: text})[name] == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("epochs", True),
        ("epochs", "many"),
        ("batch_size", "half"),
        ("learning_rate", float("nan")),
        ("learning_rate", -1),
        ("dropout", 1.0),
        ("channels", []),
        ("channels", [8] * 9),
        ("pooling", "min"),
        ("optimizer", None),
        ("seed", -1),
        ("learning_rate", 10**400),
    ],
)
def test_values_out_of_bounds_are_refused_with_what_is_allowed(name: str, value: Any) -> None:
    with pytest.raises(InvalidParameter) as caught:
        get_recipe("cnn").check({name: value})
    assert name in caught.value.message
    assert caught.value.remedy.startswith("Give ")


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownParameter, match="learning_rate"):
        get_recipe("cnn").check({"lr": 1})
    with pytest.raises(NotFound, match="cnn, forecast, mlp, rnn"):
        get_recipe("vit")
    with pytest.raises(InvalidParameter, match="'reference'"):
        check_train_params("cnn", {}, "fastest")
