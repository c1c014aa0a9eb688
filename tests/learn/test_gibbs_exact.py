"""Posteriors by Gibbs sampling against numerical integration on a grid, and against likelihood fits to many rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from scipy.special import expit, logsumexp, ndtr

import ranef
from ranef.design.build import build_design
from ranef.engine.threads import engine
from ranef.family import Family, family
from ranef.formula import parse
from ranef.learn.chains import Lengths
from ranef.learn.convergence import mean_error
from ranef.learn.gibbs import fit_gibbs
from ranef.learn.hyperprior import Prior
from ranef.table import open_source

FloatArray = npt.NDArray[np.float64]
LEVELS = 8
FIXED_SD, SD, RESIDUAL, DF = 1.5, 1.0, 1.2, 3.0


@dataclass(frozen=True)
class Case:
    """A model with a fixed level (or thresholds) and one random intercept: a posterior in two or three dimensions."""

    family: str
    link: str
    rows: int
    trials: int = 1


CASES = {
    "gaussian": Case("gaussian", "identity", 3),
    "bernoulli": Case("bernoulli", "logit", 4),
    "rare": Case("bernoulli", "logit", 12),
    "binomial": Case("binomial", "logit", 2, 20),
    "large trials": Case("binomial", "logit", 1, 300),
    "probit": Case("bernoulli", "probit", 4),
    "ordinal": Case("ordinal", "probit", 4),
}

SHORT = ("bernoulli",)


def _data(name: str, case: Case) -> tuple[Family, pa.Table, FloatArray, FloatArray | None]:
    """Family, table, response as the family has it, and weights."""
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(LEVELS), case.rows)
    eta = rng.standard_normal(LEVELS)[g] - (2.5 if name == "rare" else 0.3)
    member = family(case.family, case.link)
    if case.family == "gaussian":
        y = eta + rng.standard_normal(len(g))
        return member, pa.table({"y": y, "g": g}), y, None
    if case.family == "ordinal":
        member = member.with_categories(("a", "b", "c"))
        y = member.simulate(rng, eta, None, np.array([-0.6, 0.7]))
        return member, pa.table({"y": np.array(["a", "b", "c"])[y.astype(int)], "g": g}), y, None
    p = expit(eta) if case.link == "logit" else ndtr(eta)
    k = rng.binomial(case.trials, p)
    if case.trials == 1:
        return member, pa.table({"y": k.astype(float), "g": g}), k.astype(float), None
    trials = np.full(len(g), float(case.trials))
    return member, pa.table({"y": k, "n": case.trials - k, "g": g}), k / trials, trials


def _grid(member: Family, y: FloatArray, weights: FloatArray | None, case: Case) -> dict[str, tuple[float, float]]:
    """Posterior mean and standard deviation of each parameter, by quadrature over levels and a grid over the rest."""
    nodes, heights = np.polynomial.hermite_e.hermegauss(60)
    if case.trials > 100:
        # a level says more than such nodes resolve
        nodes = np.linspace(-6, 6, 1_201)
        heights = np.exp(-(nodes**2) / 2)
    log_heights = np.log(heights / heights.sum())
    gaussian, ordinal = case.family == "gaussian", case.family == "ordinal"
    sd = np.exp(np.linspace(-6, 1.8, 60))
    if ordinal:
        axes = [np.linspace(-4, 3, 36), np.linspace(-2, 5, 36)]
        names = ["a|b", "b|c"]
    elif gaussian:
        axes = [np.linspace(-3.5, 3, 44), np.exp(np.linspace(-1.2, 1.2, 44))]
        names = ["(Intercept)", "sigma"]
    else:
        axes = [np.linspace(-6, 3, 90)]
        names = ["(Intercept)"]

    # every row at every node and size of the random effect
    steps = (sd[:, None] * nodes)[:, :, None] + np.zeros(len(y))
    many = np.broadcast_to(y, steps.shape).ravel()
    counts = None if weights is None else np.broadcast_to(weights, steps.shape).ravel()
    points = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)
    log_posterior = np.full((len(points), len(sd)), -np.inf)
    for i, point in enumerate(points):
        level, phi = (0.0, point) if ordinal else (point[0], np.array([2 * np.log(point[1])] if gaussian else []))
        if ordinal and point[0] >= point[1]:
            continue
        prior = -0.5 * float(np.sum(point**2 if ordinal else point[:1] ** 2)) / FIXED_SD**2
        if gaussian:
            # the measure of the logarithmic grid, and a half-t
            prior += float(np.log(point[1]) - (DF + 1) / 2 * np.log1p((point[1] / RESIDUAL) ** 2 / DF))
        by_row = member.loglik(many, (level + steps).ravel(), counts, phi)
        by_level = by_row.reshape(len(sd), len(nodes), LEVELS, -1).sum(axis=3)
        log_posterior[i] = prior + logsumexp(by_level + log_heights[:, None], axis=1).sum(axis=1)
    log_posterior += np.log(sd) - (DF + 1) / 2 * np.log1p((sd / SD) ** 2 / DF)
    weight = np.exp(log_posterior - log_posterior.max())
    weight /= weight.sum()
    # nothing is cut off
    assert weight[:, -1].sum() < 2e-3
    values = {name: np.broadcast_to(points[:, d, None], weight.shape) for d, name in enumerate(names)}
    values["sd_(Intercept)|g"] = np.broadcast_to(sd, weight.shape)
    out = {}
    for name, value in values.items():
        mean = float(np.sum(weight * value))
        out[name] = mean, float(np.sqrt(np.sum(weight * (value - mean) ** 2)))
    return out


@pytest.mark.parametrize(
    "name", [name if name in SHORT else pytest.param(name, marks=pytest.mark.long) for name in CASES]
)
def test_the_posterior_is_that_of_a_grid(name: str) -> None:
    case = CASES[name]
    member, table, y, weights = _data(name, case)
    left = "cbind(y, n)" if case.trials > 1 else "y"
    design = build_design(parse(f"{left} ~ 1 + (1 | g)"), open_source(table), kind=member.kind)
    prior = Prior(df=DF, sd=SD, residual=RESIDUAL, fixed=FIXED_SD)
    with engine(1) as pool:
        model = fit_gibbs(design, member, pool, prior, Lengths(4, 300, 1_000 if name in SHORT else 2_500, 1), seed=2)
    sample = model.sample
    assert sample is not None
    for parameter, (mean, sd) in _grid(member, y, weights, case).items():
        draws = sample.parameters[:, :, sample.names.index(parameter)]
        error = mean_error(draws)
        # the grid itself is good to half a hundredth of a standard deviation
        assert abs(draws.mean() - mean) < 4 * error + 0.005 * sd, parameter
        assert error < 0.1 * sd
        assert draws.std() == pytest.approx(sd, rel=0.1), parameter


def _many(name: str) -> tuple[pa.Table, str, dict[str, Any]]:
    rng = np.random.default_rng(12)
    levels, rows = 400, 6_000
    g, h, x = rng.integers(0, levels, rows), rng.integers(0, 60, rows), rng.standard_normal(rows)
    effects = 0.8 * rng.standard_normal((levels, 2)) @ np.array([[1.0, 0.3], [0.0, 0.6]])
    eta = 0.4 + 0.5 * x + effects[g, 0] + effects[g, 1] * x + 0.5 * rng.standard_normal(60)[h]
    formula = "y ~ x + (1 + x | g) + (1 | h)"
    if name == "gaussian":
        return pa.table({"y": eta + rng.standard_normal(rows), "x": x, "g": g, "h": h}), formula, {"method": "reml"}
    if name == "binomial":
        eta = 0.4 + 0.5 * x + 0.8 * rng.standard_normal(levels)[g]
        k = rng.binomial(6, expit(eta))
        table = pa.table({"k": k, "m": 6 - k, "x": x, "g": g})
        return table, "cbind(k, m) ~ x + (1 | g)", {"family": "binomial", "quadrature": 15}
    eta = 0.5 * x + 0.8 * rng.standard_normal(levels)[g]
    if name == "ordinal":
        y = np.digitize(eta + rng.standard_normal(rows), [-0.8, 0.5])
        table = pa.table({"y": np.array(["a", "b", "c"])[y], "x": x, "g": g})
        return table, "y ~ x + (1 | g)", {"family": "ordinal", "link": "probit", "quadrature": 15}
    link = "probit" if name == "probit" else "logit"
    p = ndtr(eta) if link == "probit" else expit(eta)
    table = pa.table({"y": (rng.random(rows) < p).astype(float), "x": x, "g": g})
    return table, "y ~ x + (1 | g)", {"family": "bernoulli", "link": link, "quadrature": 15}


@pytest.mark.long
@pytest.mark.parametrize("name", ["gaussian", "bernoulli", "binomial", "probit", "ordinal"])
def test_with_many_rows_the_posterior_is_around_the_likelihoods_maximum(name: str) -> None:
    table, formula, options = _many(name)
    fit = ranef.fit(formula, table, **options)
    same = {key: value for key, value in options.items() if key in ("family", "link")}
    posterior = ranef.fit(formula, table, method="gibbs", draws=1_500, seed=3, **same)
    for one, other in ((fit.fixef(), posterior.fixef()), (fit.varcorr(), posterior.varcorr())):
        column = "estimate" if "estimate" in one.column_names else "vcov"
        a, b = np.asarray(one[column]), np.asarray(other[column])
        error, spread = np.asarray(one["se"]), np.asarray(other["se"])
        # a posterior mean is off the maximum by its skewness, a fraction of a standard error
        np.testing.assert_array_less(np.abs(a - b) / error, 0.35)
        np.testing.assert_allclose(spread / error, 1, atol=0.2)
    modes, means = np.asarray(fit.ranef("g")["(Intercept)"]), np.asarray(posterior.ranef("g")["(Intercept)"])
    assert np.corrcoef(modes, means)[0, 1] > 0.995
