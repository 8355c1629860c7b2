"""Which rows become the test split where the source has none: decided by content alone, the same on every machine."""

from __future__ import annotations

import numpy as np

from modelry.core.errors import InvalidData
from modelry.worker.data.picturing import Array


def digest_order(digests: Array) -> Array:
    """The indices that sort digests (rows × 4, unsigned 64-bit words)."""
    return np.lexsort(tuple(digests[:, word] for word in reversed(range(digests.shape[1]))))


def draw_test(digests: Array, labels: Array | None, share: float, file: str) -> Array:
    """True for each row that goes to the test split.

    Of every label the rows with the smallest digests are drawn, as near to `share` as whole rows allow, at least one
    of two and never all. Rows with equal content stay on one side.
    """
    is_test = np.zeros(len(digests), bool)
    if share == 0:
        return is_test
    groups = np.zeros(len(digests), np.int64) if labels is None else labels
    order = digest_order(digests)
    by_group = order[np.argsort(groups[order], kind="stable")]
    _, starts = np.unique(groups[by_group], return_index=True)
    for members in np.split(by_group, starts[1:]):
        is_test[members[: _cut(digests[members], share)]] = True
    if not is_test.any():
        reason = "there are too few different rows of any label to keep some for the test split"
        remedy = "Bring more rows; for a target that is a number to be predicted, say so with its kind or the task."
        raise InvalidData(file=file, reason=reason, remedy=remedy)
    return is_test


def take_last(rows: int, share: float, file: str) -> Array:
    """True for the last rows, as near to `share` of all as whole rows allow; raises `InvalidData` for too few."""
    kept = rows - round(share * rows)
    if share and not 0 < kept < rows:
        reason = f"its {rows} rows are too few to keep the last ones for the test split"
        raise InvalidData(file=file, reason=reason)
    return np.arange(rows) >= kept


def _cut(ordered: Array, share: float) -> int:
    """How many of a label's rows, ordered by digest, are drawn."""
    starts = np.flatnonzero((ordered[1:] != ordered[:-1]).any(axis=1)) + 1
    if len(starts) == 0:
        return 0
    wanted = round(share * len(ordered))
    return int(starts[np.argmin(np.abs(starts - wanted))])
