"""A short version of the study of the stochastic solver beside the exact one: `benchmarks.studies.exact`."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.studies.exact import PRINTED, scaled, trials, within

pytestmark = pytest.mark.long

SETS = 20


@pytest.fixture(scope="module")
def done():
    return trials(SETS)


@pytest.mark.parametrize("way", ["8", "64", "default"])
def test_every_search_converges(done, way):
    assert np.mean([one.converged[way] for one in done]) > 0.97


@pytest.mark.parametrize("kind", PRINTED)
def test_differences_are_within_the_printed_errors(done, kind):
    # 99.7 % should be; with printed errors half as large as they should be, 95 %
    assert within(done, "8", 3.0, kind) > 0.98
    # errors that are far too large would hide a wrong solver: the median of |t| is 0.7, over the factor of 1.5
    typical = np.median(scaled(done, "8", lambda row: row.kind == kind))
    assert 0.25 < typical < 0.8


def test_fixed_effects_move_by_a_hundredth_of_their_standard_error(done):
    moved = [abs(row.difference) / row.se for one in done for row in one.beside["8"] if row.kind == "fixed effect"]
    assert np.quantile(moved, 0.99) < 0.01


def test_intervals_come_to_the_same_verdict(done):
    pairs = [zip(one.covered["stochastic"], one.covered["exact"], strict=True) for one in done]
    assert np.mean([a == b for pair in pairs for a, b in pair]) > 0.98
