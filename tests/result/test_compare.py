"""Fits side by side, against lme4 1.1-31 under R 4.2.2."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from ranef.errors import ConvergenceWarning, OptionError
from ranef.result.compare import anova_table, difference
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


@pytest.mark.parametrize(("error", "verdict"), [(0.35, True), (0.36, False)])
def test_monte_carlo_errors_are_shown_and_decide_whether_there_is_a_verdict(error, verdict):
    """The errors of fits that were saved before there were draws are added as independent."""
    pair = [
        replace(model, info=msgspec.structs.replace(model.info, deviance_error=error, solver="stochastic"))
        for model in models("ml", ONE, DAYS)
    ]
    if verdict:
        table = anova_table(pair, ["one", "days"])
    else:
        with pytest.warns(ConvergenceWarning, match=r"days: no p value.*exceeds 0.5.*more probes"):
            table = anova_table(pair, ["one", "days"])
    assert table["chisq_mcse"][1] == pytest.approx(np.sqrt(2) * error)
    assert np.isfinite(table["p"][1]) == verdict
    assert "chisq_mcse" not in anova_table(models("ml", ONE, DAYS), ["one", "days"])


def crossed():
    """Two crossed factors and a third with few levels; every effect below is there, but small."""
    rng = np.random.default_rng(0)
    n, levels = 2500, {"u": 250, "i": 60, "c": 20}
    rows = {name: rng.integers(0, count, n) for name, count in levels.items()}
    x = rng.normal(size=n)
    y = 0.05 * x + rng.normal(size=n)
    for name, sd in (("u", 0.5), ("i", 0.6), ("c", 0.2)):
        y += sd * rng.normal(size=levels[name])[rows[name]]
    return {**rows, "x": x, "y": y + 0.15 * rng.normal(size=60)[rows["i"]] * x}


CROSSED = "y ~ x + (1 | u) + (1 | i)"


@pytest.mark.parametrize(
    ("smaller", "larger", "share"),
    [
        ("y ~ 1 + (1 | u) + (1 | i)", CROSSED, 0.01),
        (CROSSED, "y ~ x + (1 + x | u) + (1 | i)", 0.3),
        (CROSSED, "y ~ x + (1 | u) + (1 + x | i)", 0.8),
        # on one side there is nothing to sample, or another factor: the error is that of independent fits
        ("y ~ x + (1 | u)", CROSSED, 1.0),
        ("y ~ x + (1 | i)", "y ~ x + (1 | i) + (1 | u)", 1.0),
        ("y ~ x + (1 | c) + (1 | i)", CROSSED, 1.3),
    ],
)
def test_probes_in_common_leave_the_error_of_the_difference(smaller, larger, share):
    """Against the exact fits: the errors cover the truth, and are this share of those of independent fits at most."""
    rows = crossed()
    exact = [fit_rows(rows, formula, "ml")[1].info.deviance for formula in (smaller, larger)]
    off, ratio = [], []
    for seed in range(20):
        pair = [fit_rows(rows, f, "ml", solver="stochastic", seed=seed)[1] for f in (smaller, larger)]
        gained, error = difference(*pair)
        off.append((gained - exact[0] + exact[1]) / error)
        ratio.append(error / np.hypot(pair[0].info.deviance_error, pair[1].info.deviance_error))
    # the mean of 20 squares of a normal variable is above 2.4 once in 10,000 times, and the errors are printed larger
    assert np.mean(np.square(off)) < 2.4
    assert np.median(ratio) <= share


def test_fits_without_a_seed_or_a_number_of_probes_in_common():
    rows = crossed()
    exact = [fit_rows(rows, f, "ml")[1].info.deviance for f in (CROSSED, "y ~ x + (1 + x | u) + (1 | i)")]
    one = fit_rows(rows, CROSSED, "ml", solver="stochastic", seed=1)[1]
    two, more = (
        fit_rows(rows, "y ~ x + (1 + x | u) + (1 | i)", "ml", solver="stochastic", seed=seed, probes=probes)[1]
        for seed, probes in ((2, None), (1, 64))
    )
    gained, error = difference(one, two)
    assert abs(gained - exact[0] + exact[1]) < 4 * error
    # independent errors; from 8 pairs, a standard deviation is known to a third
    assert 0.5 < error / np.hypot(one.info.deviance_error, two.info.deviance_error) < 1.5
    assert (len(one.info.deviance_draws), len(more.info.deviance_draws)) == (8, 64)
    gained, error = difference(one, more)
    assert abs(gained - exact[0] + exact[1]) < 4 * error
    assert error < 0.3 * one.info.deviance_error
