"""The best targets against a sort of all scores."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from ranef.score import topk
from ranef.score.topk import index_targets, top_k


def brute(rows, side, k, seen=None, allow=None):
    scores = np.einsum("nd,md->nmd", rows, side).sum(axis=2) if side.size < 1e5 else rows @ side.T
    scores[:, ~np.isfinite(side).all(axis=1)] = np.nan
    if seen is not None:
        for r in range(len(rows)):
            scores[r, seen[1][seen[0][r] : seen[0][r + 1]]] = np.nan
    if allow is not None:
        scores[:, ~allow] = np.nan
    target, score = np.full((len(rows), k), -1), np.full((len(rows), k), np.nan)
    for r, own in enumerate(scores):
        some = np.flatnonzero(~np.isnan(own))
        best = some[np.lexsort((some, -own[some]))][:k]
        target[r, : len(best)], score[r, : len(best)] = best, own[best]
    return target, score


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 70), st.integers(1, 5), st.integers(1, 12)),
    levels=st.sampled_from([1, 2, 1000]),
    scale=st.sampled_from([2.0**-60, 1.0, 2.0**20]),
    hide=st.floats(0, 1),
)
def test_equals_a_sort_with_ties_lists_and_holes(seed, shape, levels, scale, hide):
    b, m, d, k = shape
    rng = np.random.default_rng(seed)
    # small whole numbers: many ties, and both ways of summing are exact
    rows, side = (rng.integers(-levels, levels + 1, size).astype(float) for size in ((b, d), (m, d)))
    rows *= scale
    side[rng.random(m) < 0.1] = np.nan
    hidden = rng.random((b, m)) < hide
    seen = np.concatenate([[0], np.cumsum(hidden.sum(1))]), np.nonzero(hidden)[1].astype(np.int32)
    allow = rng.random(m) < 0.8
    want = brute(rows, side, k, seen, allow)
    got = top_k(rows, index_targets(side).only(allow), k, seen)
    assert_array_equal(got[0], want[0])
    assert_allclose(got[1], want[1], rtol=1e-12)


def test_many_blocks_threads_and_nearly_equal_scores(monkeypatch):
    monkeypatch.setattr(topk, "TARGETS", 64)
    monkeypatch.setattr(topk, "ROWS", 16)
    monkeypatch.setattr(topk, "GROUP", 8)
    rng = np.random.default_rng(1)
    rows, side = rng.standard_normal((50, 8)), rng.standard_normal((1000, 8))
    # far closer to each other than float32 can tell
    side[500:600] = side[7] * (1 + 1e-12 * rng.standard_normal((100, 1)))
    # a large part that all have: it must cost no digits
    side[:, 0] += 1e6
    want = brute(rows, side, 30)
    for threads in (1, 2):
        got = top_k(rows, index_targets(side), 30, threads=threads)
        assert_allclose(got[1], want[1], rtol=1e-12)
    few = top_k(rows[:3], index_targets(side), 30)
    assert_array_equal(few[0], got[0][:3])
    clear = np.abs(np.diff(want[1], axis=1)) > 1e-8
    assert_array_equal(got[0][:, 1:][clear], want[0][:, 1:][clear])
