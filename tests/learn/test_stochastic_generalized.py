"""Whole fits of generalized models by the stochastic solver, against the exact one and against the truth."""

from __future__ import annotations

import numpy as np
import pytest

import ranef
from ranef.data import simulate

ROWS, USERS, ITEMS = 4000, 120, 80


def simulated(name: str) -> tuple[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(3)
    u, i, x = rng.integers(0, USERS, ROWS), rng.integers(0, ITEMS, ROWS), rng.normal(size=ROWS)
    eta = -0.3 + 0.5 * x + 0.8 * rng.normal(size=USERS)[u] + 0.6 * rng.normal(size=ITEMS)[i]
    mean = np.exp(eta)
    y = {
        "bernoulli": lambda: (rng.random(ROWS) < 1 / (1 + np.exp(-eta))).astype(int),
        "poisson": lambda: rng.poisson(mean),
        "negative_binomial": lambda: rng.negative_binomial(2.0, 2 / (2 + mean)),
        "gamma": lambda: rng.gamma(3.0, mean / 3),
        "ordinal": lambda: np.digitize(eta + rng.logistic(size=ROWS), [-1.5, 0.0, 1.2]),
    }[name]()
    return "y ~ 1 + x + (1 | u) + (1 | i)", {"y": y, "x": x, "u": u, "i": i}


@pytest.mark.parametrize("method", ["laplace", "joint"])
@pytest.mark.parametrize("name", ["bernoulli", "poisson", "negative_binomial", "gamma", "ordinal"])
def test_estimates_are_the_exact_ones_but_for_their_error(name: str, method: str) -> None:
    formula, data = simulated(name)
    exact, found = (
        ranef.fit(formula, data, family=name, method=method, solver=solver, probes=32)
        for solver in ("exact", "stochastic")
    )
    assert found.solver == "stochastic"
    assert found.converged
    for a, b in zip(exact.model.varcorr, found.model.varcorr, strict=True):
        assert 0 < b.mcse < 0.05 * b.se
        assert abs(a.vcov - b.vcov) < 4 * b.mcse + 0.005 * b.se
        assert b.se == pytest.approx(a.se, rel=0.1)
    errors = np.sqrt(np.diag(exact.model.vcov))
    assert np.all(np.abs(found.model.beta - exact.model.beta) < 0.02 * errors)
    np.testing.assert_allclose(np.sqrt(np.diag(found.model.vcov)), errors, rtol=0.05)
    for a, b in zip(exact.model.info.family_parameters, found.model.info.family_parameters, strict=True):
        assert abs(a.value - b.value) < 0.1 * a.se
        assert b.se == pytest.approx(a.se, rel=0.05)
    assert abs(found.model.info.deviance - exact.model.info.deviance) < 4 * found.model.info.deviance_error + 0.01
    assert found.model.info.information == "observed"
    for a, b in zip(exact.model.groups, found.model.groups, strict=True):
        np.testing.assert_allclose(b.modes, a.modes, atol=0.02 * np.abs(a.modes).max())
        # posterior standard deviations: a part is known exactly, the rest is from 32 draws
        ratio = np.sqrt(b.conditional / a.conditional).ravel()
        assert abs(np.median(ratio) - 1) < 0.04
        assert np.abs(ratio - 1).max() < 0.2


def test_random_slopes_nested_factors_weights_and_offset() -> None:
    rng = np.random.default_rng(5)
    formula, data = simulated("poisson")
    data |= {
        "part": data["u"] * 3 + rng.integers(0, 3, ROWS),
        "w": rng.integers(1, 4, ROWS),
        "o": rng.normal(size=ROWS),
    }
    formula = "y ~ 1 + x + offset(o) + (1 + x | u) + (1 | part) + (1 | i)"
    exact, found = (
        ranef.fit(formula, data, family="poisson", solver=solver, probes=64, weights="w")
        for solver in ("exact", "stochastic")
    )
    assert found.converged
    for a, b in zip(exact.model.varcorr, found.model.varcorr, strict=True):
        assert abs(a.vcov - b.vcov) < 4 * b.mcse + 0.01 * b.se
    assert np.all(np.abs(found.model.beta - exact.model.beta) < 0.02 * np.sqrt(np.diag(exact.model.vcov)))


def test_the_seed_decides_and_threads_change_no_bit() -> None:
    formula, data = simulated("ordinal")
    fits = [
        ranef.fit(formula, data, family="ordinal", solver="stochastic", probes=4, seed=seed, threads=threads)
        for seed, threads in ((1, 1), (1, 2), (2, 2))
    ]
    first, second, other = (fit.model for fit in fits)
    assert first.varcorr == second.varcorr
    assert first.info.deviance == second.info.deviance
    for a, b in zip(first.groups, second.groups, strict=True):
        np.testing.assert_array_equal(a.modes, b.modes)
        np.testing.assert_array_equal(a.conditional, b.conditional)
    assert first.varcorr != other.varcorr


def test_a_saved_model_predicts_as_the_fit_does(tmp_path) -> None:
    formula, data = simulated("bernoulli")
    fit = ranef.fit(formula, data, family="bernoulli", solver="stochastic")
    fit.save(tmp_path / "model")
    rows = {name: values[:100] for name, values in data.items()}
    kept, again = (
        one.predict(rows, type="link", interval="confidence") for one in (fit, ranef.load(tmp_path / "model"))
    )
    for column in ("fit", "lwr", "upr"):
        np.testing.assert_array_equal(np.asarray(kept[column]), np.asarray(again[column]))
    exact = ranef.fit(formula, data, family="bernoulli", solver="exact").predict(
        rows, type="link", interval="confidence"
    )
    width, reference = (np.asarray(p["upr"]) - np.asarray(p["lwr"]) for p in (kept, exact))
    assert abs(np.median(width / reference) - 1) < 0.05


def test_auto_takes_the_path_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    formula, data = simulated("bernoulli")
    assert ranef.fit(formula, data, family="bernoulli").solver == "exact"
    monkeypatch.setattr("ranef.learn.gaussian.EXACT_COLUMNS", 50)
    assert ranef.fit(formula, data, family="bernoulli").solver == "stochastic"
    one_factor = "y ~ 1 + x + (1 | u)"
    assert ranef.fit(one_factor, data, family="bernoulli", solver="stochastic").solver == "exact"
    assert ranef.fit(one_factor, data, family="bernoulli", quadrature=5, solver="stochastic").solver == "exact"


@pytest.mark.filterwarnings("ignore::ranef.errors.SingularFitWarning")
def test_no_variance_ends_at_the_boundary() -> None:
    rng = np.random.default_rng(0)
    data = {"y": rng.integers(0, 2, 4000), "g": rng.integers(0, 100, 4000), "h": rng.integers(0, 60, 4000)}
    formula = "y ~ 1 + (1 | g) + (1 | h)"
    exact, found = (ranef.fit(formula, data, family="bernoulli", solver=solver) for solver in ("exact", "stochastic"))
    assert found.converged
    for a, b in zip(exact.model.varcorr, found.model.varcorr, strict=True):
        assert abs(a.vcov - b.vcov) < 0.1 * a.se if np.isfinite(a.se) else b.sdcor < 0.05


@pytest.mark.parametrize(("family", "rows"), [("poisson", 60_000), ("bernoulli", 120_000), ("ordinal", 80_000)])
def test_the_truth_comes_back(family: str, rows: int) -> None:
    # many rows a level: Laplace's own bias is then small
    made = simulate(
        rows,
        {"user": 700, "item": 400},
        sd={"user": 0.7, "item": 0.5},
        fixed={} if family == "ordinal" else {"(Intercept)": 0.2, "x": 0.3},
        activity=0.5,
        family=family,
        seed=4,
    )
    fit = ranef.fit(made.formula, made.data, family=family, solver="stochastic")
    assert fit.converged
    for row in fit.model.varcorr:
        assert abs(row.vcov - made.truth.covariance[row.grp][0, 0]) < 3.5 * row.se
        assert row.mcse < 0.05 * row.se
    for row in fit.fixef().to_pylist():
        if row["term"] in made.truth.beta:
            assert abs(row["estimate"] - made.truth.beta[row["term"]]) < 3.5 * row["se"]
    for parameter, truth in zip(fit.model.info.family_parameters, made.truth.thresholds or (), strict=True):
        assert abs(parameter.value - truth) < 3.5 * parameter.se


@pytest.mark.parametrize("name", ["bernoulli", "ordinal"])
def test_standard_errors_are_the_exact_ones(name: str) -> None:
    """By average information those of variances are a tenth too small here."""
    own = {"thresholds": [-1.0, 0.0, 1.2]} if name == "ordinal" else {}
    fixed = {"x": 0.5} if name == "ordinal" else {"(Intercept)": -1.5, "x": 0.5}
    simulated = simulate(
        4_000, {"user": 400, "item": 60}, family=name, sd={"user": 1.2, "item": 0.5}, fixed=fixed, seed=1, **own
    )
    errors = []
    for solver in ("exact", "stochastic"):
        found = ranef.fit(simulated.formula, simulated.data, family=name, solver=solver)
        table = found.varcorr()
        errors.append(np.array([*table["se"], *found.fixef()["se"]], dtype=float))
    np.testing.assert_allclose(errors[1], errors[0], rtol=0.02)
