"""Residuals of every family: R's numbers, definitions, and uniform quantiles under the model."""

import numpy as np
import pytest
from scipy import special, stats

import ranef
from ranef.errors import OptionError
from ranef.result.residuals import linear_predictor, residuals
from tests.result.generalized import EXAMPLES, data_of, fit_of

NUMBERS = ["bernoulli", "binomial", "poisson", "negative_binomial", "gamma"]


@pytest.mark.parametrize("family", NUMBERS)
def test_definitions(family):
    fit = fit_of(family)
    design, model = fit._design, fit.model
    mu, y, weights = fit.fitted(), design.y, design.weights
    np.testing.assert_allclose(fit.residuals(), y - mu)
    theta = model.info.family_parameters[0].value if model.info.family_parameters else 1.0
    variance = {
        "bernoulli": mu * (1 - mu),
        "binomial": mu * (1 - mu),
        "poisson": mu,
        "negative_binomial": mu + mu**2 / theta,
        "gamma": mu**2,
    }[family]
    pearson = (y - mu) / np.sqrt(variance / (1.0 if weights is None else weights))
    np.testing.assert_allclose(fit.residuals("pearson"), pearson, rtol=1e-9)
    np.testing.assert_allclose(fit.residuals("scaled"), pearson / fit.sigma, rtol=1e-9)
    deviance = fit.residuals("deviance")
    assert (np.sign(deviance) == np.sign(y - mu)).all()
    unit = {
        "bernoulli": lambda: -2 * (special.xlogy(y, mu) + special.xlog1py(1 - y, -mu)),
        "binomial": lambda: 2 * weights * (special.rel_entr(y, mu) + special.rel_entr(1 - y, 1 - mu)),
        "poisson": lambda: 2 * (special.rel_entr(y, mu) - (y - mu)),
        "gamma": lambda: 2 * ((y - mu) / mu - np.log(y / mu)),
        "negative_binomial": lambda: 2 * (special.rel_entr(y, mu) - special.rel_entr(y + theta, mu + theta)),
    }
    np.testing.assert_allclose(deviance**2, unit[family](), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("family", EXAMPLES)
def test_quantile_residuals_of_simulated_responses_are_normal(family):
    """Kolmogorov and Smirnov's test at a level of one in a thousand, over 20 data sets from the fit given its modes."""
    fit = fit_of(family)
    design, model = fit._design, fit.model
    eta = linear_predictor(model, design)
    rng = np.random.default_rng(17)
    scores = []
    for seed in range(20):
        y = model.family.simulate(rng, eta, design.weights, model.phi)
        replaced = type(design)(**{**design.__dict__, "y": y})
        scores.append(residuals(model, replaced, eta, "quantile", seed))
    scores = np.concatenate(scores)
    assert np.isfinite(scores).all()
    assert stats.kstest(scores, "norm").pvalue > 1e-3
    assert abs(scores.mean()) < 4 / np.sqrt(len(scores))


def test_quantile_residuals_of_a_gaussian_response_are_the_scaled_ones():
    fit = ranef.fit("Reaction ~ Days + (Days | Subject)", ranef.data.sleepstudy())
    np.testing.assert_allclose(fit.residuals("quantile"), fit.residuals("scaled"), atol=1e-6)
    np.testing.assert_array_equal(fit.residuals("deviance"), fit.residuals("response"))


def test_the_seed_moves_quantile_residuals_within_their_steps():
    fit = fit_of("poisson")
    one, two = fit.residuals("quantile", seed=1), fit.residuals("quantile", seed=2)
    assert not np.array_equal(one, two)
    np.testing.assert_array_equal(one, fit.residuals("quantile", seed=1))
    below, upto = stats.poisson.cdf(fit._design.y - 1, fit.fitted()), stats.poisson.cdf(fit._design.y, fit.fitted())
    for scores in (one, two):
        uniform = stats.norm.cdf(scores)
        assert ((uniform >= below - 1e-9) & (uniform <= upto + 1e-9)).all()


def test_an_ordinal_response_is_no_number():
    fit = fit_of("ordinal")
    for kind in ("response", "pearson", "scaled"):
        with pytest.raises(OptionError, match="use 'deviance' or 'quantile'"):
            fit.residuals(kind)
    table = fit.predict(data_of("ordinal"))
    codes = [int(value) - 1 for value in data_of("ordinal")["rating"].to_pylist()]
    own = np.column_stack([table[name].to_numpy() for name in table.column_names])[np.arange(72), codes]
    np.testing.assert_allclose(fit.fitted(), own, rtol=1e-12)
    np.testing.assert_allclose(fit.residuals("deviance") ** 2, -2 * np.log(own), rtol=1e-9)


def test_a_response_with_other_categories_is_another_response():
    data = data_of("bernoulli").to_pandas()
    data["y"] = data["y"].astype(str).replace({"n": "no"})
    with pytest.raises(ranef.DataError, match="other categories"):
        fit_of("bernoulli").residuals(data=data)


def test_an_ordinal_response_has_quantile_residuals_by_default():
    fit = fit_of("ordinal")
    np.testing.assert_array_equal(fit.residuals(), fit.residuals("quantile"))
