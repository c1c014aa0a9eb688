"""Bags, histories and walks beside dense matrices: the covariance of all rows, and kriging to new ones."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize

import ranef
from ranef.errors import OptionError, UnknownLevelWarning

N = 220


@pytest.fixture(scope="module")
def rows() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    parts = np.array([f"g{k}" for k in range(8)])
    lists = ["|".join(rng.choice(parts, rng.integers(0, 4), replace=False)) for _ in range(25)]
    item, user = rng.integers(0, 25, N), rng.integers(0, 15, N)
    week = rng.choice([1, 2, 3, 5, 6, 9, 10, 14], N).astype(float)
    x = rng.normal(size=N)
    effects, slopes, users = rng.normal(0, 1, 8), rng.normal(0, 0.5, 8), rng.normal(0, 0.7, 15)
    share = np.array([_share(lists[i], parts) for i in item])
    walk = np.cumsum(rng.normal(0, 0.5, 20))
    y = 1 + 0.5 * x + share @ effects + x * (share @ slopes) + users[user] + walk[week.astype(int)] + rng.normal(size=N)
    return {"y": y, "x": x, "user": user, "item": item, "week": week, "genres": np.array([lists[i] for i in item])}


def _share(text: str, parts: np.ndarray) -> np.ndarray:
    found = np.array([part in text.replace(" ", "").split("|") for part in parts], float)
    return found / max(np.sqrt(found.sum()), 1)


PARTS = np.array([f"g{k}" for k in range(8)])


def bag_kernel(one, other, covariance) -> np.ndarray:
    """Covariance of the bags' part between two sets of rows; a 2 x 2 matrix has a slope for ``x``."""
    a, b = (np.array([_share(text, PARTS) for text in rows["genres"]]) for rows in (one, other))
    za, zb = (np.column_stack([np.ones(len(rows["x"])), rows["x"]])[:, : len(covariance)] for rows in (one, other))
    return (za @ covariance @ zb.T) * (a @ b.T)


def walk_kernel(one, other, variance, times) -> np.ndarray:
    """Brownian motion from zero, one mean step before the first time."""
    steps = np.diff(np.unique(times))
    start = times.min() - steps.mean()
    return variance * (np.minimum.outer(one["week"], other["week"]) - start)


def user_kernel(one, other, variance) -> np.ndarray:
    return variance * np.equal.outer(one["user"], other["user"])


def design(rows) -> np.ndarray:
    return np.column_stack([np.ones(len(rows["x"])), rows["x"]])


def deviance(rows, v, reml) -> float:
    """-2 log-likelihood of ``y ~ N(X beta, v)``, profiled over beta."""
    x, y, n = design(rows), rows["y"], len(rows["y"])
    vi = np.linalg.inv(v)
    information = x.T @ vi @ x
    left = y - x @ np.linalg.solve(information, x.T @ vi @ y)
    value = np.linalg.slogdet(v)[1] + left @ vi @ left + (n - x.shape[1] * reml) * np.log(2 * np.pi)
    return float(value + (np.linalg.slogdet(information)[1] if reml else 0))


