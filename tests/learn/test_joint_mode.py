"""Joint modes for given covariances: a dense Newton's method, the bound solver, and the gradient's printed norm."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef import ConvergenceWarning, OptionError
from ranef.family import family

ROWS, USERS, ITEMS = 600, 30, 12
COVARIANCE = {
    "grp": ["user", "user", "user", "item"],
    "var1": ["(Intercept)", "x", "(Intercept)", "(Intercept)"],
    "var2": [None, None, "x", None],
    "vcov": [0.8, 0.3, 0.2, 1.2],
}
FORMULA = "y ~ x + (1 + x | user) + (1 | item)"


def rows(name: str = "bernoulli", seed: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    user, item = np.arange(ROWS) % USERS, rng.integers(0, ITEMS, ROWS)
    x = rng.normal(size=ROWS)
    b = rng.multivariate_normal([0, 0], [[0.8, 0.2], [0.2, 0.3]], USERS)
    eta = -0.4 + 0.6 * x + b[user, 0] + b[user, 1] * x + 1.1 * rng.normal(size=ITEMS)[item]
    n = rng.integers(1, 9, ROWS)
    p = 1 / (1 + np.exp(-eta))
    cut = np.digitize(eta + rng.logistic(size=ROWS), [-1.0, 0.5, 2.0])
    y = {"bernoulli": rng.random(ROWS) < p, "poisson": rng.poisson(np.exp(eta / 2)), "ordinal": cut}.get(name, cut)
    data = pd.DataFrame({"x": x, "user": user, "item": item, "offset": 0.3 * rng.normal(size=ROWS), "n": n})
    data["y"] = rng.binomial(n, p) / n if name == "binomial" else np.asarray(y, int)
    return data


def dense(data: pd.DataFrame, name: str, link: str, weights=None) -> tuple[np.ndarray, np.ndarray]:
    """Mode and inverse Hessian of the penalised likelihood, all in one dense matrix: beta, users, items."""
    x = data["x"].to_numpy()
    one = np.eye(USERS)[data["user"]]
    both = np.column_stack([np.ones(ROWS), x, one, one * x[:, None], np.eye(ITEMS)[data["item"]]])
    penalty = np.zeros((both.shape[1],) * 2)
    penalty[2 : 2 + 2 * USERS, 2 : 2 + 2 * USERS] = np.kron(np.linalg.inv([[0.8, 0.2], [0.2, 0.3]]), np.eye(USERS))
    penalty[2 + 2 * USERS :, 2 + 2 * USERS :] = np.eye(ITEMS) / 1.2
    member, y = family(name, link), data["y"].to_numpy(float)
    at = np.zeros(both.shape[1])
    for _ in range(60):
        _, score, weight, _ = member.derivatives(y, both @ at + data["offset"].to_numpy(), weights, np.zeros(0))
        hessian = both.T @ (weight[:, None] * both) + penalty
        at = at + np.linalg.solve(hessian, both.T @ score - penalty @ at)
    return at, np.linalg.inv(hessian)


def coefficients(fit: ranef.Fit) -> np.ndarray:
    user, item = fit.ranef("user"), fit.ranef("item")
    return np.concatenate([fit.fixef()["estimate"], user["(Intercept)"], user["x"], item["(Intercept)"]])


@pytest.mark.parametrize("solver", ["exact", "stochastic", "bound"])
@pytest.mark.parametrize(
    ("name", "link"),
    [("bernoulli", "logit"), ("bernoulli", "probit"), ("binomial", "logit"), ("poisson", "log")],
)
def test_the_mode_is_that_of_a_dense_newton_method(name, link, solver):
    if solver == "bound" and name == "poisson":
        pytest.skip("no bound")
    data = rows(name)
    weights = data["n"].to_numpy(float) if name == "binomial" else None
    fit = ranef.fit(
        FORMULA, data, family=name, link=link, covariance=COVARIANCE, offset="offset", solver=solver,
        weights="n" if name == "binomial" else None, tolerance=1e-9,
    )  # fmt: skip
    at, inverse = dense(data, name, link, weights)
    np.testing.assert_allclose(coefficients(fit), at, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(fit.fixef()["se"], np.sqrt(np.diag(inverse)[:2]), rtol=1e-5)
    assert fit.method == "joint"
    assert fit.df == 2
    assert fit.converged
    norms = [step.gradient for step in fit.history]
    assert norms[0] == 1.0
    assert norms[-1] <= 1e-9
    objective = np.array([step.deviance for step in fit.history])
    assert np.all(np.diff(objective) <= 1e-9)


@pytest.mark.parametrize("name", ["bernoulli", "binomial"])
def test_the_bound_solver_goes_monotonically_to_the_mode_that_newton_finds(name):
    data, options = rows(name), {"family": name, "covariance": COVARIANCE, "tolerance": 1e-10}
    if name == "binomial":
        options["weights"] = "n"
    newton, bound = ranef.fit(FORMULA, data, **options), ranef.fit(FORMULA, data, solver="bound", **options)
    np.testing.assert_allclose(coefficients(bound), coefficients(newton), rtol=1e-8, atol=1e-8)
    assert bound.deviance == pytest.approx(newton.deviance, rel=1e-9)
    assert bound.solver == "bound"
    assert len(bound.history) > len(newton.history)
    objective = np.array([step.deviance for step in bound.history])
    assert np.all(np.diff(objective) <= 1e-10 * np.abs(objective[0]))
    # the curvature is between the bound's and its smallest, so that the error falls by a factor
    norms = np.array([step.gradient for step in bound.history])
    assert np.all(norms[4:] < norms[:-4])


@pytest.mark.parametrize("link", ["logit", "probit"])
def test_the_bound_solver_finds_thresholds_beside_joint_modes(link):
    data = rows("ordinal")
    fits = [
        ranef.fit(FORMULA, data, family="ordinal", link=link, covariance=COVARIANCE, solver=solver)
        for solver in ("auto", "bound")
    ]
    np.testing.assert_allclose(fits[1].thresholds()["estimate"], fits[0].thresholds()["estimate"], rtol=1e-6)
    np.testing.assert_allclose(fits[1].ranef("item")["(Intercept)"], fits[0].ranef("item")["(Intercept)"], rtol=1e-5)


def test_newton_from_an_earlier_fit_starts_where_that_ended():
    data = rows()
    first = ranef.fit(FORMULA, data, family="bernoulli", covariance=COVARIANCE, tolerance=1e-8)
    again = ranef.fit(FORMULA, data, family="bernoulli", covariance=COVARIANCE, tolerance=1e-8, start=first)
    assert len(again.history) == 1
    assert again.history[0].gradient < 1e-8
    # new levels begin at zero, the others where they were
    some = ranef.fit(FORMULA, data[data["user"] < 25], family="bernoulli", covariance=COVARIANCE)
    rest = some.refit(data)
    assert rest.history[0].gradient < 0.5
    np.testing.assert_allclose(coefficients(rest), coefficients(first), atol=1e-5)


def test_levels_match_by_value_whatever_their_type():
    data = rows()
    first = ranef.fit(FORMULA, data, family="bernoulli", covariance=COVARIANCE, tolerance=1e-8)
    for changed in (data.astype({"user": "int16"}), data.astype({"user": str}), data.astype({"user": float})):
        again = ranef.fit(FORMULA, changed, family="bernoulli", covariance=COVARIANCE, tolerance=1e-8, start=first)
        assert len(again.history) == 1


@pytest.mark.parametrize("solver", ["exact", "bound"])
def test_a_tolerance_below_rounding_ends_the_search(solver):
    with pytest.warns(ConvergenceWarning, match="not within the tolerance"):
        fit = ranef.fit(FORMULA, rows(), family="bernoulli", covariance=COVARIANCE, solver=solver, tolerance=1e-19)
    assert len(fit.history) < 200
    assert fit.history[-1].gradient < 1e-12


def test_rare_events_take_no_more_steps():
    rng = np.random.default_rng(1)
    user, item = np.arange(20_000) % 200, rng.integers(0, 50, 20_000)
    eta = -4.0 + rng.normal(size=200)[user] + 1.5 * rng.normal(size=50)[item]
    data = {"y": (rng.random(20_000) < 1 / (1 + np.exp(-eta))).astype(int), "user": user, "item": item}
    given = {"grp": ["user", "item"], "var1": ["(Intercept)"] * 2, "vcov": [1.0, 2.25]}
    fit = ranef.fit("y ~ 1 + (1 | user) + (1 | item)", data, family="bernoulli", covariance=given)
    assert len(fit.history) <= 8


def test_a_variance_of_zero_and_a_singular_covariance():
    data = rows()
    given = {**COVARIANCE, "vcov": [0.8, 0.2, 0.4, 0.0]}
    for solver in ("exact", "stochastic", "bound"):
        fit = ranef.fit(FORMULA, data, family="bernoulli", covariance=given, solver=solver, tolerance=1e-9)
        user = fit.ranef("user")
        np.testing.assert_allclose(user["x"], user["(Intercept)"] / 2, atol=1e-7)
        assert np.all(fit.ranef("item")["(Intercept)"] == 0)
        again = fit.refit(data)
        assert len(again.history) <= 2


def test_too_few_steps_are_said():
    with pytest.warns(ConvergenceWarning, match=r"not converged after 2 steps: the gradient's norm is .* tolerance"):
        fit = ranef.fit(FORMULA, rows(), family="bernoulli", covariance=COVARIANCE, max_iterations=2)
    assert not fit.converged
    assert len(fit.history) == 2


def test_the_summary_prints_the_norm():
    fit = ranef.fit(FORMULA, rows(), family="bernoulli", covariance=COVARIANCE)
    assert f"the gradient's norm is {fit.history[-1].gradient:.1g} of that without random effects" in str(fit)


CASES = {
    "no bound": ({"family": "poisson"}, r"family='poisson' with link='log' has none.*'bernoulli', 'binomial'"),
    "cloglog": ({"family": "bernoulli", "link": "cloglog"}, r"link='cloglog' has none"),
    "learned": ({"family": "bernoulli", "covariance": None}, r"every covariance is to be learned: give covariance="),
    "laplace": ({"family": "bernoulli", "method": "laplace"}, r"solver='bound' finds joint modes"),
    "sigma": ({"family": "gaussian"}, r"here the residual variance is to be learned"),
}


@pytest.mark.parametrize("case", CASES)
def test_where_there_is_no_bound_solver(case):
    options, words = CASES[case]
    with pytest.raises(OptionError, match=words):
        ranef.fit(FORMULA, rows(options["family"]), **{"covariance": COVARIANCE, "solver": "bound"} | options)


def test_a_gaussian_models_curvature_is_its_own_bound():
    data = rows()
    residual = {"grp": "Residual", "var1": None, "var2": None, "vcov": 0.2}
    given = {name: [*column, residual[name]] for name, column in COVARIANCE.items()}
    fits = [ranef.fit(FORMULA, data, covariance=given, solver=solver) for solver in ("auto", "bound")]
    np.testing.assert_array_equal(fits[0].fixef()["estimate"], fits[1].fixef()["estimate"])


@pytest.mark.parametrize("solver", ["exact", "stochastic"])
def test_thresholds_begin_where_an_earlier_fit_has_them(solver):
    options = {"family": "ordinal", "covariance": COVARIANCE, "solver": solver, "method": "joint"}
    first = ranef.fit(FORMULA, rows("ordinal"), **options)
    again = ranef.fit(FORMULA, rows("ordinal"), start=first, **options)
    assert again.iterations < first.iterations
    assert again.iterations <= 2
    np.testing.assert_allclose(again.thresholds()["estimate"], first.thresholds()["estimate"], rtol=1e-3)
