"""latent() and fm() from a formula to predictions, with known truth."""

from __future__ import annotations

import numpy as np
import pytest

import ranef
from ranef.errors import ConvergenceWarning, OptionError

USERS, ITEMS, ROWS, RANK = 120, 60, 6000, 2


def simulated(seed=0):
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, USERS, ROWS), rng.integers(0, ITEMS, ROWS)
    p, q = 0.9 * rng.standard_normal((USERS, RANK)), 0.9 * rng.standard_normal((ITEMS, RANK))
    eta = 3 + 0.5 * rng.standard_normal(USERS)[user] + 0.4 * rng.standard_normal(ITEMS)[item]
    eta += np.sum(p[user] * q[item], axis=1)
    genres = np.array(["a", "a|b", "b|c", "c", "d|a"])[rng.integers(0, 5, ITEMS)]
    return {
        "y": eta + 0.5 * rng.standard_normal(ROWS),
        "user": np.char.add("u", user.astype(str)),
        "item": item,
        "genres": genres[item],
        "job": np.array(list("xyz"))[user % 3],
        "week": rng.integers(0, 8, ROWS),
    }, eta


FORMULA = "y ~ 1 + (1 | user) + (1 | item) + latent(user, item, rank=3)"


@pytest.fixture(scope="module")
def data():
    return simulated()


@pytest.fixture(scope="module")
def fit(data):
    table, _ = data
    train = {name: column[:-1000] for name, column in table.items()}
    return ranef.fit(FORMULA, train)


def test_recovers_what_generated_the_data(fit, data):
    table, eta = data
    test = {name: column[-1000:] for name, column in table.items()}
    error = fit.predict(test) - eta[-1000:]
    # a tenth of the signal's standard deviation of 1.1; the noise has 0.5
    assert np.sqrt(np.mean(error**2)) < 0.22
    assert abs(fit.sigma - 0.5) < 0.03
    assert fit.converged
    vcov = {row.grp: row.vcov for row in fit.model.varcorr}
    assert 0.15 < vcov["user"] < 0.4
    assert 0.08 < vcov["item"] < 0.3
    # both sides have the same diagonal covariance, descending; the third component is next to nothing
    covariances = [side[0].covariance for side in fit.model.latent[0].sides]
    np.testing.assert_allclose(covariances[0], covariances[1], atol=1e-8)
    sds = np.sqrt(np.diag(covariances[0]))
    assert sds[0] > sds[1] > 0.6
    assert sds[2] < 0.3


def test_intervals_hold_as_often_as_they_say(fit, data):
    table, _ = data
    test = {name: column[-1000:] for name, column in table.items()}
    limits = fit.predict(test, interval="prediction")
    inside = np.mean((limits["lwr"] <= test["y"]) & (test["y"] <= limits["upr"]))
    assert 0.93 < inside < 0.97


def test_the_bound_never_falls(fit):
    bounds = [-one.deviance / 2 for one in fit.model.info.history]
    assert min(np.diff(bounds)) > -1e-3
    assert np.isfinite(fit.elbo)


def test_saved_and_loaded_it_predicts_the_same(fit, data, tmp_path):
    table, _ = data
    fit.save(tmp_path / "model")
    again = ranef.load(tmp_path / "model")
    rows = {name: column[:50] for name, column in table.items()}
    one, two = (each.predict(rows, interval="prediction") for each in (fit, again))
    for name in ("fit", "lwr", "upr"):
        np.testing.assert_array_equal(one[name], two[name])
    assert "latent(user, item, rank = 3), rank 3" in str(again.summary())


def test_fitted_values_are_predictions_of_the_rows(fit, data):
    table, _ = data
    train = {name: column[:-1000] for name, column in table.items()}
    np.testing.assert_allclose(fit.fitted(), fit.predict(train), rtol=1e-12)


def test_parts(fit, data):
    table, _ = data
    rows = {name: column[:20] for name, column in table.items()}
    parts = [fit.predict(rows, include=part) for part in ("fixed", "user", "item", "latent")]
    np.testing.assert_allclose(np.sum(parts, axis=0), fit.predict(rows))
    np.testing.assert_allclose(fit.predict(rows, exclude="latent(user, item, rank=3)"), sum(parts[:3]))


def test_new_levels_have_the_populations_value_and_more_uncertainty(fit, data):
    table, _ = data
    row = {name: column[:1] for name, column in table.items()}
    new = {**row, "user": np.array(["somebody"])}
    with pytest.warns(ranef.errors.UnknownLevelWarning):
        found = fit.predict(new, interval="prediction")
    np.testing.assert_allclose(found["fit"], fit.predict(row, include=["fixed", "item"]))
    known = fit.predict(row, interval="prediction")
    assert found["upr"][0] - found["lwr"][0] > known["upr"][0] - known["lwr"][0]


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ 1 + (1 | user) + latent(user + job, item + bag(genres), rank=2)",
        "y ~ 1 + (1 | user) + (1 | item) + latent(user + bag(history(item)), item, rank=2)",
        "y ~ 1 + (1 | item) + fm(user, item, job, rank=2)",
        "y ~ 1 + (1 | user) + latent(user, rw(week), rank=1)",
        "y ~ 1 + latent(user, item, rank=2)",
        'y ~ 1 + (1 | user) + (1 | item) + latent(user, item, rank="auto")',
    ],
)
def test_other_terms(data, formula, tmp_path):
    table, _ = data
    fit = ranef.fit(formula, table, max_iterations=400, tolerance=1e-3)
    bounds = [-one.deviance / 2 for one in fit.model.info.history]
    assert min(np.diff(bounds)) > -1e-2
    np.testing.assert_allclose(fit.fitted(), fit.predict(table), rtol=1e-10)
    fit.save(tmp_path / "model")
    limits = ranef.load(tmp_path / "model").predict(table, interval="confidence")
    np.testing.assert_allclose(limits["fit"], fit.predict(table))
    assert np.all(limits["lwr"] < limits["upr"])
    if "auto" in formula:
        assert 2 <= fit.model.latent[0].rank <= 6


def test_any_number_of_threads_gives_the_same_bits(data):
    table, _ = data
    with pytest.warns(ConvergenceWarning, match="the bound still rises"):
        fits = [ranef.fit(FORMULA, table, threads=threads, max_iterations=3) for threads in (1, 2)]
    np.testing.assert_array_equal(fits[0].fitted(), fits[1].fitted())


def test_what_does_not_go_together_is_an_error(fit, data):
    table, _ = data
    with pytest.raises(OptionError, match="method='reml' is not known"):
        ranef.fit(FORMULA, table, method="reml")
    with pytest.raises(OptionError, match=r"not for family='poisson'.*use method='map'"):
        ranef.fit(FORMULA, table, family="poisson", method="vb")
    with pytest.raises(OptionError, match="covariance="):
        ranef.fit(FORMULA, table, covariance=fit)
    for ask in ("loglik", "aic", "bic", "deviance"):
        with pytest.raises(OptionError, match="lower bound"):
            getattr(fit, ask)
    with pytest.raises(OptionError, match="random effects only"):
        fit.simulate()
    with pytest.raises(OptionError, match="wald"):
        fit.confint(method="profile")