def kriged(rows, new, v, c, prior):
    """Mean of new linear predictors and their variance, beta estimated; covariances of rows, with new, and of new."""
    x, xn = design(rows), design(new)
    vi = np.linalg.inv(v)
    information = x.T @ vi @ x
    beta = np.linalg.solve(information, x.T @ vi @ rows["y"])
    gap = xn - c @ vi @ x
    mean = xn @ beta + c @ vi @ (rows["y"] - x @ beta)
    return mean, np.diag(prior - c @ vi @ c.T + gap @ np.linalg.inv(information) @ gap.T)


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_the_likelihood_and_its_maximum(rows, method) -> None:
    fit = ranef.fit("y ~ x + (1 + x | bag(genres)) + (1 | user) + (1 | rw(week))", rows, method=method, solver="exact")

    def at(covariance, users, walk, residual) -> float:
        v = bag_kernel(rows, rows, covariance) + user_kernel(rows, rows, users)
        v += walk_kernel(rows, rows, walk, rows["week"]) + residual * np.eye(N)
        return deviance(rows, v, method == "reml")

    rows_ = {(one.grp, one.var1, one.var2): one.vcov for one in fit.model.varcorr}
    bag = np.array(
        [
            [rows_["bag(genres)", "(Intercept)", None], rows_["bag(genres)", "(Intercept)", "x"]],
            [rows_["bag(genres)", "(Intercept)", "x"], rows_["bag(genres)", "x", None]],
        ]
    )
    own = (rows_["user", "(Intercept)", None], rows_["rw(week)", "(Intercept)", None], rows_["Residual", None, None])
    assert fit.deviance == pytest.approx(at(bag, *own), rel=1e-10)
    if method == "reml":  # the search is the same
        return
    root = np.linalg.cholesky(bag)

    def objective(p) -> float:
        lower = np.array([[np.exp(p[0]), 0], [p[1], np.exp(p[2])]])
        return at(lower @ lower.T, *np.exp(p[3:]))

    begin = np.array([np.log(root[0, 0]), root[1, 0], np.log(root[1, 1]), *np.log(own)])
    found = minimize(objective, begin + 0.1, method="BFGS", options={"gtol": 1e-4})
    np.testing.assert_allclose(found.x, begin, atol=2e-3)
    assert fit.deviance <= found.fun + 1e-6


@pytest.mark.parametrize("solver", ["exact", "stochastic"])
def test_effects_and_predictions_are_those_of_kriging(rows, solver, tmp_path) -> None:
    formula = "y ~ x + (1 + x | bag(genres)) + (1 | user) + (1 | rw(week))"
    given = {
        "grp": ["bag(genres)"] * 3 + ["user", "rw(week)", "Residual"],
        "var1": ["(Intercept)", "x", "(Intercept)", "(Intercept)", "(Intercept)", None],
        "var2": [None, None, "x", None, None, None],
        "vcov": [1.1, 0.4, 0.2, 0.5, 0.3, 0.9],
    }
    fit = ranef.fit(formula, rows, covariance=given, solver=solver)
    bag = np.array([[1.1, 0.2], [0.2, 0.4]])
    new = {
        "x": np.array([0.3, -1.0, 0.0, 2.0, 0.5, 0.1]),
        "user": np.array([3, 3, 99, 7, 0, 1]),
        "week": np.array([5.0, 4.0, 12.5, 20.0, 1.0, 7.0]),  # seen, between two, between, beyond
        "genres": np.array(["g1|g2", "g3", "", "g0|g1|g5", "g7 | g2", "new|g1"]),
    }

    def covariance(one, other) -> np.ndarray:
        c = bag_kernel(one, other, bag) + user_kernel(one, other, 0.5)
        return c + walk_kernel(one, other, 0.3, rows["week"])

    v, c, prior = covariance(rows, rows) + 0.9 * np.eye(N), covariance(new, rows), covariance(new, new)
    # a new part has an effect of its own: half of the squared weight, which the kernel of known parts has not
    z = np.array([1, new["x"][5]])
    halved = np.ones(6)
    halved[5] = np.sqrt(0.5)
    shrunk = bag_kernel({**new}, rows, bag)
    c += shrunk * (halved - 1)[:, None]
    prior += bag_kernel(new, new, bag) * (np.outer(halved, halved) - 1)
    prior[5, 5] += 0.5 * z @ bag @ z
    mean, variance = kriged(rows, new, v, c, prior)
    fit.save(tmp_path / "model")
    for one in (fit, ranef.load(tmp_path / "model")):
        with pytest.warns(UnknownLevelWarning):
            found = one.predict(new, interval="prediction")
        half = (np.asarray(found["upr"]) - np.asarray(found["lwr"])) / 2 / 1.959963984540054
        digits = 1e-7 if solver == "exact" else 2e-4
        np.testing.assert_allclose(found["fit"], mean, rtol=digits, atol=digits)
        # 32 draws: a standard deviation is off by an eighth
        np.testing.assert_allclose(half, np.sqrt(variance + 0.9), rtol=1e-7 if solver == "exact" else 0.1)
    weeks = np.unique(rows["week"])
    at = {"week": weeks, "x": np.zeros(8), "user": np.full(8, -1), "genres": np.full(8, "")}
    c = walk_kernel(at, rows, 0.3, rows["week"])
    x, vi = design(rows), np.linalg.inv(v)
    modes = c @ vi @ (rows["y"] - x @ np.linalg.solve(x.T @ vi @ x, x.T @ vi @ rows["y"]))
    spread = np.diag(walk_kernel(at, at, 0.3, rows["week"]) - c @ vi @ c.T)
    table = fit.ranef("rw(week)", sd=True)
    np.testing.assert_allclose(table["(Intercept)"], modes, rtol=1e-6 if solver == "exact" else 1e-3, atol=1e-3)
    np.testing.assert_allclose(table["sd_(Intercept)"], np.sqrt(spread), rtol=1e-6 if solver == "exact" else 0.5)
    np.testing.assert_allclose(fit.fitted(), fit.predict(rows), rtol=1e-12)


