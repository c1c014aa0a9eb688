"""Fits of families other than the Gaussian as their users meet them: forms of the response, tables, summaries."""

import re
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import ranef
from ranef import data
from ranef.data import simulate
from ranef.result.criteria import icc, r2, residual_variance

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
WINE = "rating ~ temp + contact + (1 | judge)"
SALAMANDERS = "count ~ spp + mined + (1 | site)"


@pytest.fixture(scope="module")
def cbpp():
    return ranef.fit(CBPP, data.cbpp(), family="binomial")


@pytest.fixture(scope="module")
def wine():
    return ranef.fit(WINE, data.wine(), family="ordinal")


@pytest.fixture(scope="module")
def salamanders():
    return ranef.fit(SALAMANDERS, data.salamanders(), family="negative_binomial")


def close(one, two, tolerance=1e-6):
    """The same estimates with the same standard errors."""
    for mine, other in ((one.fixef(), two.fixef()), (one.varcorr(), two.varcorr())):
        assert mine.column_names == other.column_names
        for name in ("estimate", "se") if "term" in mine.column_names else ("vcov", "se"):
            np.testing.assert_allclose(mine[name], other[name], rtol=tolerance, atol=tolerance)


# Responses


def test_three_ways_to_write_successes(cbpp):
    table = data.cbpp()
    incidence, size = (np.asarray(table[name]) for name in ("incidence", "size"))
    share = table.append_column("share", pa.array(incidence / size))
    by_weights = ranef.fit("share ~ period + (1 | herd)", share, family="binomial", weights="size")
    close(by_weights, cbpp)
    assert by_weights.deviance == pytest.approx(cbpp.deviance, abs=1e-8)
    # one row an animal: the same but for the binomial coefficients
    rows = np.repeat(np.arange(len(size)), size)
    order = np.arange(len(rows)) - np.repeat(np.cumsum(size) - size, size)
    animals = table.take(rows).append_column("ill", pa.array(order < incidence[rows]))
    for family in ("bernoulli", "binomial"):
        by_rows = ranef.fit("ill ~ period + (1 | herd)", animals, family=family)
        close(by_rows, cbpp)
        assert by_rows.nobs == size.sum()


@pytest.mark.parametrize("family", ["bernoulli", "poisson", "negative_binomial", "gamma", "ordinal"])
def test_a_weight_counts_a_row_several_times(family):
    rng = np.random.default_rng(5)
    g, x = rng.integers(0, 12, 200), rng.normal(size=200)
    mean = np.exp(0.4 * x + rng.normal(size=12)[g])
    y = {
        "bernoulli": (rng.random(200) < mean / (1 + mean)) * 1.0,
        "poisson": rng.poisson(mean) * 1.0,
        "negative_binomial": rng.poisson(mean * rng.gamma(1.0, 1.0, 200)) * 1.0,
        "gamma": mean * rng.gamma(2.0, 0.5, 200),
        "ordinal": np.digitize(np.log(mean) + rng.logistic(size=200), [-1.0, 0.5]),
    }[family]
    count = rng.integers(0, 4, 200)
    table = {"y": y, "x": x, "g": g, "count": count}
    with pytest.warns(ranef.DroppedRowsWarning, match="of weight zero"):
        weighted = ranef.fit("y ~ x + (1 | g)", table, family=family, weights="count")
    rows = np.repeat(np.arange(200), count)
    repeated = ranef.fit("y ~ x + (1 | g)", {name: column[rows] for name, column in table.items()}, family=family)
    assert weighted.deviance == pytest.approx(repeated.deviance, abs=1e-7)
    np.testing.assert_allclose(weighted.fixef()["estimate"], repeated.fixef()["estimate"], atol=1e-6)
    np.testing.assert_allclose(weighted.fixef()["se"], repeated.fixef()["se"], rtol=1e-5)


def test_an_offset_is_exposure(salamanders):
    table = data.salamanders()
    hours = np.exp(np.asarray(table["cover"]))
    shifted = table.append_column("log_hours", pa.array(np.log(hours)))
    one = ranef.fit("count ~ spp + mined + cover + (1 | site)", table, family="negative_binomial")
    two = ranef.fit("count ~ spp + mined + cover + offset(log_hours) + (1 | site)", shifted, family="negative_binomial")
    three = ranef.fit(
        "count ~ spp + mined + cover + (1 | site)", shifted, family="negative_binomial", offset="log_hours"
    )
    assert two.deviance == pytest.approx(one.deviance, abs=1e-7) == three.deviance
    expected = np.asarray(one.fixef()["estimate"]) - (np.arange(len(one.fixef()["term"])) == 8)
    np.testing.assert_allclose(two.fixef()["estimate"], expected, atol=1e-5)


