"""Intervals cover as often as they say: a thousand simulated data sets a design, by each way to a standard error."""

from __future__ import annotations

import os
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest

import ranef
from ranef.data import simulate

pytestmark = pytest.mark.long

SETS = 1000
FIXED = ("(Intercept)", "x", "fyes")

# at least 100 levels a factor: intervals from standard errors are asymptotic in the levels
DESIGNS: dict[str, dict[str, Any]] = {
    "crossed": {
        "rows": 2000,
        "groups": {"user": 200, "item": 100},
        "sd": {"user": 0.7, "item": 0.5},
        "fixed": {"(Intercept)": 1.0, "x": 0.3},
        "binary": {"f": -0.4},
    },
    "slope": {
        "rows": 2500,
        "groups": {"user": 150, "item": 100},
        "sd": {"user": 0.7, "item": 0.5},
        "slopes": {"user": {"x": 0.5}},
        "correlation": {"user": 0.4},
        "fixed": {"x": 0.3},
    },
    "nested": {
        "rows": 3000,
        "groups": {"school": 110, "class": 600},
        "sd": {"school": 0.8, "class": 0.6},
        "nested": {"class": "school"},
        "fixed": {"(Intercept)": -1.0, "x": 0.1},
    },
}


# where standard errors come from: the exact path's observed information, its average one, or the stochastic solver's
WAYS = [(design, way) for design in DESIGNS for way in ("observed", "average", "stochastic")]
# nothing is left to estimate by probes where all factors are eliminated
WAYS.remove(("nested", "stochastic"))


@dataclass(frozen=True, eq=False)
class Trial:
    """One data set by parameter: whether the interval holds the truth, and by how many standard errors it is off."""

    covered: dict[str, bool]
    off: dict[str, float]


def trial(design: str, way: str, seed: int) -> Trial:
    """Simulate, fit on one thread, and compare with the truth; a warning is an error."""
    made = simulate(activity=0.5, seed=seed, **DESIGNS[design])
    truth: dict[str, float] = {**made.truth.beta, "sigma": float(made.truth.sigma or 0)}
    for group, covariance in made.truth.covariance.items():
        names, sds = made.truth.coefficients[group], np.sqrt(np.diag(covariance))
        truth |= {f"sd_{name}|{group}": sd for name, sd in zip(names, sds, strict=True)}
        if len(names) == 2:
            truth[f"cor_{names[1]}.{names[0]}|{group}"] = covariance[0, 1] / sds.prod()
    limit = 500 if way == "observed" else 0
    solver = "stochastic" if way == "stochastic" else "exact"
    with warnings.catch_warnings(), mock.patch("ranef.learn.uncertainty.MOST_COLUMNS", limit):
        warnings.simplefilter("error")
        fit = ranef.fit(made.formula, made.data, solver=solver, seed=seed, threads=1)
    assert (fit.solver, fit.model.info.information) == (solver, "observed" if way == "observed" else "average")
    se = {row["term"]: row["se"] for row in fit.fixef().to_pylist()}
    covered, off = {}, {}
    for row in fit.confint().to_pylist():
        name = row["parameter"]
        covered[name] = row["lower"] < truth[name] < row["upper"]
        if name in se:
            off[name] = (row["estimate"] - truth[name]) / se[name]
        else:
            scale = np.arctanh if name.startswith("cor_") else np.log
            reach = (scale(row["upper"]) - scale(row["lower"])) / 2
            off[name] = 1.959964 * (scale(row["estimate"]) - scale(truth[name])) / reach
    assert covered.keys() == truth.keys()
    return Trial(covered, off)


def columns(rows: list[dict[str, Any]]) -> dict[str, npt.NDArray[Any]]:
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


@pytest.fixture(scope="module")
def pool():
    # fork would copy a process with threads
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as workers:
        yield workers


@pytest.mark.parametrize(("design", "way"), WAYS)
def test_coverage(design, way, pool):
    trials = list(pool.map(partial(trial, design, way), range(SETS), chunksize=20))
    coverage = {name: hits.mean() for name, hits in columns([one.covered for one in trials]).items()}
    off = columns([one.off for one in trials])
    print(f"\n{design}, {way}, {SETS} sets (two binomial standard errors: 0.014)")
    for name, hit in coverage.items():
        print(f"  {name:24s} covered {hit:.3f}  off by {off[name].mean():+.3f} +- {off[name].std():.3f} se")
    # the binomial error of 1,000 sets is 0.007, so 0.93 to 0.97 is nearly three of them
    assert {name: hit for name, hit in coverage.items() if not 0.93 <= hit <= 0.97} == {}
    for name, values in off.items():
        # errors of 1,000 sets: 0.032 in the mean, 0.022 in the sd; a log sd is skew to the left by 1 / levels
        bound = 0.11 if name in FIXED else 0.2
        assert abs(values.mean()) < bound, name
        assert abs(values.std() - 1) < 0.08, name
