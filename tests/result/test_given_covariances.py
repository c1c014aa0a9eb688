"""Given covariances through the front door: the dense mixed-model equations, and searches over what is left."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import solve_triangular
from scipy.stats import chi2

import ranef

FORMULA = "y ~ x + (1 + x | g) + (1 | h)"
ROWS = 240


def rows(seed: int = 3) -> pd.DataFrame:
    """Twenty levels with a random slope, crossed with seven."""
    rng = np.random.default_rng(seed)
    g, h = rng.integers(0, 20, ROWS), rng.integers(0, 7, ROWS)
    g[:20], h[:7] = np.arange(20), np.arange(7)
    x = rng.normal(size=ROWS)
    b = rng.multivariate_normal([0, 0], [[1.0, 0.3], [0.3, 0.5]], 20)
    eta = 0.5 + 0.7 * x + b[g, 0] + b[g, 1] * x + rng.normal(size=7)[h]
    y = eta + 1.3 * rng.normal(size=ROWS)
    liked = (rng.uniform(size=ROWS) < 1 / (1 + np.exp(-eta))).astype(int)
    return pd.DataFrame({"y": y, "liked": liked, "x": x, "g": g, "h": h, "w": rng.uniform(0.5, 2.0, ROWS)})


def table(g=((1.4, 0.2), (0.2, 0.8)), h: float | None = 0.6, residual: float | None = 1.5) -> pd.DataFrame:
    """Rows in the columns of VarCorr; None leaves a term out."""
    out = []
    if g is not None:
        out += [("g", "(Intercept)", None, g[0][0]), ("g", "x", None, g[1][1]), ("g", "x", "(Intercept)", g[0][1])]
    out += [] if h is None else [("h", "(Intercept)", None, h)]
    out += [] if residual is None else [("Residual", None, None, residual)]
    return pd.DataFrame(out, columns=["grp", "var1", "var2", "vcov"])


def columns(data: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """X, and Z: intercepts of g, slopes of g, intercepts of h."""
    g, h, x = (data[name].to_numpy() for name in ("g", "h", "x"))
    one = np.eye(20)[g]
    return np.column_stack([np.ones(len(x)), x]), np.column_stack([one, one * x[:, None], np.eye(7)[h]])


def prior(g, h) -> np.ndarray:
    out = np.zeros((47, 47))
    out[:40, :40] = np.kron(np.asarray(g), np.eye(20))
    out[40:, 40:] = h * np.eye(7)
    return out


def deviance(data: pd.DataFrame, g, h: float, residual: float, reml: bool) -> float:
    """-2 log-likelihood of the rows by their covariance matrix."""
    x, z = columns(data)
    v = z @ prior(g, h) @ z.T + np.diag(residual / data["w"].to_numpy())
    lower = np.linalg.cholesky(v)
    half = solve_triangular(lower, np.column_stack([x, data["y"]]), lower=True)
    _, square, _, _ = np.linalg.lstsq(half[:, :2], half[:, 2])
    value = 2 * np.log(np.diag(lower)).sum() + square[0]
    if reml:
        value += np.linalg.slogdet(half[:, :2].T @ half[:, :2])[1]
    return value + (ROWS - (2 if reml else 0)) * np.log(2 * np.pi)


def newton(value, at: np.ndarray, step: np.ndarray) -> tuple[float, np.ndarray]:
    """What a Newton step by differences would gain, and the eigenvalues of the Hessian."""
    moves = np.diag(step)
    gradient = np.array([(value(at + m) - value(at - m)) / 2 for m in moves])
    hessian = np.array(
        [
            [(value(at + a + b) - value(at + a - b) - value(at - a + b) + value(at - a - b)) / 4 for b in moves]
            for a in moves
        ]
    )
    return gradient @ np.linalg.solve(hessian, gradient) / 2, np.linalg.eigvalsh(hessian)


@pytest.mark.parametrize("solver", ["exact", "stochastic"])
@pytest.mark.parametrize("method", ["reml", "ml"])
def test_coefficients_for_given_variances_solve_the_mixed_model_equations(method, solver):
    data, given = rows(), table()
    fit = ranef.fit(FORMULA, data, covariance=given, weights="w", method=method, solver=solver)
    x, z = columns(data)
    s, w = prior([[1.4, 0.2], [0.2, 0.8]], 0.6), data["w"].to_numpy() / 1.5
    both = np.column_stack([x, z])
    left = both.T @ (w[:, None] * both)
    left[2:, 2:] += np.linalg.inv(s)
    solution, inverse = np.linalg.solve(left, both.T @ (w * data["y"].to_numpy())), np.linalg.inv(left)
    np.testing.assert_allclose(fit.fixef()["estimate"], solution[:2], rtol=1e-7)
    np.testing.assert_allclose(fit.fixef()["se"], np.sqrt(np.diag(inverse)[:2]), rtol=1e-7)
    table_g, table_h = fit.ranef("g", sd=True, kind="prediction"), fit.ranef("h", sd=True, kind="prediction")
    np.testing.assert_allclose(table_g["(Intercept)"], solution[2:22], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(table_g["x"], solution[22:42], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(table_h["(Intercept)"], solution[42:], rtol=1e-6, atol=1e-7)
    spread = np.sqrt(np.diag(inverse)[2:])
    found = np.concatenate([table_g["sd_(Intercept)"], table_g["sd_x"], table_h["sd_(Intercept)"]])
    # 32 draws, corrected by what is known exactly
    np.testing.assert_allclose(found, spread, rtol=1e-6 if solver == "exact" else 0.25)
    truth = deviance(data, [[1.4, 0.2], [0.2, 0.8]], 0.6, 1.5, method == "reml")
    error = 1e-6 if solver == "exact" else 5 * 2 * fit.loglik_mcse + 1e-6
    assert fit.deviance == pytest.approx(truth, abs=error)
    assert fit.df == 2
    assert fit.iterations == 1
    assert fit.converged
    held = fit.varcorr()
    np.testing.assert_allclose(held["vcov"], [1.4, 0.8, 0.2, 0.6, 1.5], rtol=1e-12)
    assert held["se"].isna().all()
    assert fit.model.info.held == ("g", "h", "Residual")


# which of g, h and the residual are not given
PARTS: dict[str, dict[str, None]] = {
    "a scalar term": {"g": None, "residual": None},
    "a term with a slope": {"h": None, "residual": None},
    "all but sigma": {"residual": None},
    "sigma": {"g": None, "h": None},
    "all but a term": {"g": None},
}


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("part", PARTS)
def test_what_is_left_is_learned_beside_what_is_given(part, method):
    data, given = rows(), table(**PARTS[part])
    fit = ranef.fit(FORMULA, data, covariance=given, weights="w", method=method, solver="exact")
    groups = set(given["grp"])

    found = fit.varcorr()
    at = found["vcov"].to_numpy()

    def value(free: np.ndarray) -> float:
        v = at.copy()
        v[learned] = free
        return deviance(data, [[v[0], v[2]], [v[2], v[1]]], v[3], v[4], method == "reml")

    learned = np.flatnonzero(~found["grp"].isin(groups))
    assert fit.deviance == pytest.approx(value(at[learned]), abs=1e-6)
    gain, size = newton(value, at[learned], 1e-3 * np.abs(at[learned]))
    assert 0 <= gain < 1e-6
    assert np.all(size > 0)
    assert fit.df == 2 + len(learned)
    for group in ("g", "h", "Residual"):
        own, want = found[found["grp"] == group], given[given["grp"] == group]
        if group in groups:
            np.testing.assert_allclose(own["vcov"], want["vcov"], rtol=1e-10)
        assert own["se"].isna().all() if group in groups else np.isfinite(own["se"]).all()


def test_standard_errors_are_those_of_the_observed_information_over_what_is_learned():
    data, given = rows(), table(g=None, residual=None)
    fit = ranef.fit(FORMULA.replace("1 + x", "1"), data, covariance=given, weights="w", method="ml")
    at = fit.varcorr().set_index("grp")["vcov"]

    def value(variances: np.ndarray) -> float:
        return deviance(data, np.diag([variances[0], 0.0]), 0.6, variances[1], False)

    centre = at[["g", "Residual"]].to_numpy()
    step = 1e-3 * centre
    hessian = np.empty((2, 2))
    for i in range(2):
        for j in range(2):
            a, b = np.eye(2)[i] * step, np.eye(2)[j] * step
            corners = value(centre + a + b) - value(centre + a - b) - value(centre - a + b) + value(centre - a - b)
            hessian[i, j] = corners / (4 * step[i] * step[j])
    want = np.sqrt(np.diag(np.linalg.inv(hessian / 2)))
    np.testing.assert_allclose(fit.varcorr().set_index("grp")["se"][["g", "Residual"]], want, rtol=1e-3)


def test_the_stochastic_search_beside_given_covariances_agrees_with_the_exact_one():
    data, given = rows(), table(h=None, residual=None)
    exact = ranef.fit(FORMULA, data, covariance=given, solver="exact").varcorr()
    drawn = ranef.fit(FORMULA, data, covariance=given, solver="stochastic", probes=64).varcorr()
    assert (drawn["mcse"] > 0).sum() == 2  # of h and the residual
    learned = drawn["mcse"] > 0
    off = (drawn["vcov"] - exact["vcov"])[learned] / drawn["mcse"][learned]
    assert (off.abs() < 4).all()
    np.testing.assert_allclose(drawn["vcov"][~learned], exact["vcov"][~learned], rtol=1e-10)


def test_a_fit_gives_its_covariances_and_a_refit_keeps_them():
    data = rows()
    sample = ranef.fit(FORMULA, data[:150])
    for fit in (sample.refit(data, covariance="keep"), ranef.fit(FORMULA, data, covariance=sample)):
        pd.testing.assert_frame_equal(fit.varcorr().iloc[:, :5], sample.varcorr().iloc[:, :5])
        assert fit.df == 2
        assert fit.nobs == ROWS
    # a fit with given covariances keeps them when it is refitted
    assert ranef.fit(FORMULA, data, covariance=table()).refit(data[:200]).df == 2
    assert fit.update(covariance=None).df == sample.df


def test_the_optimum_is_its_own_profile():
    data = rows()
    free = ranef.fit(FORMULA, data, method="ml")
    rows_of_g = free.varcorr().query("grp == 'g'")
    fit = ranef.fit(FORMULA, data, method="ml", covariance=rows_of_g)
    assert fit.deviance == pytest.approx(free.deviance, abs=1e-8)
    np.testing.assert_allclose(fit.varcorr()["vcov"], free.varcorr()["vcov"], rtol=1e-4)


def test_a_given_variance_of_zero_and_a_singular_covariance():
    data = rows()
    zero = ranef.fit(FORMULA, data, covariance=table(h=0.0), method="ml")
    assert zero.deviance == pytest.approx(
        ranef.fit("y ~ x + (1 + x | g)", data, covariance=table(h=None), method="ml").deviance, abs=1e-8
    )
    assert np.all(zero.ranef("h")["(Intercept)"] == 0)
    tied = table(g=((1.0, 0.5), (0.5, 0.25)))
    fit = ranef.fit(FORMULA, data, covariance=tied)
    np.testing.assert_allclose(fit.varcorr()["vcov"][:3], [1.0, 0.25, 0.5], rtol=1e-10)
    modes = fit.ranef("g")
    np.testing.assert_allclose(modes["x"], modes["(Intercept)"] / 2, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("method", ["laplace", "joint"])
def test_a_generalized_model_learns_what_is_not_given(method):
    data = rows()
    formula = "liked ~ x + (1 | g) + (1 | h)"
    given = table(g=None, residual=None)
    fit = ranef.fit(formula, data, family="bernoulli", method=method, covariance=given)
    assert fit.df == 3
    assert fit.varcorr()["vcov"][1] == pytest.approx(0.6, rel=1e-12)
    variance = fit.varcorr()["vcov"][0]

    def value(g: float) -> float:
        both = pd.DataFrame({"grp": ["g", "h"], "var1": "(Intercept)", "var2": None, "vcov": [g, 0.6]})
        options = {"family": "bernoulli", "method": method, "covariance": both}
        return ranef.fit(formula, data, **options, tolerance=1e-10).deviance

    assert value(variance) == pytest.approx(fit.deviance, abs=1e-7)
    assert fit.deviance < value(variance * 1.02)
    assert fit.deviance < value(variance * 0.98)


def test_a_loaded_model_is_refitted_as_what_it_was(tmp_path):
    data = rows().assign(trials=3, stars=np.arange(ROWS) % 4, shift=0.1)
    models = {
        "clicks": ("liked ~ x + (1 | g)", {"family": "bernoulli", "link": "probit", "offset": "shift"}),
        "joint": ("liked ~ x + (1 | g)", {"family": "bernoulli", "method": "joint"}),
        "stars": ("stars ~ x + (1 | g)", {"family": ranef.ordinal(thresholds="equidistant")}),
        "ml": ("y ~ x + (1 | g)", {"method": "ml", "weights": "w"}),
    }
    for name, (formula, options) in models.items():
        fit = ranef.fit(formula, data, **options)
        fit.save(tmp_path / name)
        again = ranef.load(tmp_path / name).refit(data)
        assert (again.family, again.method) == (fit.family, fit.method)
        assert again.deviance == pytest.approx(fit.deviance, abs=1e-6)
        kept = ranef.load(tmp_path / name).refit(data, covariance="keep")
        assert kept.model.info.held == (("g", "Residual") if name == "ml" else ("g",))
        assert kept.df == fit.df - len(kept.model.info.held)


def test_terms_of_one_factor_are_given_by_their_own_names():
    data = rows()
    learned = ranef.fit("y ~ x + (1 + x || g)", data, method="ml")
    given = learned.varcorr().query("grp == 'g.1'")
    fit = ranef.fit("y ~ x + (1 + x || g)", data, method="ml", covariance=given)
    assert fit.model.info.held == ("g.1",)
    assert fit.deviance == pytest.approx(learned.deviance, abs=1e-7)
    np.testing.assert_allclose(fit.varcorr()["vcov"], learned.varcorr()["vcov"], rtol=1e-4)
    assert list(fit.varcorr()["se"].isna()) == [False, True, False]


@pytest.mark.parametrize("given", [{"g": None, "residual": None}, {"residual": None}])
@pytest.mark.parametrize("method", ["laplace", "joint"])
def test_the_stochastic_search_of_a_generalized_model_beside_given_covariances(method, given):
    data, formula = rows(), "liked ~ x + (1 + x | g) + (1 | h)"
    options = {"family": "bernoulli", "method": method, "covariance": table(**given)}
    exact = ranef.fit(formula, data, solver="exact", **options)
    drawn = ranef.fit(formula, data, solver="stochastic", probes=64, **options)
    assert drawn.df == exact.df
    assert drawn.solver == "stochastic"
    np.testing.assert_allclose(drawn.fixef()["estimate"], exact.fixef()["estimate"], atol=0.03)
    one, other = drawn.varcorr(), exact.varcorr()
    held = one["se"].isna()
    assert list(held) == list(other["se"].isna())
    np.testing.assert_allclose(one["vcov"][held], other["vcov"][held], rtol=1e-10)
    off = (one["vcov"] - other["vcov"])[~held]
    assert (off.abs() <= 4 * one["mcse"][~held] + 1e-6).all()
    assert drawn.deviance == pytest.approx(exact.deviance, abs=8 * drawn.loglik_mcse + 0.05)


@pytest.mark.parametrize(
    ("response", "family", "given"),
    [
        ("y", "gaussian", {"h": None, "residual": None}),
        ("y", "gaussian", {"h": None}),
        ("liked", "bernoulli", {"h": None, "residual": None}),
        ("liked", "bernoulli", {"residual": None}),
    ],
)
def test_profiles_hold_what_was_given(response, family, given):
    """At a limit a fit that is given this one too is worse by the quantile."""
    data, known = rows(), table(**given)
    formula = FORMULA.replace("y", response, 1)
    options = {"family": family, "method": "ml" if family == "gaussian" else "laplace"}
    fit = ranef.fit(formula, data, covariance=known, **options)
    found = pd.DataFrame(fit.confint("profile")).set_index("parameter")
    held = [name for name in found.index if name.rpartition("|")[2] in {*known["grp"]}]
    held += [] if "residual" in given else ["sigma"]
    assert found.loc[held, ["lower", "upper"]].isna().all(axis=None)
    quantile = chi2.ppf(0.95, 1)
    names = {"sd_(Intercept)|h": ("h", "(Intercept)"), "sigma": ("Residual", None)}
    for name in found.index.intersection(list(names)).difference(held):
        for limit in found.loc[name, ["lower", "upper"]]:
            rows_of_it = pd.DataFrame([(*names[name], None, limit**2)], columns=known.columns)
            there = ranef.fit(formula, data, covariance=pd.concat([known, rows_of_it]), **options)
            rise = there.deviance - fit.deviance
            assert rise == pytest.approx(quantile, abs=2e-3) if limit > 0 else rise < quantile, name
    for limit in found.loc["x", ["lower", "upper"]]:
        there = ranef.fit(
            formula.replace("~ x", "~ 1"),
            data.assign(known=limit * data["x"]),
            covariance=known,
            offset="known",
            **options,
        )
        assert there.deviance - fit.deviance == pytest.approx(quantile, abs=2e-3)


@pytest.mark.parametrize(
    ("family", "given"),
    [
        ("gaussian", {"grp": ["g", "Residual"], "var1": ["(Intercept)", None], "vcov": [0.5, 1.2]}),
        ("gaussian", {"grp": ["g"], "var1": ["(Intercept)"], "vcov": [0.5]}),
        ("poisson", {"grp": ["g"], "var1": ["(Intercept)"], "vcov": [0.5]}),
        ("negative_binomial", {"grp": ["g"], "var1": ["(Intercept)"], "vcov": [0.5]}),
    ],
)
def test_bootstrap_refits_hold_what_was_given(family, given):
    rng = np.random.default_rng(4)
    g = rng.integers(0, 12, 240)
    eta = 0.5 + rng.normal(0, 0.7, 12)[g]
    y = eta + rng.normal(0, 1.1, 240) if family == "gaussian" else rng.poisson(np.exp(eta) * rng.gamma(2.0, 0.5, 240))
    fit = ranef.fit("y ~ 1 + (1 | g)", {"y": y, "g": g}, family=family, covariance=given)
    wald, found = (
        pd.DataFrame(fit.confint(method, replicates=200)).set_index("parameter") for method in ("wald", "bootstrap")
    )
    assert found.loc["sd_(Intercept)|g", ["lower", "upper"]].isna().all()
    for name in found.index.difference(["sd_(Intercept)|g", *(["sigma"] if len(given["grp"]) == 2 else [])]):
        widths = [table.loc[name, "upper"] - table.loc[name, "lower"] for table in (wald, found)]
        assert widths[1] == pytest.approx(widths[0], rel=0.3), name
    one, again = (fit.confint("bootstrap", replicates=20) for _ in range(2))
    np.testing.assert_array_equal(np.asarray(one["lower"]), np.asarray(again["lower"]))