def test_an_ordered_response_may_be_any_column(wine):
    table = data.wine()
    numbers = table.set_column(1, "rating", pa.array([int(text) for text in table["rating"].to_pylist()]))
    close(ranef.fit(WINE, numbers, family="ordinal"), wine)
    # reversed categories turn every sign
    turned = table.set_column(1, "rating", pa.array([5 - int(text) for text in table["rating"].to_pylist()]))
    other = ranef.fit(WINE, turned, family="ordinal")
    np.testing.assert_allclose(other.fixef()["estimate"], -np.asarray(wine.fixef()["estimate"]), atol=1e-6)
    np.testing.assert_allclose(other.thresholds()["estimate"], -np.asarray(wine.thresholds()["estimate"])[::-1], 1e-5)


WORDS = ["awful", "bad", "fair", "good", "superb"]


def worded(order=None):
    """Wine's ratings in words: as plain text, or as a categorical, ordered or not."""
    table = data.wine().to_pandas()
    words = [WORDS[int(text) - 1] for text in table["rating"]]
    return table.assign(rating=words if order is None else pd.Categorical(words, WORDS, ordered=order))


def test_texts_without_an_order_are_sorted_with_a_warning(wine):
    said = r"categories of rating .* sorted: 'awful' < 'bad' < 'fair' < 'good' < 'superb'\. Declare .*pandas"
    # plain text, and what pandas makes of it without being told an order
    for table in (worded(), worded(order=False)):
        with pytest.warns(ranef.CategoryOrderWarning, match=said):
            fit = ranef.fit(WINE, table, family="ordinal")
        assert fit.deviance == pytest.approx(wine.deviance, abs=1e-9)


def test_a_declared_order_and_texts_of_numbers_need_no_warning(wine):
    fit = ranef.fit(WINE, worded(order=True), family="ordinal")
    assert fit.thresholds()["threshold"].to_list() == ["awful|bad", "bad|fair", "fair|good", "good|superb"]
    table = data.wine()
    plain = table.set_column(1, "rating", table["rating"].cast(pa.string()))
    close(ranef.fit(WINE, plain, family="ordinal"), wine)
    # ten is above nine, and not where texts are sorted
    ten = plain.to_pandas().replace({"rating": {"2": "10"}})
    with pytest.warns(ranef.CategoryOrderWarning, match="'1' < '10' < '3'"):
        ranef.fit(WINE, ten, family="ordinal")


def test_categories_without_rows_are_left_out(wine):
    table = data.wine()
    rating = table["rating"].combine_chunks()
    levels = pa.array([*rating.dictionary.to_pylist(), "6", "7"])
    wider = table.set_column(1, "rating", pa.DictionaryArray.from_arrays(rating.indices, levels, ordered=True))
    fit = ranef.fit(WINE, wider, family="ordinal")
    close(fit, wine)
    assert "\nCategories without rows, left out: 6, 7\n" in str(fit)
    assert fit.thresholds()["threshold"].to_pylist() == ["1|2", "2|3", "3|4", "4|5"]


def test_two_categories_are_a_bernoulli_response():
    table = data.bacteria()
    one = ranef.fit("y ~ trt + (1 | ID)", table, family="bernoulli", link="probit")
    two = ranef.fit("y ~ trt + (1 | ID)", table, family=ranef.ordinal("probit"))
    assert two.deviance == pytest.approx(one.deviance, abs=1e-8)
    np.testing.assert_allclose(two.fixef()["estimate"], one.fixef()["estimate"][1:], atol=1e-6)
    assert two.thresholds()["estimate"][0].as_py() == pytest.approx(-one.fixef()["estimate"][0].as_py(), abs=1e-6)
    assert two.thresholds()["threshold"].to_pylist() == ["n|y"]


@pytest.mark.parametrize(
    "spelling",
    [
        {"family": "Negative Binomial"},
        {"family": "nbinom2", "link": "log"},
        {"family": ranef.negative_binomial},
        {"family": ranef.negative_binomial()},
    ],
)
def test_families_by_name_or_as_objects(spelling, salamanders):
    again = ranef.fit(SALAMANDERS, data.salamanders(), **spelling)
    assert again.deviance == salamanders.deviance
    assert (again.family, again.link, again.method) == ("negative_binomial", "log", "laplace")


