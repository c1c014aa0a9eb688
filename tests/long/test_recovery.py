"""Larger simulated data: every parameter comes back, and ML and REML agree as far as they should."""

from __future__ import annotations

import numpy as np
import pytest

import ranef
from ranef.data import simulate

pytestmark = pytest.mark.long

DESIGNS = {
    "crossed": {
        "rows": 200_000,
        "groups": {"user": 5000, "item": 500},
        "sd": {"user": 0.6, "item": 0.3},
        "fixed": {"(Intercept)": 3.5, "age": -0.1},
        "binary": {"owner": 0.2},
    },
    "slopes": {
        "rows": 150_000,
        "groups": {"user": 3000, "item": 300},
        "sd": {"user": 0.6, "item": 0.4},
        "slopes": {"user": {"x": 0.3, "z": 0.2}, "item": {"x": 0.25}},
        "correlation": {"user": [[1, 0.5, -0.3], [0.5, 1, 0.2], [-0.3, 0.2, 1]], "item": -0.6},
        "fixed": {"x": 1.0, "z": -0.5},
    },
    "nested": {
        "rows": 120_000,
        "groups": {"region": 120, "school": 1200, "class": 6000},
        "sd": {"region": 0.5, "school": 0.4, "class": 0.7},
        "nested": {"school": "region", "class": "school"},
        "fixed": {"(Intercept)": 10.0, "hours": 0.05},
        "residual_sd": 2.0,
    },
}


@pytest.fixture(params=DESIGNS, scope="module")
def made(request):
    simulated = simulate(seed=20, activity=0.7, **DESIGNS[request.param])
    return simulated, ranef.fit(simulated.formula, simulated.data)


def test_parameters_come_back(made):
    simulated, fit = made
    assert fit.converged
    assert not fit.singular
    assert fit.nobs == simulated.rows
    for row in fit.fixef().to_pylist():
        assert abs(row["estimate"] - simulated.truth.beta[row["term"]]) < 3.5 * row["se"], row
    rows = fit.varcorr().to_pylist()
    assert len(rows) == 1 + sum(len(c) * (len(c) + 1) // 2 for c in simulated.truth.covariance.values())
    for row in rows:
        if row["grp"] == "Residual":
            truth = simulated.truth.sigma**2
        else:
            names = simulated.truth.coefficients[row["grp"]]
            i, j = names.index(row["var1"]), names.index(row["var2"] or row["var1"])
            truth = simulated.truth.covariance[row["grp"]][i, j]
        assert abs(row["vcov"] - truth) < 3.5 * row["se"], row


def test_modes_follow_the_effects(made):
    simulated, fit = made
    for group, effects in simulated.truth.effects.items():
        table = fit.ranef(group, sd=True, kind="prediction")
        seen = np.asarray(table["level"])
        for c, name in enumerate(simulated.truth.coefficients[group]):
            # what is left of an effect beside its mode has the standard deviation that the table says
            left = (np.asarray(table[name]) - effects[seen, c]) / np.asarray(table[f"sd_{name}"])
            # levels share the error of the fixed effects: their mean may be off by more than one of them
            assert abs(left.mean()) < 0.35, (group, name)
            assert 0.8 < left.std() < 1.1, (group, name)
            assert np.mean(np.abs(left) < 1.96) == pytest.approx(0.95, abs=0.035), (group, name)


def test_ml_and_reml_agree_to_one_over_the_levels(made):
    simulated, reml = made
    ml = reml.update(method="ml")
    assert ml.converged
    fewest = min(len(effects) for effects in simulated.truth.effects.values())
    shrink = len(ml.model.beta) + 1
    for with_ml, with_reml in zip(ml.varcorr().to_pylist(), reml.varcorr().to_pylist(), strict=True):
        if with_ml["var2"] is None:
            assert abs(with_ml["vcov"] / with_reml["vcov"] - 1) < shrink / fewest, with_ml
            # ML forgets that the fixed effects were estimated: its variances are the smaller ones
            assert with_ml["vcov"] < with_reml["vcov"] * (1 + 1e-3), with_ml
    for with_ml, with_reml in zip(ml.fixef().to_pylist(), reml.fixef().to_pylist(), strict=True):
        assert abs(with_ml["estimate"] - with_reml["estimate"]) < 0.05 * with_reml["se"], with_ml
