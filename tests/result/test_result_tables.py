"""Tables of the fit: values, identities, names, errors."""

import numpy as np
import pyarrow as pa
import pytest

from ranef.errors import OptionError
from ranef.result.criteria import aic, bic, icc, loglik, r2
from ranef.result.tables import coef_table, ranef_table, varcorr_table, vcov_table
from tests.golden_fits import GOLDEN
from tests.result.fits import PASTES, PENICILLIN, SLEEP, fit_rows, fitted, three_slopes


@pytest.mark.parametrize(
    "golden", [g for g in GOLDEN if g["data"] != "insteval"], ids=lambda g: f"{g['name']} {g['method']}"
)
def test_information_criteria_are_lme4_s(golden):
    _, model = fitted(golden["data"], golden["formula"], golden["method"].lower())
    assert loglik(model) == pytest.approx(golden["logLik"], abs=1e-7)
    assert aic(model) == pytest.approx(golden["AIC"], abs=1e-7)
    assert bic(model) == pytest.approx(golden["BIC"], abs=1e-7)


def test_explained_variance():
    design, model = fitted("sleepstudy", SLEEP)
    fixed = np.var(design.x @ model.beta)
    z = np.column_stack([np.ones(180), design.x[:, 1]])
    random = np.mean(np.einsum("ni,ij,nj->n", z, model.groups[0].covariance, z))
    total = fixed + random + model.info.sigma**2
    assert r2(model) == pytest.approx((fixed / total, (fixed + random) / total))
    assert icc(model) == pytest.approx(random / (random + model.info.sigma**2))


def test_coefficients_of_levels():
    """lme4 1.1-31: coef(lmer(Reaction ~ Days + (Days | Subject), sleepstudy, REML = FALSE))."""
    _, model = fitted("sleepstudy", SLEEP, "ml")
    table = coef_table(model, "Subject")
    assert list(table) == ["level", "(Intercept)", "Days"]
    assert isinstance(table["level"], pa.Array)
    assert table["level"].to_pylist()[:3] == ["308", "309", "310"]
    expected = [[254.220787071, 19.54282007992], [211.356619564, 1.82321821767], [212.971953393, 4.95390681154]]
    np.testing.assert_allclose(np.column_stack([table["(Intercept)"], table["Days"]])[:3], expected, rtol=1e-6)


def test_coefficients_without_a_fixed_or_a_random_part():
    _, model = fit_rows(three_slopes(), "y ~ x + (0 + z | g)")
    table = coef_table(model, "g")
    assert list(table) == ["level", "(Intercept)", "x", "z"]
    np.testing.assert_array_equal(table["x"], np.full(12, model.beta[1]))
    np.testing.assert_array_equal(table["z"], model.groups[0].modes[:, 0])
    assert table["level"].to_pylist() == list(range(1, 13))


def test_a_coefficient_that_stands_in_two_terms():
    _, model = fit_rows(three_slopes(), "y ~ x + (1 | g) + (1 + x | g)")
    modes = model.groups[0].modes
    table = ranef_table(model, "g")
    assert list(table) == ["level", "(Intercept)", "(Intercept).1", "x"]
    np.testing.assert_allclose(coef_table(model, "g")["(Intercept)"], model.beta[0] + modes[:, 0] + modes[:, 1])


@pytest.mark.parametrize(
    ("data", "formula"), [("sleepstudy", SLEEP), ("penicillin", PENICILLIN), ("pastes", PASTES)], ids=lambda t: t
)
@pytest.mark.parametrize("method", ["reml", "ml"])
def test_standard_deviations_against_henderson_s_equations(data, formula, method):
    """The inverse of the dense mixed-model equations, with the fixed effects (prediction) and without (conditional)."""
    design, model = fitted(data, formula, method)
    z, precision = [], []
    for group, learned in zip(design.groups, model.groups, strict=True):
        one_hot = np.eye(len(group.levels))[group.codes]
        z.append((one_hot[:, :, None] * group.covariates[:, None, :]).reshape(len(design.y), -1))
        precision.append(np.kron(np.eye(len(group.levels)), np.linalg.inv(learned.covariance)))
    columns = np.column_stack([*z, design.x])
    sigma2, p = model.info.sigma**2, design.x.shape[1]
    system = columns.T @ columns / sigma2
    at = 0
    for one in precision:
        system[at : at + len(one), at : at + len(one)] += one
        at += len(one)
    for kind, inverse in (
        ("conditional", np.linalg.inv(system[:-p, :-p])),
        ("prediction", np.linalg.inv(system)[:-p, :-p]),
    ):
        expected = np.sqrt(np.diag(inverse))
        at = 0
        for spec, group in zip(model.spec.groups, design.groups, strict=True):
            table = ranef_table(model, spec.name, sd=True, kind=kind)
            found = np.column_stack([table[f"sd_{name}"] for name in spec.coefficients]).ravel()
            np.testing.assert_allclose(found, expected[at : at + len(found)], rtol=1e-7)
            at += len(group.levels) * len(spec.coefficients)


def test_variances():
    _, model = fitted("pastes", PASTES)
    table = varcorr_table(model)
    assert table["grp"] == ["cask:batch", "batch", "Residual"]
    assert table["var1"] == ["(Intercept)", "(Intercept)", None]
    assert table["var2"] == [None, None, None]
    np.testing.assert_allclose(table["sdcor"], [2.9041, 1.2874, 0.8234], atol=5e-5)
    np.testing.assert_allclose(table["vcov"], table["sdcor"] ** 2)
    assert (table["se"] > 0).all()
    assert (table["mcse"] == 0).all()


def test_covariance_of_fixed_effects():
    _, model = fitted("sleepstudy", SLEEP)
    table = vcov_table(model)
    assert table["term"] == ["(Intercept)", "Days"]
    np.testing.assert_allclose(table["Days"], [-1.4510956272064328, 2.389463423622623], rtol=1e-5)


def test_errors():
    _, model = fitted("pastes", PASTES)
    with pytest.raises(OptionError, match="no grouping factor 'bath'; the model has 'cask:batch', 'batch'"):
        ranef_table(model, "bath")
    with pytest.raises(OptionError, match="no grouping factor"):
        coef_table(model, "cask")
    with pytest.raises(OptionError, match="kind='posterior'"):
        ranef_table(model, "batch", sd=True, kind="posterior")
