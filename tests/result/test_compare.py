"""Fits side by side, against lme4 1.1-31 under R 4.2.2."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from ranef.errors import ConvergenceWarning, OptionError
from ranef.result.compare import anova_table, anova_text
from tests.result.fits import SLEEP, fit_rows, fitted

ONE = "Reaction ~ 1 + (1 | Subject)"
DAYS = "Reaction ~ Days + (1 | Subject)"


def models(method, *formulas):
    return [fitted("sleepstudy", formula, method)[1] for formula in formulas]


def test_likelihood_ratio_tests():
    """anova(m0, m1, m2) of the same fits with REML = FALSE."""
    table = anova_table(models("ml", SLEEP, ONE, DAYS), ["slopes", "one", "days"])
    assert table["model"] == ["one", "days", "slopes"]
    assert table["npar"].tolist() == [3, 4, 6]
    np.testing.assert_allclose(table["AIC"], [1916.54105807, 1802.07864301, 1763.93934446], rtol=1e-9)
    np.testing.assert_allclose(table["BIC"], [1926.11992863, 1814.85047041, 1783.09708557], rtol=1e-9)
    np.testing.assert_allclose(table["logLik"], [-955.270529037, -897.039321503, -875.969672232], rtol=1e-9)
    np.testing.assert_allclose(table["deviance"], -2 * table["logLik"])
    np.testing.assert_allclose(table["chisq"], [np.nan, 116.462415068, 42.139298542], rtol=1e-8)
    np.testing.assert_allclose(table["df"], [np.nan, 1, 2])
    np.testing.assert_allclose(table["p"], [np.nan, 3.76446147655e-27, 7.07241254719e-10], rtol=1e-7)


def test_reml_fits_with_the_same_fixed_part():
    """anova(r0, r1, refit = FALSE)."""
    table = anova_table(models("reml", DAYS, SLEEP), ["r0", "r1"])
    np.testing.assert_allclose(table["chisq"][1], 42.8368134364, rtol=1e-8)
    np.testing.assert_allclose(table["p"][1], 4.99004142696e-10, rtol=1e-6)


def test_equal_numbers_of_parameters_are_not_tested():
    table = anova_table(models("ml", DAYS, "Reaction ~ Days + (0 + Days | Subject)"), ["a", "b"])
    assert np.isnan(table["chisq"]).all()
    assert np.isnan(table["p"]).all()


def test_one_fit_gives_its_terms():
    assert anova_table(models("reml", SLEEP), ["fit"])["term"] == ["Days"]


def test_as_text():
    table = anova_table(models("ml", ONE, DAYS, SLEEP), ["one", "days", "slopes"])
    assert anova_text(table) == "\n".join(
        [
            "model  npar    AIC    BIC  logLik deviance   chisq df        p",
            "one       3 1916.5 1926.1 -955.27   1910.5",
            "days      4 1802.1 1814.9 -897.04   1794.1 116.462  1   <2e-16",
            "slopes    6 1763.9 1783.1 -875.97   1751.9  42.139  2 7.07e-10",
        ]
    )
    assert anova_text(anova_table(models("reml", SLEEP), ["fit"])) == "\n".join(
        [
            "term sumsq meansq numdf dendf      F        p",
            "Days 30031  30031     1  17.0 45.853 3.26e-06",
        ]
    )


def test_a_worse_larger_model_is_a_warning():
    small, large = models("ml", DAYS, SLEEP)
    worse = replace(large, info=msgspec.structs.replace(large.info, deviance=small.info.deviance + 1))
    with pytest.warns(ConvergenceWarning, match="large: a smaller likelihood"):
        table = anova_table([small, worse], ["small", "large"])
    assert table["chisq"][1] == 0
    assert table["p"][1] == 1


def test_what_cannot_be_compared():
    reml, ml = models("reml", DAYS)[0], models("ml", DAYS)[0]
    with pytest.raises(OptionError, match="REML and ML fits"):
        anova_table([reml, ml], ["a", "b"])
    with pytest.raises(OptionError, match="different fixed parts"):
        anova_table([reml, *models("reml", ONE)], ["a", "b"])
    with pytest.raises(OptionError, match="different responses, Reaction and Yield"):
        anova_table([reml, fitted("dyestuff", "Yield ~ 1 + (1 | Batch)")[1]], ["a", "b"])
    design, _ = fitted("sleepstudy", DAYS)
    rows = {"Reaction": design.y[:100], "Days": design.x[:100, 1], "Subject": design.groups[0].codes[:100]}
    with pytest.raises(OptionError, match="a was fitted to 180 rows and b to 100"):
        anova_table([reml, fit_rows(rows, DAYS)[1]], ["a", "b"])
    with pytest.raises(OptionError, match="no model"):
        anova_table([], [])


@pytest.mark.parametrize(("error", "verdict"), [(0.5, True), (0.9, False)])
def test_monte_carlo_errors_are_shown_and_decide_whether_there_is_a_verdict(error, verdict):
    pair = [
        replace(model, info=msgspec.structs.replace(model.info, deviance_error=error, solver="stochastic"))
        for model in models("ml", ONE, DAYS)
    ]
    if verdict:
        table = anova_table(pair, ["one", "days"])
    else:
        with pytest.warns(ConvergenceWarning, match=r"days: no p value.*more probes"):
            table = anova_table(pair, ["one", "days"])
    assert table["chisq_mcse"][1] == pytest.approx(np.sqrt(2) * error)
    assert np.isfinite(table["p"][1]) == verdict
    assert "chisq_mcse" not in anova_table(models("ml", ONE, DAYS), ["one", "days"])
