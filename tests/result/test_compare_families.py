"""Tests between fits of other families, of their terms and of their dispersion, against R."""

import numpy as np
import pytest

import ranef
from ranef.errors import OptionError
from tests.result.generalized import CBPP, data_of, fit_of


def columns(table):
    return {name: table[name].to_pylist() for name in table.column_names}


def null(**options):
    return ranef.fit(CBPP.replace("period", "1"), data_of("binomial"), family="binomial", **options)


def test_likelihood_ratio():
    """lme4 1.1-31: anova(g0, g) with tolPwrss = 1e-13."""
    table = columns(ranef.anova(fit_of("binomial"), null()))
    assert table["npar"] == [2, 5]
    np.testing.assert_allclose(table["deviance"], [209.662627188, 184.052563743], atol=1e-5)
    np.testing.assert_allclose(table["AIC"], [213.662627188, 194.052563743], atol=1e-5)
    assert table["chisq"][1] == pytest.approx(25.61006, abs=1e-4)
    assert table["p"][1] == pytest.approx(1.1509e-05, rel=1e-3)


def test_structures_of_thresholds_are_nested():
    equal = ranef.fit(
        "rating ~ temp + contact + (1 | judge)", data_of("ordinal"), family=ranef.ordinal(thresholds="equidistant")
    )
    table = columns(ranef.anova(equal, fit_of("ordinal")))
    assert table["df"][1] == 2
    # what tells them apart
    assert [name.rpartition(" [")[2] for name in table["model"]] == [
        "ordinal (logit), equidistant thresholds]",
        "ordinal (logit), flexible thresholds]",
    ]
    assert table["chisq"][1] == pytest.approx(equal.deviance - fit_of("ordinal").deviance)


def test_counts_without_overdispersion_are_nested_in_those_with():
    poisson = ranef.fit("count ~ spp + mined + (1 | site)", data_of("negative_binomial"), family="poisson")
    table = columns(ranef.anova(poisson, fit_of("negative_binomial")))
    assert table["npar"] == [9, 10]
    assert table["chisq"][1] > 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"link": "probit"}, "link 'logit' and .* 'probit'"),
        ({"method": "joint"}, "different approximations .*method='laplace'"),
        ({"quadrature": 5}, "numbers of quadrature nodes"),
    ],
)
def test_what_cannot_be_compared(options, message):
    with pytest.raises(OptionError, match=message):
        ranef.anova(fit_of("binomial"), null(**options))


def test_proportions_of_other_trials_are_other_responses():
    data = data_of("binomial").to_pandas()
    twice = data.assign(size=2 * data["size"], incidence=2 * data["incidence"])
    other = ranef.fit(CBPP.replace("period", "1"), twice, family="binomial")
    with pytest.raises(OptionError, match="different values"):
        ranef.anova(fit_of("binomial"), other)


def test_other_families_cannot_be_compared():
    data = data_of("poisson").to_pandas().assign(y=lambda d: d["y"] + 1.0)
    fits = [ranef.fit("y ~ V4 + (1 | subject)", data, family=family) for family in ("poisson", "gamma")]
    with pytest.raises(OptionError, match=r"family 'poisson' and .* 'gamma'.*compare fit\.aic"):
        ranef.anova(*fits)


def test_terms_of_one_fit():
    """car::Anova(g, type = 3) with sum-to-zero contrasts, nAGQ = 0; clmm with such contrasts for the ordinal model."""
    fit = ranef.fit(
        "r2 ~ Anger * Gender + btype + situ + (1 | id) + (1 | item)",
        ranef.data.load("verbagg"),
        family="binomial",
        method="joint",
    )
    table = columns(ranef.anova(fit))
    assert table["term"] == ["Anger", "Gender", "btype", "situ", "Anger:Gender"]
    assert table["df"] == [1, 1, 2, 1, 1]
    chisq = [7.843815445822, 0.235350244323, 60.830724261484, 23.094146966969, 0.009892885209]
    np.testing.assert_allclose(table["chisq"], chisq, rtol=1e-5)
    p = [5.099486190e-03, 6.275847706e-01, 6.176978099e-14, 1.542595636e-06, 9.207706765e-01]
    np.testing.assert_allclose(table["p"], p, rtol=1e-4)
    wine = ranef.fit("rating ~ temp * contact + (1 | judge)", data_of("ordinal"), family="ordinal")
    np.testing.assert_allclose(columns(ranef.anova(wine))["chisq"], [26.42514, 12.78280, 0.0588851], rtol=2e-3)


def test_overdispersion():
    """``overdisp_fun`` of the GLMM FAQ on lme4's fits."""
    found = fit_of("binomial").overdispersion()
    assert (found.df, found.chisq) == (51, pytest.approx(63.078285655225, rel=1e-6))
    assert found.ratio == pytest.approx(1.236829130495, rel=1e-6)
    assert found.p == pytest.approx(0.119478364014, rel=1e-5)
    ticks = ranef.fit("TICKS ~ YEAR + cHEIGHT + (1 | BROOD)", ranef.data.load("grouseticks"), family="poisson")
    found = ticks.overdispersion()
    assert (found.df, found.chisq) == (398, pytest.approx(6.89307780737e02, rel=1e-5))
    assert found.p == pytest.approx(6.17747950873e-18, rel=1e-3)


@pytest.mark.parametrize(
    ("family", "message"), [("bernoulli", "one trial"), ("ordinal", "one trial"), ("gamma", "learns its dispersion")]
)
def test_where_overdispersion_means_nothing(family, message):
    with pytest.raises(OptionError, match=message):
        fit_of(family).overdispersion()


def test_overdispersion_of_a_loaded_model(tmp_path):
    fit = fit_of("negative_binomial")
    fit.save(tmp_path / "model")
    again = ranef.load(tmp_path / "model").overdispersion(data_of("negative_binomial"))
    assert again.chisq == pytest.approx(fit.overdispersion().chisq)
    assert 0.5 < again.ratio < 1.5
