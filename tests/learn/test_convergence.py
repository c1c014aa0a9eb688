"""R-hat and effective sample sizes where they are known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import lfilter

from ranef.learn.convergence import ess_bulk, ess_tail, mean_error, rhat

FloatArray = npt.NDArray[np.float64]


def _autoregressive(correlation: float, chains: int, draws: int, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((chains, draws + 500)) * np.sqrt(1 - correlation**2)
    return np.asarray(lfilter([1.0], [1.0, -correlation], noise, axis=1)[:, 500:])


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.95, -0.4])
def test_effective_size_of_autoregressive_chains(correlation: float) -> None:
    draws = _autoregressive(correlation, 4, 20_000, 1)
    expected = draws.size * (1 - correlation) / (1 + correlation)
    assert ess_bulk(draws) == pytest.approx(expected, rel=0.1)
    assert mean_error(draws) == pytest.approx(np.std(draws) / np.sqrt(expected), rel=0.06)
    assert rhat(draws) < 1.005


def test_independent_draws_are_worth_themselves_in_the_tails_too() -> None:
    draws = np.random.default_rng(2).standard_cauchy((4, 5_000))
    assert ess_bulk(draws) == pytest.approx(draws.size, rel=0.1)
    assert ess_tail(draws) == pytest.approx(draws.size, rel=0.1)
    assert rhat(draws) < 1.01


def test_chains_apart_in_place_or_spread_are_found() -> None:
    draws = np.random.default_rng(3).standard_normal((4, 1_000))
    moved, wider = draws.copy(), draws.copy()
    moved[0] += 1
    wider[0] *= 3
    assert rhat(draws) < 1.01
    assert rhat(moved) > 1.1
    assert rhat(wider) > 1.1
    assert ess_bulk(moved) < 100


def test_a_chain_that_drifts_is_found_alone() -> None:
    draws = np.random.default_rng(4).standard_normal((1, 1_000)) + np.linspace(0, 3, 1_000)
    assert rhat(draws) > 1.2


def test_ranks_alone_matter() -> None:
    draws = _autoregressive(0.5, 4, 1_000, 5)
    assert ess_bulk(draws) == pytest.approx(ess_bulk(np.exp(3 * draws)), rel=1e-12)


@pytest.mark.parametrize("draws", [np.ones((4, 100)), np.zeros((2, 6)), np.full((2, 100), np.nan), np.eye(3)])
def test_what_does_not_move_has_no_diagnostics(draws: FloatArray) -> None:
    assert all(np.isnan(f(draws)) for f in (rhat, ess_bulk, ess_tail, mean_error))