def test_reml_does_not_depend_on_where_a_walk_begins(rows, monkeypatch) -> None:
    formula = "y ~ x + (1 | rw(week))"
    first = ranef.fit(formula, rows)
    from ranef.design.membership import Walk

    gap = Walk.gap.func
    wider = property(lambda self: np.where(self.first, 50.0, gap(self)))
    monkeypatch.setattr(Walk, "gap", wider)
    again = ranef.fit(formula, rows)
    assert again.deviance == pytest.approx(first.deviance, rel=1e-9)
    np.testing.assert_allclose(
        [row.vcov for row in again.model.varcorr], [row.vcov for row in first.model.varcorr], 1e-5
    )


def test_the_unit_of_time_is_free(rows) -> None:
    weeks = ranef.fit("y ~ x + (1 | rw(week))", rows)
    seconds = ranef.fit("y ~ x + (1 | rw(week))", {**rows, "week": rows["week"] * 604_800 + 1e9})
    assert seconds.deviance == pytest.approx(weeks.deviance, rel=1e-9)
    one, other = (np.array([row.vcov for row in fit.model.varcorr]) for fit in (weeks, seconds))
    np.testing.assert_allclose(other * [604_800, 1], one, rtol=1e-6)
    np.testing.assert_allclose(
        seconds.ranef("rw(week)")["(Intercept)"], weeks.ranef("rw(week)")["(Intercept)"], rtol=1e-6
    )


def test_a_bag_of_one_is_a_factor(rows) -> None:
    rows = {**rows, "one": np.array([f"u{user:02d}" for user in rows["user"]])}
    bag = ranef.fit("y ~ (1 + x || bag(one))", rows)
    factor = ranef.fit("y ~ (1 + x || one)", rows)
    assert bag.deviance == pytest.approx(factor.deviance, rel=1e-10)
    for name in ("(Intercept)", "x", "sd_(Intercept)"):
        np.testing.assert_allclose(
            bag.ranef("bag(one)", sd=True)[name], factor.ranef("one", sd=True)[name], rtol=1e-5, atol=1e-8
        )


def test_walks_within_a_factor(rows) -> None:
    """Separate walks have independent levels; each begins a mean step before its own first."""
    fit = ranef.fit("y ~ x + (1 | user:rw(week))", rows, solver="exact")
    user, week = rows["user"], rows["week"]
    own = [np.unique(week[user == u]) for u in range(15)]
    step = np.concatenate([np.diff(times) for times in own]).mean()
    begin = np.array([times[0] - step for times in own])
    kernel = np.equal.outer(user, user) * (np.minimum.outer(week, week) - begin[user])
    variance, residual = (row.vcov for row in fit.model.varcorr)
    assert fit.deviance == pytest.approx(deviance(rows, variance * kernel + residual * np.eye(N), True), rel=1e-10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnknownLevelWarning)
        new = {"x": [0.0, 0.0], "user": [2, 50], "week": [own[2][-1] + 3, 1.0]}
        found = fit.predict(new, interval="prediction")
    last = fit.ranef("user:rw(week)")
    place = list(last["level"]).index(f"2:{own[2][-1]:g}")
    assert found["fit"][0] == pytest.approx(fit.fixef()["estimate"][0] + last["(Intercept)"][place])
    assert found["fit"][1] == pytest.approx(fit.fixef()["estimate"][0])


