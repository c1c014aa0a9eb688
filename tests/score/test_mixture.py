"""Predictive distributions against fine grids, from a predictor that is known to one that says nothing."""

import numpy as np
import pytest

from ranef.errors import OptionError
from ranef.family import bernoulli, binomial, gamma, negative_binomial, poisson
from ranef.score import quantile
from ranef.score.mixture import mixed_cdf
from ranef.score.quantile import mixed_quantile

CASES = [
    (poisson(), (), None),
    (negative_binomial(), (0.3,), None),
    (negative_binomial(), (-1.5,), None),
    (negative_binomial(), (6.0,), None),
    (gamma(), (-2.0,), None),
    (gamma(), (1.0,), None),
    (gamma(), (-8.0,), None),
    (binomial(), (), 20.0),
    (binomial("cloglog"), (), 5.0),
    (binomial("probit"), (), 1e5),
]
SCORES = np.linspace(-9, 9, 40001)
DENSITY = np.exp(-(SCORES**2) / 2) / np.exp(-(SCORES**2) / 2).sum()


def on_a_grid(family, y, mean, sd, trials, phi):
    weights = None if trials is None else np.full(len(SCORES), trials)
    return DENSITY @ family.cdf(np.full(len(SCORES), y), mean + sd * SCORES, weights, phi)[1]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].name}-{case[0].link}-{case[1]}")
def test_quantiles_of_the_mixture(case):
    family, phi, trials = case
    phi = np.array(phi)
    scale = 0.3 if trials else 1.0
    grid = np.meshgrid(np.array([-2.0, 0.5, 3.0, 7.0]) * scale, [0.0, 0.01, 0.3, 1.0, 2.5], indexing="ij")
    mean, sd = (part.ravel() for part in grid)
    weights = None if trials is None else np.full(len(mean), trials)
    for probability in (0.025, 0.9, 0.975):
        y = mixed_quantile(family, probability, mean, sd, weights, phi)
        found = mixed_cdf(family, y, mean, sd, weights, phi)
        exact = [on_a_grid(family, *row, trials, phi) for row in zip(y, mean, sd, strict=True)]
        # the grid's own error where counts determine the predictor is its spacing
        np.testing.assert_allclose(found, exact, atol=2e-4)
        if family.kind == "positive":
            np.testing.assert_allclose(found, probability, atol=1e-8)
            continue
        step = 1.0 if trials is None else 1 / trials
        assert (found >= probability).all()
        above = y > 0
        less = mixed_cdf(family, y - step, mean, sd, weights, phi)
        assert (less[above] < probability).all()
        np.testing.assert_allclose(y / step, np.rint(y / step), atol=1e-6)


def test_rows_without_a_predictor_or_trials_have_no_quantile():
    mean, sd = np.array([np.nan, 0.0, 0.0, 1.0]), np.array([1.0, np.nan, 1.0, 0.5])
    found = mixed_quantile(binomial(), 0.5, mean, sd, np.array([3.0, 3.0, 0.0, 3.0]), np.zeros(0))
    assert np.isnan(found[:3]).all()
    assert np.isfinite(found[3])


def test_what_has_no_quantile():
    with pytest.raises(OptionError, match="no quantiles"):
        mixed_quantile(bernoulli(), 0.5, np.zeros(1), np.ones(1), None, np.zeros(0))
    with pytest.raises(OptionError, match="reaches"):
        mixed_quantile(poisson(), 0.975, np.array([40.0]), np.ones(1), None, np.zeros(0))


@pytest.mark.parametrize(
    ("family", "phi"), [(poisson(), ()), (negative_binomial(), (-1.0,)), (gamma(), (-2.0,)), (gamma(), (-8.0,))]
)
@pytest.mark.parametrize("centre", [-4.0, 0.5, 6.0])
def test_many_rows_have_the_quantiles_of_few(monkeypatch, family, phi, centre):
    rng = np.random.default_rng(0)
    mean, sd = centre + rng.standard_normal(400), np.abs(0.4 + 0.3 * rng.standard_normal(400))
    # a row far from all others, one that is known, one that is not
    mean[0], sd[1], mean[2] = centre + 12.0, 0.0, np.nan
    for probability in (0.025, 0.975):
        monkeypatch.setattr(quantile, "MANY", 1_000)
        each = mixed_quantile(family, probability, mean, sd, None, np.array(phi))
        monkeypatch.setattr(quantile, "MANY", 100)
        together = mixed_quantile(family, probability, mean, sd, None, np.array(phi))
        if family.kind == "count":
            np.testing.assert_array_equal(together, each)
        else:
            np.testing.assert_allclose(together, each, rtol=5e-8)


def test_a_table_is_used_where_there_are_many_rows(monkeypatch):
    monkeypatch.setattr(quantile, "MANY", 100)
    seen = []
    monkeypatch.setattr(quantile, "_count", lambda of, p: seen.append(len(of.mean)) or np.zeros(len(of.mean)))
    rng = np.random.default_rng(0)
    mixed_quantile(poisson(), 0.975, rng.standard_normal(5_000), rng.uniform(0.1, 0.6, 5_000), None, np.zeros(0))
    assert sum(seen) < 50