def test_without_random_terms_it_is_a_generalized_linear_model():
    fit = ranef.fit("cbind(incidence, size - incidence) ~ period", data.cbpp(), family="binomial")
    # R 4.2.2: glm(cbind(incidence, size - incidence) ~ period, binomial, cbpp)
    np.testing.assert_allclose(
        fit.fixef()["estimate"], [-1.269023489, -1.170762725, -1.301405334, -1.782278635], atol=1e-7
    )
    np.testing.assert_allclose(fit.fixef()["se"], [0.1449197625, 0.2914677891, 0.3128814310, 0.4130564576], atol=1e-7)
    assert str(fit).startswith("Generalized linear model fit by maximum likelihood, exact solver\nFamily: binomial")
    assert "Random effects" not in str(fit)
    assert fit.varcorr().num_rows == 0
    assert str(ranef.fit("rating ~ temp", data.wine(), family="ordinal")).startswith("Cumulative link model fit")


# Tables and numbers


def test_tables(cbpp, wine, salamanders):
    assert cbpp.fixef().column_names == ["term", "estimate", "se", "z", "p"]
    assert cbpp.fixef(ddf=None).equals(cbpp.fixef())
    assert cbpp.varcorr()["grp"].to_pylist() == ["herd"]
    table = wine.thresholds()
    assert table.column_names == ["threshold", "estimate", "se", "z"]
    assert table["threshold"].to_pylist() == ["1|2", "2|3", "3|4", "4|5"]
    np.testing.assert_allclose(table["z"], np.asarray(table["estimate"]) / np.asarray(table["se"]))
    for fit in (cbpp, salamanders):
        with pytest.raises(ranef.OptionError, match="thresholds are those of family='ordinal'"):
            fit.thresholds()


def test_numbers(cbpp, wine, salamanders):
    assert (cbpp.df, wine.df, salamanders.df) == (5, 7, 10)
    assert (cbpp.sigma, wine.sigma, salamanders.sigma) == (1.0, 1.0, 1.0)
    assert (cbpp.dispersion, wine.dispersion) == (None, None)
    assert salamanders.dispersion == pytest.approx(0.9424, abs=1e-4)
    assert salamanders.loglik == pytest.approx(-1652.4044 / 2, abs=1e-4)
    assert salamanders.aic == pytest.approx(1672.4044, abs=1e-4)
    assert salamanders.bic == pytest.approx(salamanders.deviance + np.log(644) * 10)


def test_gamma_has_a_coefficient_of_variation():
    rng = np.random.default_rng(2)
    g = rng.integers(0, 60, 3000)
    y = np.exp(1 + 0.5 * rng.normal(size=60)[g]) * rng.gamma(4.0, 0.25, 3000)
    fit = ranef.fit("y ~ 1 + (1 | g)", {"y": y, "g": g}, family="gamma")
    (one,) = fit.model.info.family_parameters
    assert abs(fit.dispersion - 0.25) < 4 * one.se
    assert fit.sigma == pytest.approx(np.sqrt(fit.dispersion))
    assert re.search(r"\nDispersion: 0\.2\d+, Std\. Error 0\.00\d+\n", str(fit))
    # the logarithm of a gamma number of shape 4 has variance trigamma(4)
    assert residual_variance(fit.model) == pytest.approx(0.2838, abs=0.02)


def test_r2_on_the_scale_of_the_latent_variable():
    rng = np.random.default_rng(11)
    g, x = rng.integers(0, 200, 40_000), rng.normal(size=40_000)
    latent = 0.5 * x + 0.8 * rng.normal(size=200)[g] + rng.logistic(size=40_000)
    table = {"y": (latent > 0) * 1.0, "latent": latent, "x": x, "g": g}
    fit = ranef.fit("y ~ x + (1 | g)", table, family="bernoulli")
    true = ranef.fit("latent ~ x + (1 | g)", table)
    np.testing.assert_allclose(r2(fit.model), r2(true.model), atol=0.015)
    assert icc(fit.model) == pytest.approx(icc(true.model), abs=0.015)


def test_counts_have_no_r2(salamanders):
    assert r2(salamanders.model) is None
    assert icc(salamanders.model) is None
    assert "R2" not in str(salamanders)


# Text


def shown(fit):
    """The summary but for the search."""
    return str(fit).rsplit("\n", 1)[0]


def test_a_binomial_summary_as_that_of_glmer(cbpp):
    assert (
        shown(cbpp)
        == """\
Generalized linear mixed model fit by maximum likelihood (Laplace approximation), exact solver
Family: binomial (logit)
Formula: cbind(incidence, size - incidence) ~ period + (1 | herd)

  AIC   BIC logLik deviance df.resid
194.1 204.2  -92.0    184.1       51

Scaled residuals:
    Min      1Q  Median     3Q    Max
-2.3818 -0.7888 -0.2024 0.5146 2.8796

Random effects:
 Groups Name        Variance Std.Dev.
 herd   (Intercept)   0.4125   0.6423
Number of obs: 56, groups: herd, 15

Fixed effects:
            Estimate Std. Error z value Pr(>|z|)
(Intercept)  -1.3985     0.2325  -6.016 1.79e-09
period2      -0.9923     0.3066  -3.236  0.00121
period3      -1.1287     0.3266  -3.455 0.000549
period4      -1.5803     0.4274  -3.697 0.000218

R2: 0.084 marginal, 0.186 conditional; ICC: 0.111"""
    )


