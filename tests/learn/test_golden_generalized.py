"""Whole fits of other families against lme4, glmmTMB and ordinal with their optimisers at a tight tolerance."""

import warnings

import numpy as np
import pytest

import ranef
from ranef.engine.threads import engine
from ranef.family import family
from ranef.learn.generalized import prepare_generalized
from ranef.learn.laplace import Laplace, origin
from ranef.learn.mode import Exact
from tests.golden_fits import GENERALIZED, design_of, fit_of

LAPLACE = [one for one in GENERALIZED if "Gauss-Hermite" not in one["method"]]


def nodes_of(golden):
    """Of its quadrature; 1 is Laplace's approximation."""
    return int(golden["method"].partition("nAGQ=")[2]) if golden not in LAPLACE else 1


@pytest.fixture(params=GENERALIZED, ids=lambda g: g["name"], scope="module")
def fitted(request):
    golden = request.param
    method = "joint" if "nAGQ=0" in golden["method"] else "laplace"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ranef.SingularFitWarning)
        return golden, fit_of(golden, method=method, quadrature=nodes_of(golden)).model


def best_value(golden):
    """The second implementation's value where it is the lower one: of the same model, by another optimiser."""
    return min(golden["m2logLik"], golden.get("cross_check", golden)["m2logLik"])


def test_criterion(fitted):
    golden, model = fitted
    assert model.info.converged
    assert model.info.singular == golden["singular"]
    assert model.info.nobs == golden["n"]
    assert model.info.df == golden["npar"]
    if golden["name"] != "cbpp-agq25":  # of which lme4 leaves out constants
        assert model.info.deviance == pytest.approx(best_value(golden), abs=1e-5)
    again = golden.get("recomputed_m2logLik_at_these_estimates")
    # nothing is below the optimum
    assert again is None or model.info.deviance < again + 1e-7


def test_fixed_effects(fitted):
    golden, model = fitted
    assert model.fixed_names == tuple(one["name"] for one in golden["fixed_effects"])
    for one, estimate, se in zip(golden["fixed_effects"], model.beta, np.sqrt(np.diag(model.vcov)), strict=True):
        assert abs(estimate - one["estimate"]) < 1e-3 * one["se"]
        assert se == pytest.approx(one["se"], rel=1e-2)


def test_variances(fitted):
    golden, model = fitted
    assert len(model.varcorr) == len(golden["variance_components"])
    by_name = {(row.grp, row.var1): row for row in model.varcorr}
    for one in golden["variance_components"]:
        assert by_name[one["group"], one["var1"]].sdcor == pytest.approx(one["sdcor"], rel=1e-3, abs=1e-3)


def test_parameters_of_the_family(fitted):
    golden, model = fitted
    found = model.info.family_parameters
    for one, own in zip(golden.get("thresholds", ()), found, strict=False):
        assert own.name == one["name"]
        assert abs(own.value - one["estimate"]) < 1e-3 * one["se"]
        assert own.se == pytest.approx(one["se"], rel=1e-2)
    if "dispersion" in golden:
        assert found[0].value == pytest.approx(golden["dispersion"]["value"], rel=1e-4)
    assert len(found) == len(golden.get("thresholds", ())) + ("dispersion" in golden)


def test_modes(fitted):
    golden, model = fitted
    names = [spec.name for spec in model.spec.groups]
    for one in golden["conditional_modes"]:
        b = names.index(one["group"])
        group, column = model.groups[b], model.spec.groups[b].coefficients.index(one["term"])
        level = group.levels.labels.index(one["level"])
        assert group.modes[level, column] == pytest.approx(one["mode"], abs=1e-3)
        if "glmmTMB" not in golden["software"]:  # whose standard deviations include that of the parameters
            sd = np.sqrt(group.conditional[level, column, column])
            assert sd == pytest.approx(one["cond_sd"], rel=1e-2, abs=1e-3)
    assert {
        spec.name: len(group.levels) for spec, group in zip(model.spec.groups, model.groups, strict=True)
    } == golden["n_levels"]


def test_the_laplace_likelihood_at_given_parameters():
    """No optimiser takes part; the heights are not centred, so that the intercept is far from the data.

    The value is lme4's with ``tolPwrss = 1e-13``. With its default of 1e-7, where it stops before the mode, lme4 says
    1780.542707229.
    """
    golden = next(one for one in LAPLACE if one["name"] == "grouseticks-laplace")
    formula = golden["formula"].replace("cHEIGHT", "HEIGHT")
    theta = {"BROOD": 0.750034415832756, "INDEX": 0.541509425632023, "LOCATION": 0.528723159081737}
    beta = np.array([11.3559080756861, 1.1804105508475, -0.978704335712111, -0.0237607330254979])
    member = family("poisson")
    design = design_of({**golden, "formula": formula}, member.kind)
    with engine(1) as pool:
        prepared = prepare_generalized(design, member, pool)
        u = origin(prepared.of.pattern.cross, np.zeros(4))
        laplace = Laplace(prepared.of, prepared.layout, False, Exact(1e-12), u)
        inside = np.linalg.solve(prepared.scaling.x_back, beta)
        sds = np.array([theta[spec.name] for spec in design.spec.groups])
        at = laplace.evaluate(np.concatenate([sds, inside]))
    assert at.deviance == pytest.approx(1780.542660372, abs=1e-8)
