"""The laws of drawing a test split."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.core.errors import InvalidData
from modelry.worker.data.splitting import digest_order, draw_test

_rows = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=2, max_size=60)


def _digests(contents: list[int]) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
    words = np.zeros((len(contents), 4), np.uint64)
    for row, content in enumerate(contents):
        words[row] = np.random.default_rng(content).integers(0, 1 << 62, 4)
    return words


@given(rows=_rows, share=st.floats(0.01, 0.99), seed=st.integers(0, 5))
def test_the_draw_depends_on_content_alone_and_keeps_equal_rows_together(
    rows: list[tuple[int, int]], share: float, seed: int
) -> None:
    contents, labels = [row[0] for row in rows], np.array([row[1] for row in rows])
    digests = _digests(contents)
    order = np.random.default_rng(seed).permutation(len(rows))
    try:
        drawn = draw_test(digests, labels, share, "file")
    except InvalidData:
        with pytest.raises(InvalidData):
            draw_test(digests[order], labels[order], share, "file")
        return
    assert np.array_equal(draw_test(digests[order], labels[order], share, "file"), drawn[order])
    for label in np.unique(labels):
        members = labels == label
        sides: dict[int, set[bool]] = {}
        for row in np.flatnonzero(members):
            sides.setdefault(contents[row], set()).add(bool(drawn[row]))
        assert all(len(side) == 1 for side in sides.values())
        assert not drawn[members].all()
        assert drawn[members].any() == (len(sides) > 1)


@given(share=st.floats(0.05, 0.95), count=st.integers(20, 200))
def test_different_rows_are_drawn_in_the_wanted_share(share: float, count: int) -> None:
    drawn = draw_test(_digests(list(range(count))), None, share, "file")
    assert abs(int(drawn.sum()) - share * count) <= 1


def test_rows_that_are_all_equal_cannot_be_split() -> None:
    with pytest.raises(InvalidData, match="file: there are too few different rows"):
        draw_test(_digests([1, 1, 1]), None, 0.5, "file")


def test_digests_are_ordered_as_the_numbers_they_are() -> None:
    digests = np.array([[2, 0, 0, 0], [1, 9, 0, 0], [1, 1, 5, 0], [1, 1, 4, 9]], np.uint64)
    assert digest_order(digests).tolist() == [3, 2, 1, 0]
