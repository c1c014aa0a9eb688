"""family="ratings": a mean within the scale; the likelihood is that of as many trials as the scale has steps."""

from __future__ import annotations

import numpy as np
import pytest

import ranef
from ranef.errors import OptionError
from ranef.evaluate import evaluate_fit
from ranef.family import binomial, ratings

TERMS = "1 + x + (1 | user) + (1 | item)"
VECTORS = "latent(user, item, rank=2)"


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    users, items, rows = 50, 40, 1200
    user, item, x = rng.integers(0, users, rows), rng.integers(0, items, rows), rng.standard_normal(rows)
    eta = 1 + 0.3 * x + 0.7 * rng.standard_normal(users)[user] + 0.7 * rng.standard_normal(items)[item]
    eta += np.sum(rng.standard_normal((users, 2))[user] * 0.8 * rng.standard_normal((items, 2))[item], axis=1)
    up = rng.binomial(8, 1 / (1 + np.exp(-eta)))
    return {"rating": 1 + up / 2, "up": up, "down": 8 - up, "x": x, "user": user, "item": item}


def test_the_family_is_binomial_on_its_scale():
    family, steps = ratings().with_categories(("1", "1.5", "3", "5")), binomial()
    assert (family.low, family.high, family.step, family.steps) == (1, 5, 0.5, 8)
    y, eta = np.repeat([1, 1.5, 3, 4.5, 5.0], 3), np.tile([-2, 0.3, 5.0], 5)
    share, trials, none = (y - 1) / 4, np.full(len(y), 8.0), np.zeros(0)
    twice = np.full(len(y), 2.0)
    for weights, of in ((None, trials), (twice, 2 * trials)):
        for one, other in zip(
            family.derivatives(y, eta, weights, none), steps.derivatives(share, eta, of, none), strict=True
        ):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(family.loglik(y, eta, weights, none), steps.loglik(share, eta, of, none))
    # how often a row counts is no number of trials
    one = steps.constant(share, trials)
    assert family.constant(y, None) == pytest.approx(one, rel=1e-12)
    assert family.constant(y, twice) == pytest.approx(2 * one, rel=1e-12)
    every = np.arange(1, 5.5, 0.5)
    below, upto = family.cdf(every, np.full(9, 0.7), None, none)
    np.testing.assert_allclose(np.concatenate([below[1:], [1]]), upto, atol=1e-12)
    mean = family.mean(np.array([0.7]))
    np.testing.assert_allclose(np.sum(every * (upto - below)), mean, rtol=1e-10)
    np.testing.assert_allclose(np.sum((every - mean) ** 2 * (upto - below)), family.variance(mean, none), rtol=1e-10)
    np.testing.assert_allclose(family.eta_at(every[:-1], upto[:-1], None, none), 0.7, atol=1e-8)
    drawn = family.simulate(np.random.default_rng(0), np.full(4000, 0.7), None, none)
    assert set(drawn) <= set(every)
    assert abs(drawn.mean() - mean[0]) < 4 * np.sqrt(family.variance(mean, none)[0] / 4000)


def test_a_mixed_model_is_that_of_its_steps(data, tmp_path):
    fit = ranef.fit(f"rating ~ {TERMS}", data, family="ratings")
    other = ranef.fit(f"cbind(up, down) ~ {TERMS}", data, family="binomial")
    np.testing.assert_allclose(fit.model.beta, other.model.beta, atol=1e-6)
    assert fit.loglik == pytest.approx(other.loglik, abs=1e-6)
    np.testing.assert_allclose(fit.predict(data), 1 + 4 * other.predict(data), atol=1e-6)
    np.testing.assert_allclose(fit.residuals("response"), data["rating"] - fit.fitted(), atol=1e-12)
    limits, counts = (one.predict(data, interval="prediction") for one in (fit, other))
    np.testing.assert_allclose(limits["lwr"], 1 + 4 * counts["lwr"])
    np.testing.assert_allclose(limits["upr"], 1 + 4 * counts["upr"])
    assert set(fit.predict(data, type="rating")) <= set(np.arange(1, 5.5, 0.5))
    assert "Family: ratings (logit)" in str(fit)
    fit.save(tmp_path / "model")
    np.testing.assert_array_equal(ranef.load(tmp_path / "model").predict(data), fit.predict(data))
    found = evaluate_fit(fit, data, baselines=("mean",), replicates=10)
    assert found.estimate("RMSE").value == pytest.approx(np.sqrt(np.mean((fit.predict(data) - data["rating"]) ** 2)))
    assert set(fit.simulate()["sim_1"]) <= set(np.arange(1, 5.5, 0.5))


@pytest.mark.parametrize("method", ["vb", "map"])
def test_latent_terms_are_those_of_its_steps(data, method):
    formula = f"rating ~ {TERMS} + {VECTORS}"
    fit = ranef.fit(formula, data, family="ratings", method=method, validation=0.1)
    other = ranef.fit(
        formula.replace("rating", "cbind(up, down)"), data, family="binomial", method=method, validation=0.1
    )
    np.testing.assert_allclose(fit.predict(data), 1 + 4 * other.predict(data), atol=1e-4)
    assert 1 < fit.predict(data).min() < fit.predict(data).max() < 5
    if method == "vb":
        # the flat prior of two fixed effects is over coordinates that weights have scaled
        assert fit.elbo + np.log(8) == pytest.approx(other.elbo, abs=1e-2)


def test_refusals(data):
    with pytest.raises(OptionError, match=r"takes evenly spaced numbers"):
        ranef.fit(f"r ~ {TERMS}", {**data, "r": np.where(data["rating"] == 3, 3.2, data["rating"])}, family="ratings")
    with pytest.raises(OptionError, match=r"clip=\(1, 5\) is for a Gaussian response"):
        ranef.fit(f"rating ~ {TERMS} + {VECTORS}", data, family="ratings", clip=(1, 5))
    with pytest.raises(OptionError, match="gibbs"):
        ranef.fit(f"rating ~ {TERMS}", data, family="ratings", method="gibbs")
