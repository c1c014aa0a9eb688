"""Separated responses: what has no finite estimate is found, and only that."""

from itertools import product

import numpy as np
import pytest

import ranef
from ranef.design.build import build_design
from ranef.errors import FitError
from ranef.family import family
from ranef.formula import parse
from ranef.learn import separation
from ranef.learn.separation import separated
from ranef.table import open_source

ROWS = 400


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(1)
    x, g = rng.standard_normal(ROWS), rng.integers(0, 30, ROWS)
    f = np.where(rng.random(ROWS) < 0.2, "b", "a")
    eta = x + rng.standard_normal(30)[g]
    y = (rng.random(ROWS) < 1 / (1 + np.exp(-eta))).astype(float)
    return {"x": x, "g": g, "h": rng.integers(0, 12, ROWS), "f": f, "y": y, "count": rng.poisson(np.exp(eta / 3)) * 1.0}


def names(formula, data, member):
    design = build_design(parse(formula), open_source(data), kind=member.kind)
    member = member.with_categories(design.spec.response_levels)
    return separated(design, range(design.x.shape[1]), member)


@pytest.mark.parametrize(
    ("name", "response", "formula", "expected"),
    [
        ("bernoulli", lambda d: d["y"], "y ~ f + x + (1 | g)", ()),
        ("bernoulli", lambda d: (d["x"] > 0.3) * 1.0, "y ~ x + (1 | g)", ("(Intercept)", "x")),
        ("bernoulli", lambda d: np.where(d["f"] == "b", 1.0, d["y"]), "y ~ f + x + (1 | g)", ("fb",)),
        ("bernoulli", lambda d: np.where(d["f"] == "b", 0.0, d["y"]), "y ~ 0 + f + x + (1 | g)", ("fb",)),
        ("poisson", lambda d: d["count"], "y ~ f + x + (1 | g)", ()),
        ("poisson", lambda d: np.where(d["f"] == "b", 0.0, d["count"]), "y ~ x + f + (1 | g)", ("fb",)),
        ("negative_binomial", lambda d: np.where(d["f"] == "b", 0.0, d["count"]), "y ~ f + (1 | g)", ("fb",)),
        ("gamma", lambda d: np.exp(d["x"]), "y ~ x + (1 | g)", ()),
        ("ordinal", lambda d: np.minimum(d["count"], 3), "y ~ x + f + (1 | g)", ()),
        ("ordinal", lambda d: np.digitize(d["x"], [-0.5, 0.5]), "y ~ x + (1 | g)", ("x", "0|1", "1|2")),
        (
            "ordinal",
            lambda d: np.where(d["f"] == "b", 3, np.minimum(d["count"], 2)),
            "y ~ f + x + (1 | g)",
            ("fb", "2|3"),
        ),
    ],
)
def test_what_runs_away(name, response, formula, expected, rows):
    assert names(formula, rows | {"y": response(rows)}, family(name)) == expected


