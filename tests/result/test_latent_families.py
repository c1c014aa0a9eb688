"""Variational Bayes for logit and probit responses: the bound never falls, and the truth comes back."""

from __future__ import annotations

import numpy as np
import pytest

import ranef

USERS, ITEMS, ROWS = 60, 40, 6000


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    user, item = rng.integers(0, USERS, ROWS), rng.integers(0, ITEMS, ROWS)
    x = rng.standard_normal(ROWS)
    eta = 0.4 + 0.6 * x + 0.7 * rng.standard_normal(USERS)[user]
    eta += np.sum(rng.standard_normal((USERS, 2))[user] * rng.standard_normal((ITEMS, 2))[item], axis=1)
    successes = rng.binomial(4, 1 / (1 + np.exp(-eta)))
    return {
        "b": (eta + rng.logistic(size=ROWS) > 0).astype(int),
        "p": (eta + rng.standard_normal(ROWS) > 0).astype(int),
        "o": np.digitize(eta + rng.standard_normal(ROWS), [-1.5, 0, 2]),
        "s": successes,
        "f": 4 - successes,
        "x": x,
        "user": user,
        "item": item,
        "job": np.array(list("pqr"))[user % 3],
        "genres": np.array(["a", "a|b", "b|c", "c"])[item % 4],
        "w": rng.integers(1, 4, ROWS),
        "eta": eta,
    }


RESPONSES = {
    "logit": ("b", "bernoulli", "logit"),
    "probit": ("p", "bernoulli", "probit"),
    "trials": ("cbind(s, f)", "binomial", "logit"),
    "ordinal": ("o", "ordinal", "probit"),
}


@pytest.mark.parametrize("name", RESPONSES)
def test_recovers_what_generated_the_data(data, name):
    left, family, link = RESPONSES[name]
    train = {column: values[:5000] for column, values in data.items()}
    test = {column: values[5000:] for column, values in data.items()}
    fit = ranef.fit(f"{left} ~ x + (1 | user) + latent(user, item, rank=3)", train, family=family, link=link)
    assert fit.method == "vb"
    bounds = np.array([-one.deviance / 2 for one in fit.history])
    assert np.min(np.diff(bounds)) > -1e-6 * abs(bounds[0])
    assert fit.converged
    truth = test["eta"] - 0.4
    found = fit.predict(test, type="link")
    # 80 rows a user, a bit or two each: far above the 0.6 of the model without vectors
    assert np.corrcoef(found, truth)[0, 1] > 0.9
    beta = dict(zip(fit.fixef()["term"], fit.fixef()["estimate"], strict=True))
    se = dict(zip(fit.fixef()["term"], fit.fixef()["se"], strict=True))
    # vectors that are shrunk leave the coefficients on a slightly smaller scale
    assert abs(beta["x"] - 0.6) < 4 * se["x"] + 0.1
    sds = np.sqrt(np.diag(fit.model.latent[0].sides[0][0].covariance))
    assert 0.6 < sds[1] <= sds[0] < 1.4
    assert sds[2] < 0.4
    if family != "ordinal":
        # the bound is one of the log-likelihood with its constants
        null = ranef.fit(f"{left} ~ x", train, family=family, link=link)
        assert null.loglik < fit.elbo < 0
        limits = fit.predict(test, type="link", interval="confidence")
        inside = np.mean((limits["lwr"] <= test["eta"]) & (test["eta"] <= limits["upr"]))
        # independent factors know too little of what they do not know
        assert 0.65 < inside < 0.97


@pytest.mark.parametrize(
    "right",
    [
        "x + (0 + x | user) + latent(user + job, item + bag(genres), rank=2)",
        "x + fm(user, item, job, rank=2)",
        "1 + latent(user, item, rank=2) + latent(job, item, rank=1)",
    ],
)
@pytest.mark.parametrize("name", RESPONSES)
def test_the_bound_never_falls(data, name, right):
    left, family, link = RESPONSES[name]
    rows = {column: values[:800] for column, values in data.items()}
    weights = None if family == "binomial" else "w"
    fit = ranef.fit(
        f"{left} ~ {right}",
        rows,
        family=family,
        link=link,
        method="vb",
        weights=weights,
        tolerance=1e-3,
        max_iterations=400,
    )
    bounds = np.array([-one.deviance / 2 for one in fit.history])
    assert len(bounds) > 2
    assert np.min(np.diff(bounds)) > -1e-6 * abs(bounds[0])
    assert np.all(np.isfinite(np.asarray(fit.predict(rows, type="link"))))


def test_validation_rows_score_the_likelihood(data):
    rows = {column: values[:2000] for column, values in data.items()}
    fit = ranef.fit("b ~ x + latent(user, item, rank=2)", rows, family="bernoulli", validation=0.2)
    scores = [one.score for one in fit.history]
    # coins have log(2)
    assert min(scores) < 0.65
    assert fit.model.info.score == min(scores)
    assert "log loss" in str(fit.summary())