def test_an_ordinal_summary_as_that_of_clmm(wine):
    assert (
        shown(wine)
        == """\
Cumulative link mixed model fit by maximum likelihood (Laplace approximation), exact solver
Family: ordinal (logit), flexible thresholds
Formula: rating ~ temp + contact + (1 | judge)

  AIC   BIC logLik deviance df.resid
177.1 193.1  -81.6    163.1       65

Random effects:
 Groups Name        Variance Std.Dev.
 judge  (Intercept)    1.279    1.131
Number of obs: 72, groups: judge, 9

Fixed effects:
           Estimate Std. Error z value Pr(>|z|)
tempwarm     3.0630     0.5954   5.145 2.68e-07
contactyes   1.8349     0.5126   3.580 0.000344

Thresholds:
    Estimate Std. Error z value
1|2  -1.6237     0.6824  -2.379
2|3   1.5134     0.6037   2.507
3|4   4.2285     0.8090   5.227
4|5   6.0888     0.9725   6.261

R2: 0.411 marginal, 0.576 conditional; ICC: 0.280"""
    )


def test_other_lines(salamanders):
    assert "\nFamily: negative binomial (log)\n" in str(salamanders)
    assert "\nDispersion (theta): 0.9424, Std. Error 0.127\n" in str(salamanders)
    assert repr(salamanders).startswith(f"<ranef.Fit {SALAMANDERS!r}, negative_binomial (log), LAPLACE, 644 rows")
    joint = ranef.fit(SALAMANDERS, data.salamanders(), family="poisson", method="joint")
    assert str(joint).startswith(
        "Generalized linear mixed model fit by maximum likelihood (joint modes, nAGQ = 0), exact solver"
    )
    several = ranef.fit("y ~ trt + (1 | ID)", data.bacteria(), family="bernoulli", quadrature=25)
    assert "(adaptive Gauss-Hermite, 25 nodes)" in str(several)
    assert "Correlation of fixed effects" in str(salamanders.summary(correlation=True))


def test_progress_shows_no_residual(capsys):
    ranef.fit(CBPP, data.cbpp(), family="binomial", progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(re.search(r"deviance 18\d\.\d+.*sd herd \[\d\.\d+\]$", line) for line in lines)


# Again


@pytest.mark.parametrize("name", ["cbpp", "wine", "salamanders"])
def test_saved_and_loaded(name, request, tmp_path):
    fit = request.getfixturevalue(name)
    fit.save(tmp_path / "m")
    loaded = ranef.load(tmp_path / "m")
    # residuals need the rows
    assert str(loaded) == re.sub(r"Scaled residuals:\n.*\n.*\n\n", "", str(fit))
    assert loaded.model.family == fit.model.family
    assert loaded.dispersion == fit.dispersion


def test_refit_and_update(cbpp, wine):
    again = cbpp.refit()
    close(again, cbpp)
    assert again.iterations <= cbpp.iterations
    fewer = cbpp.update(". ~ . - period")
    assert (fewer.df, fewer.family) == (2, "binomial")
    assert fewer.deviance > cbpp.deviance
    equidistant = wine.update(family=ranef.ordinal(thresholds="equidistant"))
    # R: update(wine, threshold = "equidistant"): one distance for three
    assert equidistant.df == wine.df - 2
    assert equidistant.deviance > wine.deviance
    steps = np.diff(equidistant.thresholds()["estimate"])
    np.testing.assert_allclose(steps, steps[0])
    assert "equidistant thresholds" in str(equidistant)
    assert wine.update(link="probit").link == "probit"


def test_truth_is_recovered():
    made = simulate(
        20_000, {"user": 400, "item": 100}, sd={"user": 0.8, "item": 0.5}, fixed={"x": 0.5}, family="poisson", seed=4
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = ranef.fit(made.formula, made.data, family="poisson")
    rows = {row["term"]: row for row in fit.fixef().to_pylist()}
    assert abs(rows["x"]["estimate"] - 0.5) < 4 * rows["x"]["se"]
    sds = {row["grp"]: row for row in fit.varcorr().to_pylist()}
    assert abs(sds["user"]["vcov"] - 0.64) < 4 * sds["user"]["se"]
    assert abs(sds["item"]["vcov"] - 0.25) < 4 * sds["item"]["se"]
