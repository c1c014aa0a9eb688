"""Whole fits against lme4 with its optimiser at a tight tolerance."""

import numpy as np
import pytest

from ranef.engine.threads import engine
from ranef.learn.gaussian import fit_gaussian
from tests.golden_fits import GOLDEN, design_of


@pytest.fixture(params=GOLDEN, ids=lambda g: g["name"], scope="module")
def fitted(request):
    with engine(2) as pool:
        return request.param, fit_gaussian(design_of(request.param), request.param["method"].lower(), pool)


def test_criterion(fitted):
    golden, model = fitted
    assert model.info.converged
    assert model.info.singular == golden["singular"]
    assert model.info.nobs == golden["n"]
    assert model.info.df == golden["npar"]
    # both optimisers stop within 1e-9 of the optimum; lme4's value itself is good to 1e-8 for InstEval
    assert model.info.deviance == pytest.approx(golden["m2logLik"], abs=1e-7)


def test_fixed_effects(fitted):
    golden, model = fitted
    assert model.fixed_names == tuple(one["name"] for one in golden["fixed_effects"])
    for one, estimate, se in zip(golden["fixed_effects"], model.beta, np.sqrt(np.diag(model.vcov)), strict=True):
        assert abs(estimate - one["estimate"]) < max(1e-6 * one["se"], 1e-5 * abs(one["estimate"]))
        assert se == pytest.approx(one["se"], rel=1e-5)


def test_variances(fitted):
    golden, model = fitted
    assert len(model.varcorr) == len(golden["variance_components"])
    by_name = {(row.grp, row.var1, row.var2): row for row in model.varcorr}
    for one in golden["variance_components"]:
        row = by_name[one["block"] if "block" in one else one["group"], one["var1"], one["var2"]]
        assert row.sdcor == pytest.approx(one["sdcor"], rel=1e-4, abs=1e-4 if one["var2"] else 1e-5 * golden["sigma"])
    assert model.info.sigma == pytest.approx(golden["sigma"], rel=1e-5)


def test_modes(fitted):
    golden, model = fitted
    names = [spec.name for spec in model.spec.groups]
    for one in golden["conditional_modes"]:
        b = names.index(one["group"])
        group, column = model.groups[b], model.spec.groups[b].coefficients.index(one["term"])
        level = group.levels.labels.index(one["level"])
        scale = golden["sigma"]
        assert group.modes[level, column] == pytest.approx(one["mode"], rel=1e-4, abs=1e-5 * scale)
        sd = np.sqrt(group.conditional[level, column, column])
        assert sd == pytest.approx(one["cond_sd"], rel=1e-4, abs=1e-6 * scale)
    assert {
        spec.name: len(group.levels) for spec, group in zip(model.spec.groups, model.groups, strict=True)
    } == golden["n_levels"]