@pytest.mark.parametrize("seed", range(20))
def test_small_tables_one_by_one(seed):
    """Against a search over all directions of a grid: three columns of small whole numbers."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-1, 2, (7, 2)).astype(float)
    y = rng.integers(0, 2, 7).astype(float)
    y[:2] = 0, 1
    data = {"a": x[:, 0], "b": x[:, 1], "y": y, "g": np.arange(7) % 2}
    columns = np.column_stack([np.ones(7), x])
    if np.linalg.matrix_rank(columns) < 3:
        return
    margins = np.array(list(product(range(-4, 5), repeat=3))) @ (columns * (2 * y - 1)[:, None]).T
    exists = bool(np.any((margins >= 0).all(axis=1) & (margins > 0).any(axis=1)))
    assert bool(names("y ~ a + b + (1 | g)", data, family("bernoulli"))) == exists


def test_rows_join_in_until_none_is_violated(rows, monkeypatch):
    monkeypatch.setattr(separation, "MORE", 10)
    assert names("y ~ x + (1 | g)", rows, family("bernoulli")) == ()
    assert names("y ~ x + (1 | g)", rows | {"y": (rows["x"] > 0.3) * 1.0}, family("bernoulli")) == ("(Intercept)", "x")


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog"])
def test_a_level_of_one_outcome(link, rows):
    data = rows | {"y": np.where(rows["f"] == "b", 1.0, rows["y"])}
    with pytest.warns(ranef.ConvergenceWarning, match=r"no maximum: fb can grow without end.*random effect"):
        fit = ranef.fit("y ~ f + x + (1 | g)", data, family="bernoulli", link=link)
    assert not fit.converged
    assert fit.model.info.unbounded == ("fb",)
    se = fit.fixef()["se"]
    assert np.isnan(se[1])
    # the other estimates are those of the other level alone
    other = {name: column[rows["f"] == "a"] for name, column in data.items()}
    alone = ranef.fit("y ~ x + (1 | g)", other, family="bernoulli", link=link)
    np.testing.assert_allclose(fit.fixef()["estimate"][[0, 2]], alone.fixef()["estimate"], atol=1e-4)
    np.testing.assert_allclose(se[[0, 2]], alone.fixef()["se"], rtol=1e-4)
    assert "No finite estimate: fb" in str(fit)


@pytest.mark.parametrize("method", ["laplace", "joint"])
@pytest.mark.parametrize("link", ["logit", "probit", "cloglog"])
def test_complete_separation_is_refused(link, method, rows):
    with pytest.raises(ranef.FitError, match="no maximum: x can grow without end"):
        ranef.fit("y ~ x + (1 | g)", rows | {"y": (rows["x"] > 0) * 1.0}, family="bernoulli", link=link, method=method)
    data = rows | {"y": np.digitize(rows["x"], [-0.5, 0.5])}
    with pytest.raises(ranef.FitError, match="no maximum: x can grow without end"):
        ranef.fit("y ~ x + (1 | g)", data, family="ordinal", link=link, method=method)


def test_a_factor_whose_levels_have_one_outcome(rows):
    data = rows | {"y": rows["g"] % 2 * 1.0, "z": rows["g"] % 3}
    with pytest.warns(ranef.ConvergenceWarning, match=r"sd_\(Intercept\)\|g can grow without end"):
        fit = ranef.fit("y ~ x + (1 | g)", data, family="bernoulli")
    assert fit.model.info.unbounded == ("sd_(Intercept)|g",)
    with pytest.warns(ranef.ConvergenceWarning, match=r"sd_\(Intercept\)\|g can grow without end"):
        ranef.fit("z ~ x + (1 | g)", data, family="ordinal")
    data["y"] = (rows["x"] * np.where(rows["g"] % 2, 1, -1) > 0) * 1.0
    with pytest.warns(ranef.ConvergenceWarning, match=r"sd_x\|g can grow without end"):
        ranef.fit("y ~ 1 + (0 + x | g)", data, family="bernoulli")


def test_counts_that_vary_as_poisson_ones(rows):
    poisson = ranef.fit("count ~ x + (1 | g)", rows, family="poisson")
    with pytest.warns(ranef.SingularFitWarning, match="family='poisson' is the simpler model"):
        fit = ranef.fit("count ~ x + (1 | g)", rows, family="negative_binomial")
    assert fit.converged
    assert fit.deviance == pytest.approx(poisson.deviance, abs=1e-6)
    np.testing.assert_allclose(fit.fixef()["estimate"], poisson.fixef()["estimate"], atol=1e-6)
    assert fit.model.info.family_parameters[0].se != fit.model.info.family_parameters[0].se


@pytest.mark.parametrize(
    ("name", "formula", "change", "message"),
    [
        ("poisson", "y ~ x + (1 | g)", {"y": np.full(ROWS, 1e15) + np.arange(ROWS)}, "as large as 1e\\+15.*logarithm"),
        ("bernoulli", "y ~ x + offset(o) + (1 | g)", {"o": np.where(np.arange(ROWS) % 2, 800.0, -900.0)}, "as -900"),
        ("gamma", "y ~ x + (1 | g)", {"y": np.exp(np.arange(ROWS) % 30 / 10.0)}, "dispersion goes to zero"),
    ],
)
def test_numerics_that_break_down_are_explained(name, formula, change, message, rows):
    data = rows | change
    if name == "gamma":
        data["g"] = np.arange(ROWS) % 30
    with pytest.raises(ranef.FitError, match=message):
        ranef.fit(formula, data, family=name)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e7])
def test_huge_counts(scale, rows):
    mean = np.exp(0.3 * rows["x"] + np.sin(rows["g"]))
    fit = ranef.fit("y ~ x + (1 | g)", rows | {"y": np.round(scale * 50 * mean)}, family="poisson")
    assert fit.converged
    assert fit.fixef()["estimate"][1] == pytest.approx(0.3, abs=1e-3)
    trials = {"won": np.round(scale * 50 * mean), "lost": np.round(scale * 50 / mean)}
    fit = ranef.fit("cbind(won, lost) ~ x + (1 | g)", rows | trials, family="binomial")
    assert fit.converged
    # log odds are twice the log of the mean
    assert fit.fixef()["estimate"][1] == pytest.approx(0.6, abs=2e-3)


@pytest.mark.parametrize("seed", range(5))
def test_a_column_that_is_the_response_is_refused_whatever_its_standard_error(seed: int) -> None:
    """Where all rows are certain, a standard error of rounding may look like any other."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, 600)
    rows = {"y": y, "x": y.astype(float), "g": rng.integers(0, 30, 600)}
    with pytest.raises(FitError, match="x can grow without end"):
        ranef.fit("y ~ x + (1 | g)", rows, family="bernoulli")
