"""The axioms of Shapley, and the values themselves, worked out by hand over all orders."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

from modelry.worker.explain.kernel_shap import Bools, Floats, coalitions, shapley_values

Game = Callable[[Bools], float]


def explain(game: Game, features: int, evaluations: int, seed: int = 0) -> Floats:
    present, weights = coalitions(features, evaluations, seed)
    values = np.array([game(members) for members in present])
    nobody, everybody = np.zeros(features, bool), np.ones(features, bool)
    return shapley_values(present, weights, values, base=game(nobody), full=game(everybody))


def by_hand(game: Game, features: int) -> Floats:
    """The definition: what a player adds to each coalition of others, weighted by its orders."""
    shares = np.zeros(features)
    for player in range(features):
        others = [one for one in range(features) if one != player]
        for size in range(features):
            weight = math.factorial(size) * math.factorial(features - size - 1)
            for coalition in combinations(others, size):
                members = np.zeros(features, bool)
                members[list(coalition)] = True
                before = game(members)
                members[player] = True
                shares[player] += weight * (game(members) - before)
    return shares / math.factorial(features)


def random_game(features: int, seed: int) -> Game:
    worths = np.random.default_rng(seed).normal(size=2**features)
    codes = 1 << np.arange(features)
    return lambda members: float(worths[int(codes @ members)])


@pytest.mark.parametrize("features", range(1, 9))
def test_with_every_coalition_the_values_are_shapleys(features: int) -> None:
    game = random_game(features, seed=features)
    found = explain(game, features, 2**features)
    assert found == pytest.approx(by_hand(game, features), abs=1e-9)


@pytest.mark.parametrize("evaluations", [42, 100, 1000])
def test_the_shares_always_sum_to_the_whole_however_few_are_drawn(evaluations: int) -> None:
    random = np.random.default_rng(1)
    weights = random.normal(size=(20, 20))

    def game(members: Bools) -> float:
        return float(np.tanh(members @ weights @ members))

    found = explain(game, 20, evaluations)
    whole = game(np.ones(20, bool)) - game(np.zeros(20, bool))
    assert found.sum() == pytest.approx(whole, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("features", "evaluations"), [(6, 64), (30, 62), (30, 500), (60, 300)])
def test_a_linear_game_gives_each_player_its_own_weight_even_when_drawn(
    features: int, evaluations: int
) -> None:
    weights = np.random.default_rng(2).normal(size=features)
    found = explain(lambda members: 3 + float(members @ weights), features, evaluations)
    assert found == pytest.approx(weights, abs=1e-9)


def test_players_who_do_the_same_get_the_same_and_a_dummy_gets_nothing() -> None:
    def game(members: Bools) -> float:
        # 0 and 1 are alike, 4 never matters.
        return float((members[0] + members[1]) * (1 + members[2]) - 2 * members[3])

    found = explain(game, 5, 2**5)
    assert found[0] == pytest.approx(found[1], abs=1e-12)
    assert found[4] == pytest.approx(0, abs=1e-12)
    assert found[3] == pytest.approx(-2, abs=1e-12)


def test_drawing_more_comes_nearer_to_the_truth() -> None:
    game, features = random_smooth_game(12), 12
    truth = by_hand(game, features)
    errors = [
        np.mean([np.abs(explain(game, features, size, seed) - truth).max() for seed in range(5)])
        for size in (60, 600, 4096)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-9


def random_smooth_game(features: int) -> Game:
    pairs = np.random.default_rng(4).normal(size=(features, features))
    return lambda members: float(np.tanh(0.2 * (members @ pairs @ members)))


@pytest.mark.parametrize(("features", "evaluations"), [(5, 20), (5, 32), (9, 40), (49, 1124)])
def test_no_more_coalitions_are_asked_than_allowed_and_the_draw_is_repeatable(
    features: int, evaluations: int
) -> None:
    present, weights = coalitions(features, evaluations, seed=3)
    assert len(present) == len(weights) <= evaluations - 2
    sizes = present.sum(axis=1)
    assert sizes.min() >= 1
    assert sizes.max() <= features - 1
    again, _ = coalitions(features, evaluations, seed=3)
    assert np.array_equal(present, again)
    # Nothing of the kernel's weight is lost, drawn or not.
    kernel = sum((features - 1) / (size * (features - size)) for size in range(1, features))
    assert weights.sum() == pytest.approx(kernel)
