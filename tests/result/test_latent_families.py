"""Latent terms of logit and probit responses: the bound never falls, and the truth comes back."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import xlogy

import ranef
from ranef.errors import DataError, FitError

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
@pytest.mark.filterwarnings("ignore::ranef.errors.SingularFitWarning")
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


@pytest.mark.filterwarnings("ignore::ranef.errors.ConvergenceWarning")
@pytest.mark.parametrize(
    ("left", "family", "method", "label"),
    [
        ("cbind(s, f)", "binomial", "vb", "log loss"),
        ("o", "ordinal", "map", "log loss"),
        ("o", "ratings", "map", "RMSE"),
        ("s", "poisson", "map", "mean deviance"),
        ("s", "negative_binomial", "map", "mean deviance"),
        ("g", "gamma", "map", "mean deviance"),
    ],
)
def test_validation_rows_are_scored_by_the_family(data, left, family, method, label):
    train, test = ({name: values[part] for name, values in data.items()} for part in (slice(1500), slice(1500, 2000)))
    train["g"], test["g"] = (np.exp(0.3 * rows["eta"]) * (1 + rows["w"] / 3) for rows in (train, test))
    options = {"family": family, "method": method, "max_iterations": 8, "tolerance": 1e-8}
    fit = ranef.fit(f"{left} ~ x + latent(user, item, rank=1)", train, validation=test, **options)
    scores = [one.score for one in fit.history]
    assert fit.model.info.score == min(scores)
    assert f"{label} {min(scores):.4f} on 500 validation rows" in str(fit.summary())
    if family == "ordinal":
        chances = np.column_stack(list(fit.predict(test, type="probabilities").values()))
        error = -np.mean(np.log(chances[np.arange(500), test["o"]]))
    else:
        mean, y = fit.predict(test), test["s"] if family != "gamma" else test["g"]
        if family == "binomial":
            error = -np.mean(y / 4 * np.log(mean) + (1 - y / 4) * np.log1p(-mean))
        elif family == "ratings":
            error = np.sqrt(np.mean((mean - test["o"]) ** 2))
        elif family == "poisson":
            error = 2 * np.mean(xlogy(y, y / mean) - y + mean)
        elif family == "gamma":
            error = 2 * np.mean((y - mean) / mean - np.log(y / mean))
        else:
            # between zero and that of Poisson counts
            assert 0 < min(scores) < 1.02 * 2 * np.mean(xlogy(y, y / mean) - y + mean)
            return
    # the additive part is fitted once more after the sweeps
    np.testing.assert_allclose(min(scores), error, rtol=0.02)


@pytest.mark.filterwarnings("ignore::ranef.errors.ConvergenceWarning")
@pytest.mark.parametrize("name", ["logit", "probit", "ordinal"])
def test_draws_recover_what_generated_the_data(data, name):
    left, family, link = RESPONSES[name]
    train = {column: values[:5000] for column, values in data.items()}
    test = {column: values[5000:] for column, values in data.items()}
    formula = f"{left} ~ x + (1 | user) + latent(user, item, rank=3)"
    fit = ranef.fit(formula, train, family=family, link=link, method="gibbs", draws=80, warmup=60)
    truth, found = test["eta"] - 0.4, fit.predict(test, type="link")
    assert np.corrcoef(found, truth)[0, 1] > 0.92
    # means over draws are not shrunk twice, as those of a bound are
    assert abs(np.polyfit(truth, found, 1)[0] - 1) < 0.15
    beta, sd = (float(np.asarray(fit.fixef()[column])[-1]) for column in ("estimate", "se"))
    assert abs(beta - 0.6) < 4 * sd
    assert 0.5 < fit.varcorr()["sdcor"][0] < 1.0
    if name == "ordinal":
        thresholds = np.array([one.value for one in fit.model.info.family_parameters])
        np.testing.assert_allclose(np.diff(thresholds), [1.5, 2.0], atol=0.15)
        chances = fit.predict(test, type="probabilities")
        assert np.mean(np.log(np.column_stack(list(chances.values()))[np.arange(1000), test["o"]])) > -0.95
        return
    limits = fit.predict(test, type="link", interval="confidence")
    # of few draws that follow one another
    assert 0.85 < np.mean((limits["lwr"] <= test["eta"]) & (test["eta"] <= limits["upr"])) < 0.99
    mean = fit.predict(test)
    assert np.mean((mean - test[left]) ** 2) < 0.18


@pytest.mark.filterwarnings("ignore::ranef.errors.ConvergenceWarning")
@pytest.mark.parametrize("name", RESPONSES)
def test_draws_are_the_same_for_any_number_of_threads(data, name, monkeypatch):
    monkeypatch.setattr("ranef.solve.sweeps.ROWS_A_PIECE", 200)
    left, family, link = RESPONSES[name]
    rows = {column: values[:900] for column, values in data.items()}
    weights = None if family == "binomial" else "w"
    fits = [
        ranef.fit(
            f"{left} ~ x + (0 + x | user) + latent(user + job, item + bag(genres), rank=2)",
            rows,
            family=family,
            link=link,
            method="gibbs",
            weights=weights,
            draws=8,
            warmup=4,
            threads=threads,
        )
        for threads in (1, 3)
    ]
    one, three = (np.asarray(fit.predict(rows, type="link")) for fit in fits)
    assert np.isfinite(one).all()
    np.testing.assert_array_equal(one, three)
    np.testing.assert_array_equal(*(fit.model.sample.parameters for fit in fits))


def test_separated_responses_are_refused(data):
    rows = {column: values[:600] for column, values in data.items()}
    rows["z"] = rows["b"] * 2.0
    with pytest.raises(FitError, match=r"the posterior is improper: .*Leave out what separates them"):
        ranef.fit("b ~ z + latent(user, item, rank=1)", rows, family="bernoulli", method="gibbs", draws=200, warmup=50)


def test_weights_of_latent_normals_are_whole_numbers(data):
    rows = {column: values[:100] for column, values in data.items()}
    half = np.full(100, 0.5)
    options = {"family": "bernoulli", "link": "probit", "method": "gibbs"}
    with pytest.raises(DataError, match="takes weights that are whole numbers"):
        ranef.fit("p ~ latent(user, item, rank=1)", rows, weights=half, **options)
