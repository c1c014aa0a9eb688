"""The summary as text: whole, its parts, and the formatting of numbers as R does it."""

import re
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ranef.result.residuals import scaled_residual_quantiles
from ranef.result.summary import summary_text
from ranef.result.text import align, format_numbers, format_p
from tests.result.fits import CAKE, DYESTUFF, PASTES, SLEEP, fit_rows, fitted, three_slopes

# R 4.2.2: format(x, digits = 4)
FORMATS = [
    ([612.1, 35.07, 654.94], ["612.10", "35.07", "654.94"]),
    ([24.741, 5.922, 25.592], ["24.741", "5.922", "25.592"]),
    ([0.12345678, 1234.5678], ["0.1235", "1234.5678"]),
    ([1e-10, 1.0], ["1e-10", "1e+00"]),
    ([123456.0], ["123456"]),
    ([0.0, 13.806], ["0.00", "13.81"]),
    ([1e10, 1.0], ["1e+10", "1e+00"]),
    ([-1.5, 2.0], ["-1.5", "2.0"]),
    ([17.00000519], ["17"]),
]


@pytest.mark.parametrize(("numbers", "expected"), FORMATS)
def test_numbers(numbers, expected):
    assert format_numbers(numbers) == expected


def test_missing_numbers_are_blank():
    assert format_numbers([np.nan, 1.5]) == ["", "1.5"]
    assert format_p([np.nan, 0.02]) == ["", "0.02"]


def test_p_values():
    assert format_p([1e-17, 3.2638e-06, 0.68065, 0.5]) == ["<2e-16", "3.26e-06", "0.681", "0.500"]


def test_columns_are_aligned():
    assert align(["", "x"], [["a", "bcd"], ["1.0", "10.0"]]) == ["       x", "a    1.0", "bcd 10.0"]


def test_sleepstudy():
    design, model = fitted("sleepstudy", SLEEP)
    text = summary_text(model, SLEEP, "satterthwaite", True, scaled_residual_quantiles(model, design))
    *lines, last = text.splitlines()
    expected = (Path(__file__).parent / "sleepstudy.txt").read_text(encoding="utf-8").splitlines()
    assert lines == expected
    assert re.fullmatch(
        r"Converged after \d+ evaluations in [\d.]+ s; largest gradient \d(e-\d\d)? standard errors", last
    )


def test_maximum_likelihood_has_criteria():
    _, model = fitted("cake", "angle ~ recipe * temp + (1 | recipe:replicate)", "ml")
    text = summary_text(model)
    assert "fit by maximum likelihood" in text
    assert "   AIC    BIC logLik deviance df.resid\n1712.1 1740.9 -848.0   1696.1      262\n" in text
    assert "recipeC:temp  0.002095   0.039625 225.0   0.053    0.958" in text


def test_several_groups():
    _, model = fitted("pastes", PASTES)
    text = summary_text(model)
    assert " cask:batch (Intercept)    8.434   2.9041\n batch      (Intercept)    1.657   1.2874\n" in text
    assert "Number of obs: 60, groups: cask:batch, 30; batch, 10\n" in text


def test_three_correlated_coefficients():
    _, model = fit_rows(three_slopes(), "y ~ x + (x + z | g)")
    lines = summary_text(model).splitlines()
    at = lines.index(next(line for line in lines if line.startswith(" Groups")))
    assert [line.split()[-2:] for line in lines[at + 2 : at + 4]] == [["0.8526", "0.72"], ["-0.35", "-0.18"]]


def test_correlations_stand_beside_their_own_term():
    """Coefficients of one name in several terms, on one factor (``g`` and ``g.1``) and on another."""
    rows = three_slopes()
    i = np.arange(144)
    rows["h"] = i % 9
    rows["y"] = rows["y"] + np.sin(i % 9 * 4.4) + np.cos(i % 9 * 2.6) * rows["z"]
    _, model = fit_rows(rows, "y ~ x + (x | g) + (1 + z | g) + (1 + z | h)")
    lines = summary_text(model).splitlines()
    at = next(place for place, line in enumerate(lines) if line.startswith(" Groups"))
    shown = [line.split() for line in lines[at + 1 : at + 8]]
    expected = [f"{row.sdcor:.2f}" for row in model.varcorr if row.var2 is not None]
    assert [words[0] for words in shown] == ["g", "x", "g.1", "z", "h", "z", "Residual"]
    assert [words[-1] for words in shown if words[0] in ("x", "z")] == expected
    assert [len(words) for words in shown] == [4, 4, 4, 4, 4, 4, 3]


def test_normal_distribution():
    _, model = fitted("sleepstudy", SLEEP)
    text = summary_text(model, ddf=None)
    assert "z value Pr(>|z|)" in text
    assert "Satterthwaite" not in text


def test_stochastic_solver():
    _, model = fitted("insteval", "y ~ 1 + (1 | s) + (1 | d)", solver="stochastic", probes=4)
    lines = summary_text(model).splitlines()
    assert lines[0] == "Linear mixed model fit by REML, stochastic solver (4 probes)"
    assert lines[1] == "t-tests use Satterthwaite's method (average information)"
    noise = next(line for line in lines if line.startswith("Monte-Carlo"))
    largest = max(row.mcse / row.se for row in model.varcorr)
    assert largest > model.info.fixef_mcse[0] / np.sqrt(model.vcov[0, 0]) > 0
    found = f"{model.info.deviance_error / 2:.2g}, of the estimates at most {largest:.2g} standard errors"
    assert noise == f"Monte-Carlo error of the log-likelihood {found}"
    assert "Monte-Carlo" not in summary_text(fitted("sleepstudy", SLEEP)[1])


def test_average_information_is_said():
    _, model = fitted("sleepstudy", SLEEP)
    average = replace(model, info=msgspec.structs.replace(model.info, information="average", iterations=1))
    text = summary_text(average)
    assert "\nt-tests use Satterthwaite's method (average information)\n" in text
    assert "Converged after 1 evaluation in" in text
    assert "information" not in summary_text(average, ddf=None)


def test_singular():
    _, model = fitted("dyestuff2", DYESTUFF)
    assert summary_text(model).splitlines()[-1].startswith("boundary (singular) fit")


def test_dropped_rows_and_columns():
    rows = three_slopes()
    rows["x"] = np.where(np.arange(144) < 5, np.nan, rows["x"])
    rows["x2"] = 2 * rows["x"]
    rows["wt"] = np.where(np.arange(144) == 7, 0.0, rows["wt"])
    _, model = fit_rows(rows, "y ~ x + x2 + (1 | g)", weights="wt")
    text = summary_text(model)
    assert "Weights: wt\n" in text
    assert (
        "Number of obs: 138, groups: g, 12\nRows dropped: 6 (x missing in 5, x2 missing in 5, weight zero in 1)" in text
    )
    assert "Columns dropped, others determine them: x2\n" in text


def test_no_fixed_effects():
    _, model = fit_rows(three_slopes(), "y ~ 0 + (1 | g)")
    assert "No fixed effects" in summary_text(model, correlation=True)


def test_width():
    design, model = fitted("cake", CAKE)
    formula = CAKE + " + (1 | replicate)" * 9
    text = summary_text(model, formula, correlation=True, quantiles=scaled_residual_quantiles(model, design))
    assert max(map(len, text.splitlines())) <= 100
    assert text.isascii()