def test_simulated_responses_have_the_models_covariance(rows) -> None:
    fit = ranef.fit("y ~ x + (1 | bag(genres)) + (1 | rw(week))", rows)
    variances = {row.grp: row.vcov for row in fit.model.varcorr}
    drawn = np.column_stack(list(fit.simulate(4000, seed=3).values()))
    v = bag_kernel(rows, rows, np.array([[variances["bag(genres)"]]]))
    v += walk_kernel(rows, rows, variances["rw(week)"], rows["week"]) + variances["Residual"] * np.eye(N)
    found = np.cov(drawn)
    # the standard error of a covariance; the largest of 24,000 correlated ones
    error = np.sqrt((v**2 + np.outer(np.diag(v), np.diag(v))) / 4000)
    assert np.max(np.abs(found - v) / error) < 6


def test_history(rows, tmp_path) -> None:
    formula = "y ~ x + (1 | bag(history(item, user)))"
    fit = ranef.fit(formula, rows)
    share = np.zeros((15, 25))
    share[rows["user"], rows["item"]] = 1
    share /= np.sqrt(share.sum(axis=1))[:, None]
    variance, residual = (row.vcov for row in fit.model.varcorr)
    z = share[rows["user"]]
    assert fit.deviance == pytest.approx(deviance(rows, variance * z @ z.T + residual * np.eye(N), True), rel=1e-9)
    fit.save(tmp_path / "model")
    loaded = ranef.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(rows), fit.predict(rows))
    np.testing.assert_allclose(fit.predict(rows), fit.fitted(), rtol=1e-12)
    assert list(loaded.ranef("bag(history(item, user))")["level"]) == list(range(25))
    with pytest.warns(UnknownLevelWarning):
        found = loaded.predict({"x": [0.0], "user": [99], "item": [3]})
    assert found[0] == pytest.approx(fit.fixef()["estimate"][0])


@pytest.fixture(scope="module")
def clicks(rows) -> dict[str, np.ndarray]:
    many = {name: np.tile(values, 3) for name, values in rows.items()}
    rng = np.random.default_rng(5)
    eta = many["y"] - many["y"].mean()
    many["click"] = (rng.random(len(eta)) < 1 / (1 + np.exp(-eta))).astype(int)
    many["stars"] = np.digitize(eta + rng.logistic(size=len(eta)), [-2, 0, 2])
    many["one"] = np.array([f"u{user:02d}" for user in many["user"]])
    return many


def test_clicks(clicks, tmp_path) -> None:
    formula = "click ~ x + (1 | bag(genres)) + (1 | rw(week)) + (1 | user)"
    exact = ranef.fit(formula, clicks, family="bernoulli", solver="exact")
    stochastic = ranef.fit(formula, clicks, family="bernoulli", solver="stochastic")
    np.testing.assert_allclose(stochastic.fixef()["estimate"], exact.fixef()["estimate"], rtol=0.02)
    for one, other in zip(exact.model.varcorr, stochastic.model.varcorr, strict=True):
        assert abs(one.vcov - other.vcov) < 5 * other.mcse + 0.02 * one.vcov
    exact.save(tmp_path / "model")
    loaded = ranef.load(tmp_path / "model")
    new = {"x": [0.0, 1.0], "user": [2, 3], "week": [4.0, 30.0], "genres": ["g1|g2", ""]}
    found, again = exact.predict(new, interval="confidence"), loaded.predict(new, interval="confidence")
    np.testing.assert_array_equal(found["fit"], again["fit"])
    np.testing.assert_array_equal(found["lwr"], again["lwr"])
    drawn = stochastic.predict(new, interval="confidence")
    np.testing.assert_allclose(drawn["lwr"], exact.predict(new, interval="confidence")["lwr"], atol=0.1)
    level = exact.ranef("rw(week)", sd=True)
    np.testing.assert_allclose(
        level["sd_(Intercept)"], stochastic.ranef("rw(week)", sd=True)["sd_(Intercept)"], rtol=0.5
    )


