"""Simulated responses: their moments, their streams, errors; residuals of the rows."""

import numpy as np
import pytest

from ranef.errors import DataError, OptionError
from ranef.result.residuals import linear_predictor, residuals
from ranef.result.simulate import simulate
from tests.result.fits import SLEEP, fit_rows, fitted, three_slopes

COUNT = 4000


def small():
    """Four groups of four rows with weights: small enough for its dense covariance."""
    i = np.arange(16)
    rows = {"y": np.sin(i * 2.7) + (i // 4), "x": np.cos(i * 1.1), "g": i // 4, "h": i % 3, "w": 1.0 + i % 2}
    return fit_rows(rows, "y ~ x + (x | g) + (1 | h)", weights="w")


def test_covariance_of_simulated_responses():
    design, model = small()
    draws = simulate(model, design, COUNT, seed=3)
    expected = np.diag(model.info.sigma**2 / design.weights)
    for group, learned in zip(design.groups, model.groups, strict=True):
        same = group.codes[:, None] == group.codes[None, :]
        expected += same * (group.covariates @ learned.covariance @ group.covariates.T)
    sample = np.cov(draws)
    variance = np.diag(expected)
    # of a normal sample's covariance; 256 entries, so that five of these are never passed by chance
    error = np.sqrt((expected**2 + np.outer(variance, variance)) / COUNT)
    assert (np.abs(sample - expected) < 5 * error).all()
    mean = design.x @ model.beta
    assert (np.abs(draws.mean(axis=1) - mean) < 5 * np.sqrt(variance / COUNT)).all()


def test_conditional_draws_keep_the_modes():
    design, model = small()
    draws = simulate(model, design, COUNT, conditional=True)
    spread = model.info.sigma / np.sqrt(design.weights)
    assert (np.abs(draws.mean(axis=1) - linear_predictor(model, design)) < 5 * spread / np.sqrt(COUNT)).all()
    np.testing.assert_allclose(draws.std(axis=1), spread, rtol=5 / np.sqrt(2 * COUNT))


def test_streams():
    design, model = fitted("sleepstudy", SLEEP)
    three = simulate(model, design, 3, seed=1)
    np.testing.assert_array_equal(three[:, :2], simulate(model, design, 2, seed=1))
    assert not np.isclose(three[:, 0], three[:, 1]).any()
    assert not np.isclose(three, simulate(model, design, 3, seed=2)).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count=0"),
        ({"count": 1.5}, "count=1.5"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": True}, "seed=True"),
    ],
)
def test_errors(options, message):
    design, model = fitted("sleepstudy", SLEEP)
    with pytest.raises(OptionError, match=message):
        simulate(model, design, **options)


def test_residuals_of_weighted_rows():
    """lme4 1.1-31, R 4.2.2: m <- lmer(y ~ x + offset(0.5 * z) + (1 | g), weights = wt); residuals(m, "pearson") and
    residuals(m, "pearson", scaled = TRUE)."""
    design, model = fit_rows(three_slopes(), "y ~ x + offset(0.5 * z) + (1 | g)", weights="wt")
    pearson = residuals(model, design, kind="pearson")
    scaled = residuals(model, design, linear_predictor(model, design), "scaled")
    np.testing.assert_allclose(pearson[:3], [-0.3279587027, 2.0083643928, 0.6281536091], rtol=1e-6)
    np.testing.assert_allclose(scaled[:3], [-0.1917710197, 1.1743737376, 0.3673073992], rtol=1e-6)
    np.testing.assert_allclose(residuals(model, design), pearson / np.sqrt(design.weights))


def test_scaled_residuals_of_sleepstudy():
    """lme4 1.1-31: quantile(residuals(m, "pearson", scaled = TRUE))."""
    design, model = fitted("sleepstudy", SLEEP)
    quantiles = np.quantile(residuals(model, design, kind="scaled"), [0, 0.25, 0.5, 0.75, 1])
    expected = [-3.9535637416410, -0.4633996165838, 0.0231171403219, 0.4633990237868, 5.1792564455292]
    np.testing.assert_allclose(quantiles, expected, rtol=1e-5)


def test_residual_errors():
    design, model = fitted("sleepstudy", SLEEP)
    with pytest.raises(OptionError, match="did you mean 'deviance'"):
        residuals(model, design, kind="devianc")
    other, _ = fit_rows({"Reaction": design.y, "Days": design.x[:, 1], "Subject": np.arange(180) % 17}, SLEEP)
    with pytest.raises(DataError, match="other levels of 'Subject'"):
        residuals(model, other)
