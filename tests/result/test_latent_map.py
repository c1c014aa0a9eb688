"""method="map": the penalised likelihood of latent terms, against the objective written out from its definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, log_expit
from scipy.stats import binom, poisson

import ranef
from ranef.errors import ConvergenceWarning, OptionError

USERS, ITEMS, ROWS = 9, 7, 150
FORMULA = " ~ 1 + (1 | user) + latent(user, item, rank=2)"
FAMILIES = {
    "gaussian": "y",
    "bernoulli": "b",
    "poisson": "c",
    "gamma": "g",
    "negative_binomial": "c",
    "ordinal": "o",
    "binomial": "cbind(s, f)",
}


def simulated():
    rng = np.random.default_rng(2)
    user, item = rng.integers(0, USERS, ROWS), rng.integers(0, ITEMS, ROWS)
    eta = 0.3 + 0.5 * rng.standard_normal(USERS)[user]
    eta += np.sum(0.8 * rng.standard_normal((USERS, 2))[user] * rng.standard_normal((ITEMS, 2))[item], axis=1)
    successes = rng.binomial(5, 1 / (1 + np.exp(-eta)))
    return {
        "y": eta + rng.standard_normal(ROWS),
        "b": (eta + rng.logistic(size=ROWS) > 0).astype(int),
        "c": rng.poisson(np.exp(0.5 * eta)),
        "g": np.exp(0.5 * eta) * rng.gamma(3, 1 / 3, ROWS),
        "o": np.digitize(eta + rng.standard_normal(ROWS), [-1, 0, 1]),
        "s": successes,
        "f": 5 - successes,
        "user": user,
        "item": item,
        "w": rng.uniform(0.5, 2, ROWS),
        "job": np.array(list("pqr"))[user % 3],
    }


@pytest.fixture(scope="module")
def data():
    return simulated()


def objective(name, data, penalty, weights=None):
    """Of intercept, effects, vectors, flat in this order."""

    def value(flat):
        intercept, effects = flat[0], flat[1 : 1 + USERS]
        p = flat[1 + USERS : 1 + 3 * USERS].reshape(USERS, 2)
        q = flat[1 + 3 * USERS :].reshape(ITEMS, 2)
        eta = intercept + effects[data["user"]] + np.sum(p[data["user"]] * q[data["item"]], axis=1)
        if name == "gaussian":
            loss = np.sum((1.0 if weights is None else weights) * (data["y"] - eta) ** 2)
        elif name == "binomial":
            loss = -2 * np.sum(binom.logpmf(data["s"], 5, expit(eta)))
        elif name == "poisson":
            loss = -2 * np.sum(poisson.logpmf(data["c"], np.exp(eta)))
        else:
            loss = -2 * np.sum(log_expit(np.where(data["b"], eta, -eta)))
        return loss + penalty["user"] * (np.sum(effects**2) + np.sum(p**2)) + penalty["item"] * np.sum(q**2)

    return value


@pytest.mark.parametrize(
    ("name", "weights"),
    [("gaussian", None), ("gaussian", "w"), ("bernoulli", None), ("poisson", None), ("binomial", None)],
)
def test_no_place_is_better_than_the_mode(data, name, weights):
    penalty = {"user": 2.0, "item": 1.0}
    fit = ranef.fit(
        FAMILIES[name] + FORMULA,
        data,
        family=name,
        method="map",
        penalty=penalty,
        weights=weights,
        tolerance=1e-12,
        max_iterations=5000,
    )
    vectors = [np.empty((n, 2)) for n in (USERS, ITEMS)]
    for own, (field,) in zip(vectors, fit.model.latent[0].sides, strict=True):
        own[np.array(field.levels.values, dtype=int)] = field.vectors
    modes = np.empty(USERS)
    modes[np.array(fit.model.groups[0].levels.values, dtype=int)] = fit.model.groups[0].modes[:, 0]
    found = np.concatenate([fit.model.beta, modes, *(own.ravel() for own in vectors)])
    value = objective(name, data, penalty, None if weights is None else data[weights])
    # what the rows say of the curvature is of the order of ten
    step = 1e-5
    slope = [(value(found + step * e) - value(found - step * e)) / (2 * step) for e in np.eye(len(found))]
    assert np.max(np.abs(slope)) < 0.02
    away = found + 0.3 * np.random.default_rng(0).standard_normal(len(found))
    least = minimize(value, away, method="L-BFGS-B", options={"maxiter": 5000, "maxfun": 500_000})
    assert value(found) < least.fun + 1e-3
    if name == "gaussian":
        residual = data["y"] - fit.fitted()
        square = np.mean((1.0 if weights is None else data[weights]) * residual**2)
        np.testing.assert_allclose(fit.sigma**2, square, rtol=1e-5)
        variance = {row.grp: row.vcov for row in fit.model.varcorr}["user"]
        np.testing.assert_allclose(variance * penalty["user"], fit.sigma**2, rtol=1e-9)
    np.testing.assert_allclose(fit.history[-1].deviance, value(found), rtol=1e-6)
    for (field,), name_of in zip(fit.model.latent[0].sides, penalty, strict=True):
        np.testing.assert_allclose(fit.sigma**2 / np.diag(field.covariance), penalty[name_of], rtol=1e-9)


@pytest.mark.parametrize("penalty", [None, 1.5])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_objective_never_rises(data, name, penalty):
    formula = FAMILIES[name] + FORMULA.replace("user, item", "user + job, item")
    fit = ranef.fit(formula, data, family=name, method="map", penalty=penalty, max_iterations=500)
    values = np.array([one.deviance for one in fit.history])
    assert np.max(np.diff(values)) < 1e-6 * abs(values[0])
    assert fit.converged
    text = str(fit.summary())
    assert f"Penalised {'sum of squares' if name == 'gaussian' else 'deviance'}" in text
    assert "Penalty" in text
    fitted = fit.predict(data)
    if name == "ordinal":
        # of each row's own category
        fitted = np.column_stack([fitted[column] for column in fitted])[np.arange(ROWS), data["o"]]
    np.testing.assert_allclose(fit.fitted(), fitted, rtol=1e-6)


def test_learned_penalties_predict_as_variational_bayes_does(data):
    rows = {name: column[:120] for name, column in data.items()}
    rest = {name: column[120:] for name, column in data.items()}
    vb, mode = (ranef.fit("y" + FORMULA, rows, method=method).predict(rest) for method in ("vb", "map"))
    assert np.corrcoef(vb, mode)[0, 1] > 0.9


def test_saved_and_loaded_and_any_number_of_threads(data, tmp_path):
    fits = [
        ranef.fit("b" + FORMULA, data, family="bernoulli", method="map", penalty=1.0, threads=threads)
        for threads in (1, 2)
    ]
    np.testing.assert_array_equal(fits[0].fitted(), fits[1].fitted())
    fits[0].save(tmp_path / "model")
    again = ranef.load(tmp_path / "model")
    limits = again.predict(data, interval="confidence")
    np.testing.assert_array_equal(limits["fit"], fits[0].predict(data))
    assert np.all(limits["lwr"] < limits["upr"])


def test_what_does_not_go_together_is_an_error(data):
    with pytest.raises(OptionError, match=r"'users' is no factor of the formula\. Did you mean 'user'"):
        ranef.fit("y" + FORMULA, data, method="map", penalty={"users": 1.0})
    for wrong in (0, -1.0, "5", float("nan")):
        with pytest.raises(OptionError, match=r"penalty=.*give a positive number"):
            ranef.fit("y" + FORMULA, data, method="map", penalty=wrong)
    with pytest.raises(OptionError, match="and to method='map'"):
        ranef.fit("y" + FORMULA, data, penalty=1.0)
    with pytest.warns(ConvergenceWarning, match="penalised likelihood still rises"):
        fit = ranef.fit("y" + FORMULA, data, method="map", max_iterations=2)
    with pytest.raises(OptionError, match="penalised likelihood"):
        fit.loglik  # noqa: B018
    assert "objective" in repr(fit)