def test_clicks_of_bags_of_one(clicks) -> None:
    bag = ranef.fit("click ~ x + (1 | bag(one))", clicks, family="bernoulli")
    factor = ranef.fit("click ~ x + (1 | one)", clicks, family="bernoulli")
    assert bag.deviance == pytest.approx(factor.deviance, rel=1e-8)
    np.testing.assert_allclose(bag.fixef()["se"], factor.fixef()["se"], rtol=1e-3)
    np.testing.assert_allclose(
        bag.ranef("bag(one)", sd=True)["sd_(Intercept)"], factor.ranef("one", sd=True)["sd_(Intercept)"], rtol=1e-3
    )
    with pytest.raises(OptionError, match="rows have several levels"):
        ranef.fit("click ~ x + (1 | bag(one))", clicks, family="bernoulli", quadrature=5)


def test_stars(clicks, tmp_path) -> None:
    fit = ranef.fit("stars ~ x + (1 | bag(one)) + (1 | rw(week))", clicks, family="ordinal")
    factor = ranef.fit("stars ~ x + (1 | one) + (1 | rw(week))", clicks, family="ordinal")
    assert fit.deviance == pytest.approx(factor.deviance, rel=1e-8)
    new = {"x": [0.0, 1.0], "one": ["u02", "u03"], "week": [4.0, 3.0]}
    one, other = (one.predict(new, interval="confidence") for one in (fit, factor))
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-3)


@pytest.mark.filterwarnings("ignore::ranef.errors.ConvergenceWarning")
def test_draws_of_the_posterior(rows, clicks, tmp_path) -> None:
    formula = "y ~ x + (1 | bag(genres)) + (1 | user) + (1 | rw(week))"
    fit = ranef.fit(formula, rows, method="gibbs", draws=400, warmup=200, chains=2)
    reml = ranef.fit(formula, rows)
    for name in ("bag(genres)", "rw(week)", "user"):
        mean, sd = (np.asarray(fit.ranef(name, sd=True)[key]) for key in ("(Intercept)", "sd_(Intercept)"))
        assert np.all(np.abs(mean - reml.ranef(name)["(Intercept)"]) < sd)
        # over all parameters: the intercept, which a walk's level trades with, and the variances too
        np.testing.assert_allclose(sd, reml.ranef(name, sd=True, kind="prediction")["sd_(Intercept)"], rtol=0.35)
    new = {"x": [0.0, 1.0], "user": [2, 3], "week": [4.0, 30.0], "genres": ["g1|g2", "g9"]}
    fit.save(tmp_path / "model")
    with pytest.warns(UnknownLevelWarning):
        found = ranef.load(tmp_path / "model").predict(new, interval="prediction")
    with pytest.warns(UnknownLevelWarning):
        expected = reml.predict(new, interval="prediction")
    width, other = (np.asarray(one["upr"]) - np.asarray(one["lwr"]) for one in (found, expected))
    assert np.all(np.abs(np.asarray(found["fit"]) - expected["fit"]) < 0.15 * other)
    np.testing.assert_allclose(width, other, rtol=0.25)
    binary = ranef.fit(
        "click ~ x + (1 | bag(one)) + (1 | rw(week))", clicks, family="bernoulli", method="gibbs", draws=200, chains=2
    )
    assert np.isfinite(binary.fixef()["estimate"]).all()
