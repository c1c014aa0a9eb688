"""Degrees of freedom and F tests against lmerTest 3.1.3 with lme4 1.1-31 under R 4.2.2.

The reference: ``m <- lmer(formula, data, control = lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10)))``
with ``coef(summary(m))`` and ``anova(m)``. lmerTest differentiates numerically, which leaves its sixth digit open.
Where the observed information is too dear (InstEval) ranef takes the average information: an estimate of the same
matrix whose relative difference is of the order of one over the number of levels.
"""

import numpy as np
import pytest

from ranef.errors import OptionError
from ranef.result.satterthwaite import contrast_df, f_test
from ranef.result.tables import fixef_table
from ranef.result.type3 import type3_contrasts, type3_table
from tests.result.fits import CAKE, PENICILLIN, SLEEP, fit_rows, fitted

INSTEVAL = "y ~ service + dept + (1 | s) + (1 | d)"
INSTEVAL_DF = [
    *(1503.737502, 63700.3647734, 1291.89668342, 1378.10847362, 1343.56578823),
    *(1333.15289204, 1463.05766968, 1387.14409357, 1327.83794576, 1221.53257531),
    *(1307.91616392, 1344.45837214, 1267.28027653, 1170.40303051, 1171.56550967),
]
# data, formula, method -> df of each coefficient, relative tolerance
COEFFICIENTS = {
    ("sleepstudy", SLEEP, "reml"): ([17.0, 17.0], 1e-5),
    ("sleepstudy", SLEEP, "ml"): ([18.0, 18.0], 1e-5),
    ("cake", CAKE, "reml"): ([42.0] * 3 + [210.0] * 15, 1e-5),
    ("cake", "angle ~ recipe + temp + (1 | recipe:replicate)", "reml"): ([257.8118172769, 42, 42, 224], 1e-5),
    ("penicillin", PENICILLIN, "reml"): ([5.48708983361], 1e-5),
    ("insteval", INSTEVAL, "reml"): (
        INSTEVAL_DF,
        5e-3,
    ),
}
# numdf, dendf, F of each term
TERMS = {
    ("sleepstudy", SLEEP): ([1], [17.0], [45.8530037651]),
    ("cake", CAKE): ([2, 5, 10], [42.0, 210.0, 210.0], [0.248788783091, 20.519860494716, 1.006197987195]),
    ("cake", "angle ~ recipe * temp + (1 | recipe:replicate)", "ml"): (
        [2, 1, 2],
        [256.83, 225.0, 225.0],
        [0.0974, 95.4357, 0.0423],
    ),
    ("insteval", INSTEVAL): ([1, 13], [63700.3647734, 1196.01996268], [47.87017063489, 2.69631208342]),
}


@pytest.mark.parametrize("fit", COEFFICIENTS, ids=lambda fit: f"{fit[0]} {fit[1]} {fit[2]}")
def test_degrees_of_freedom_of_coefficients(fit):
    expected, tolerance = COEFFICIENTS[fit]
    _, model = fitted(*fit)
    np.testing.assert_allclose(fixef_table(model)["df"], expected, rtol=tolerance)


@pytest.mark.parametrize("fit", TERMS, ids=lambda fit: f"{fit[0]} {fit[1]}")
def test_type_3_tests(fit):
    numdf, dendf, f = TERMS[fit]
    _, model = fitted(*fit)
    table = type3_table(model)
    assert table["numdf"].tolist() == numdf
    np.testing.assert_allclose(table["dendf"], dendf, rtol=5e-3 if fit[0] == "insteval" else 1e-5)
    # the last digit of the printed references, else how well a variance is known where lme4 stops
    np.testing.assert_allclose(table["F"], f, rtol=1e-5, atol=5e-5 if fit[-1] == "ml" else 0)
    np.testing.assert_allclose(table["sumsq"], table["F"] * table["numdf"] * model.info.sigma**2)


def test_type_3_p_values():
    _, model = fitted("cake", CAKE)
    np.testing.assert_allclose(
        type3_table(model)["p"], [7.80885607501e-01, 1.15316201032e-16, 4.39269434478e-01], rtol=1e-4
    )


def test_type_3_does_not_depend_on_the_contrasts():
    tests = [
        type3_table(fitted("cake", f"angle ~ {recipe} * temp + (1 | recipe:replicate)")[1])
        for recipe in ("recipe", 'C(recipe, "sum")', 'C(recipe, "helmert")')
    ]
    for other in tests[1:]:
        for column in ("sumsq", "numdf", "dendf", "F", "p"):
            np.testing.assert_allclose(other[column], tests[0][column], rtol=1e-6)


def test_type_3_contrasts_of_treatment_coding():
    """With cells mu_ij, the main effect of a is the mean over b: the coefficients of a plus half the interaction."""
    rows = {"y": np.sin(np.arange(24.0)), "a": list("xyz") * 8, "b": list("pq") * 12, "g": list("klmn") * 6}
    _, model = fit_rows(rows, "y ~ a * b + (1 | g)")
    contrasts = type3_contrasts(model.spec.fixed)
    assert model.fixed_names == ("(Intercept)", "ay", "az", "bq", "ay:bq", "az:bq")
    own = np.linalg.svd(np.array([[0, 1, 0, 0, 0.5, 0], [0, 0, 1, 0, 0, 0.5]]), full_matrices=False)[2]
    found = np.linalg.svd(contrasts["a"], full_matrices=False)[2]
    np.testing.assert_allclose(own.T @ own, found.T @ found, atol=1e-12)


def test_type_3_refuses_columns_that_were_left_out():
    rows = {"y": np.sin(np.arange(24.0)), "x": np.arange(24.0), "z": np.arange(24.0) * 2, "g": list("klmn") * 6}
    _, model = fit_rows(rows, "y ~ x + z + (1 | g)")
    with pytest.raises(OptionError, match="z could not be estimated"):
        type3_table(model)


def test_one_contrast_is_the_squared_t_test():
    _, model = fitted("cake", CAKE)
    contrast = np.zeros((1, 18))
    contrast[0, [3, 8]] = 1.0, 0.5
    test = f_test(model, contrast)
    t = contrast[0] @ model.beta / np.sqrt(contrast[0] @ model.vcov @ contrast[0])
    assert test.f == pytest.approx(t**2)
    assert test.numdf == 1
    assert test.dendf == pytest.approx(contrast_df(model, contrast)[0])


def test_repeated_contrasts_count_once():
    _, model = fitted("cake", CAKE)
    one = np.eye(18)[1:3]
    twice = f_test(model, np.vstack([one, one, one[:1] + one[1:]]))
    assert twice.numdf == 2
    assert twice.f == pytest.approx(f_test(model, one).f)


def test_normal_distribution():
    _, model = fitted("sleepstudy", SLEEP)
    table = fixef_table(model, ddf=None)
    assert np.isinf(table["df"]).all()
    # R 4.2.2: 2 * pnorm(-6.77148460569)
    assert table["p"][1] == pytest.approx(1.2746753e-11, rel=1e-5)
    with pytest.raises(OptionError, match="ddf='kenward'"):
        fixef_table(model, ddf="kenward")


def test_t_and_p_are_lmertest_s():
    _, model = fitted("sleepstudy", SLEEP)
    table = fixef_table(model)
    np.testing.assert_allclose(table["z"], [36.83831052014, 6.77148460569], rtol=1e-6)
    np.testing.assert_allclose(table["p"], [1.17087483660e-17, 3.26379001974e-06], rtol=1e-5)
