"""KernelSHAP: Shapley values as the solution of a weighted linear regression over coalitions.

S. Lundberg and S.-I. Lee, "A Unified Approach to Interpreting Model Predictions", 2017. The values minimise

    Σ_S  w(S) · (base + Σ_{i∈S} φ_i − value(S))²    with  Σ_i φ_i = full − base,

where w(S) = (M−1) / (C(M,|S|) · |S| · (M−|S|)) for M players. The constraint is not approximated by a large weight
but solved with a multiplier (as in I. Covert and S.-I. Lee, "Improving KernelSHAP", 2021), so *efficiency*,
Σφ = full − base, holds to rounding whatever was drawn. With every coalition the values are the Shapley values
themselves, with their other axioms (symmetry, dummy, linearity). Where coalitions are drawn, sizes are taken from
the outside in (alone, all but one, …) as long as all coalitions of a size are affordable, and the rest is drawn in
pairs of a coalition and its complement, which cancels errors of first order.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def coalitions(features: int, evaluations: int, seed: int) -> tuple[Bools, Floats]:
    """Who is present (coalitions × features), and each coalition's weight; never the empty and the full one.

    There are `evaluations` − 2 of them at most, all 2^features − 2 if so many are affordable. Each size's weight
    is its share of the kernel's, so that drawn coalitions stand for those that were not.
    """
    budget = min(evaluations, 1 << features) - 2
    present: list[Bools] = []
    weights: list[Floats] = []
    # A size and its mirror have the same share; from the outside in.
    open_sizes = list(range(1, features // 2 + 1))
    while open_sizes and (count := _pair_count(features, open_sizes[0])) <= budget:
        size = open_sizes.pop(0)
        chosen = _all_of(features, size)
        chosen = chosen if 2 * size == features else np.concatenate((chosen, ~chosen))
        present.append(chosen)
        weights.append(np.full(count, _pair_share(features, size) / count))
        budget -= count
    if open_sizes and budget >= 2:
        drawn = _draw_pairs(features, open_sizes, budget // 2, np.random.default_rng(seed))
        share = sum(_pair_share(features, size) for size in open_sizes)
        present.append(drawn)
        weights.append(np.full(len(drawn), share / len(drawn)))
    if not present:
        return np.zeros((0, features), np.bool_), np.zeros(0)
    return np.concatenate(present), np.concatenate(weights)


def shapley_values(
    present: Bools, weights: Floats, values: Floats, *, base: float, full: float
) -> Floats:
    """The shares of the features; their sum is `full` − `base`."""
    features = present.shape[1]
    total = full - base
    if features == 1:
        return np.array([total])
    members = present.astype(np.float64)
    weighted = members * weights[:, None]
    matrix = weighted.T @ members
    target = weighted.T @ (values - base)
    free, ones = np.linalg.solve(matrix, np.stack((target, np.ones(features)), axis=1)).T
    shares: Floats = free + ones * (total - free.sum()) / ones.sum()
    # What rounding left over, spread evenly.
    return np.asarray(shares + (total - shares.sum()) / features)


def _pair_share(features: int, size: int) -> float:
    """The kernel's weight of all coalitions of this size and of its mirror."""
    share = (features - 1) / (size * (features - size))
    return share if 2 * size == features else 2 * share


def _pair_count(features: int, size: int) -> int:
    count = math.comb(features, size)
    return count if 2 * size == features else 2 * count


def _all_of(features: int, size: int) -> Bools:
    members = np.array(list(combinations(range(features), size)))
    chosen = np.zeros((len(members), features), np.bool_)
    np.put_along_axis(chosen, members, True, axis=1)
    return chosen


def _draw_pairs(features: int, sizes: list[int], pairs: int, random: np.random.Generator) -> Bools:
    """Coalitions, each followed by its complement; sizes by their shares, members evenly."""
    shares = np.array([_pair_share(features, size) for size in sizes])
    drawn = random.choice(sizes, size=pairs, p=shares / shares.sum())
    ranks = random.random((pairs, features)).argsort(axis=1).argsort(axis=1)
    chosen = ranks < drawn[:, None]
    return np.stack((chosen, ~chosen), axis=1).reshape(2 * pairs, features)
