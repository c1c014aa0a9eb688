"""Bayesian fits from the front door: what they give, what they refuse, and that they come back from the disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from scipy.special import expit

import ranef
from ranef.errors import ConvergenceWarning, FitError, OptionError
from ranef.result.document import document
from ranef.result.fit import Fit

FloatArray = npt.NDArray[np.float64]
SHORT = {"method": "gibbs", "draws": 150, "warmup": 60, "chains": 2, "seed": 4}
pytestmark = pytest.mark.filterwarnings("ignore::ranef.errors.ConvergenceWarning")


def _fit(formula: str, data: pa.Table, **options: Any) -> Fit:
    return ranef.fit(formula, data, **{**SHORT, **options})


@cache
def _sleepstudy() -> Fit:
    return _fit("Reaction ~ Days + (Days | Subject)", ranef.data.sleepstudy())


@cache
def _bacteria() -> Fit:
    return _fit("y ~ trt + (1 | ID)", ranef.data.load("bacteria"), family="bernoulli")


@cache
def _wine() -> Fit:
    return _fit("rating ~ temp + (1 | judge)", ranef.data.load("wine"), family="ordinal", link="probit")


@cache
def _cbpp() -> Fit:
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    return _fit(formula, ranef.data.load("cbpp"), family="binomial", draws=600)


TABLES: dict[str, tuple[Callable[[], Fit], str]] = {
    "gaussian": (_sleepstudy, "sleepstudy"),
    "bernoulli": (_bacteria, "bacteria"),
    "ordinal": (_wine, "wine"),
    "binomial": (_cbpp, "cbpp"),
}


def test_draws_are_a_table() -> None:
    draws = _sleepstudy().draws()
    assert draws.column_names == [
        "chain", "draw", "(Intercept)", "Days", "sd_(Intercept)|Subject", "cor_Days.(Intercept)|Subject",
        "sd_Days|Subject", "sigma", "log_posterior",
    ]  # fmt: skip
    assert draws.num_rows == 300
    assert draws["chain"].to_pylist() == [1] * 150 + [2] * 150
    assert draws["draw"].to_pylist() == [*range(1, 151)] * 2
    assert _wine().draws().column_names[3:7] == ["1|2", "2|3", "3|4", "4|5"]


def test_estimates_are_posterior_means() -> None:
    fit = _sleepstudy()
    draws = {name: np.asarray(fit.draws()[name]) for name in fit.draws().column_names}
    fixef = fit.fixef()
    assert fixef["estimate"].to_pylist() == pytest.approx([draws["(Intercept)"].mean(), draws["Days"].mean()])
    assert fixef["se"].to_pylist() == pytest.approx([draws[n].std(ddof=1) for n in ("(Intercept)", "Days")])
    varcorr = fit.varcorr().to_pylist()
    assert [row["var1"] for row in varcorr] == ["(Intercept)", "Days", "(Intercept)", None]
    assert varcorr[0]["vcov"] == pytest.approx(np.mean(draws["sd_(Intercept)|Subject"] ** 2))
    assert varcorr[2]["sdcor"] == pytest.approx(draws["cor_Days.(Intercept)|Subject"].mean())
    assert varcorr[-1]["sdcor"] == pytest.approx(draws["sigma"].mean())
    assert 0 < varcorr[0]["mcse"] < varcorr[0]["se"]
    assert fit.sigma == pytest.approx(draws["sigma"].mean())
    limits = fit.confint(level=0.8, parameters=["Days", "sigma"])
    assert limits["lower"].to_pylist() == pytest.approx([np.quantile(draws[n], 0.1) for n in ("Days", "sigma")])
    effects = np.stack([fit.model.sample.effects[0][:, 1, draw] for draw in range(300)])
    random = fit.ranef(sd=True)
    np.testing.assert_allclose(random["Days"], effects.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(random["sd_Days"], effects.std(axis=0, ddof=1), rtol=1e-9)


def test_predictions_are_means_over_the_draws() -> None:
    fit, table = _bacteria(), ranef.data.load("bacteria")
    sample = fit.model.sample
    code = {label: i for i, label in enumerate(fit.model.groups[0].levels.labels)}
    level = np.array([code[label] for label in table["ID"].to_pylist()])
    trt = np.array([("placebo", "drug", "drug+").index(t) for t in table["trt"].to_pylist()])
    x = np.column_stack([np.ones(len(trt)), trt == 1, trt == 2])
    eta = x @ sample.beta(3) + sample.effects[0][level, 0]
    np.testing.assert_allclose(fit.predict(table), expit(eta).mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(fit.fitted(), expit(eta).mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(fit.predict(table, type="link"), eta.mean(axis=1), rtol=1e-9, atol=1e-12)
    interval = fit.predict(table, interval="confidence", level=0.9)
    np.testing.assert_allclose(interval["lwr"], np.quantile(expit(eta), 0.05, axis=1), rtol=1e-12)
    probabilities = fit.predict(table, type="probabilities")
    np.testing.assert_allclose(np.asarray(probabilities["y"]), expit(eta).mean(axis=1), rtol=1e-12)
    fixed = fit.predict(table, include="fixed")
    np.testing.assert_allclose(fixed, expit(x @ sample.beta(3)).mean(axis=1), rtol=1e-12)


def test_new_levels_have_the_prior_variance_in_prediction_intervals() -> None:
    fit = _sleepstudy()
    rows = {"Days": [2.0, 2.0], "Subject": ["308", "someone"]}
    with pytest.warns(ranef.errors.UnknownLevelWarning):
        confidence = fit.predict(rows, interval="confidence")
    with pytest.warns(ranef.errors.UnknownLevelWarning):
        prediction = fit.predict(rows, interval="prediction")
    narrow, wide = (np.asarray(t["upr"]) - np.asarray(t["lwr"]) for t in (confidence, prediction))
    assert np.all(wide > 2 * narrow)
    assert wide[1] > 1.1 * wide[0]
    with pytest.raises(ranef.errors.LevelError):
        fit.predict(rows, new_levels="raise")


def test_prediction_intervals_of_proportions_cover_them() -> None:
    fit, table = _cbpp(), ranef.data.load("cbpp")
    found = fit.predict(table, interval="prediction")
    y = np.asarray(table["incidence"]) / np.asarray(table["size"])
    inside = (np.asarray(found["lwr"]) <= y) & (y <= np.asarray(found["upr"]))
    assert inside.mean() >= 0.93


def test_probabilities_of_an_ordinal_response_have_intervals() -> None:
    fit, table = _wine(), ranef.data.load("wine")
    mean = fit.predict(table).to_pandas().to_numpy()
    np.testing.assert_allclose(mean.sum(axis=1), 1)
    both = fit.predict(table, interval="confidence").to_pandas()
    assert np.all(both.iloc[:, 5:10].to_numpy() <= mean)
    assert np.all(mean <= both.iloc[:, 10:].to_numpy())
    likely = fit.predict(table, type="class")
    assert [int(c) - 1 for c in likely] == np.argmax(mean, axis=1).tolist()
    np.testing.assert_allclose(
        fit.fitted(), mean[np.arange(len(mean)), [int(r) - 1 for r in table["rating"].to_pylist()]]
    )


@pytest.mark.parametrize("name", TABLES)
def test_a_saved_fit_comes_back(name: str, tmp_path: Path) -> None:
    make, data = TABLES[name]
    fit, table = make(), ranef.data.load(data)
    fit.save(tmp_path / "whole")
    back = ranef.load(tmp_path / "whole")
    assert back.method == "gibbs"
    assert str(back.summary()) == str(fit.summary())
    for kind in ("response", "link"):
        one, two = fit.predict(table, type=kind), back.predict(table, type=kind)
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, two)
        else:
            np.testing.assert_array_equal(one.to_pandas().to_numpy(), np.asarray(two, dtype=float))
    np.testing.assert_array_equal(np.asarray(fit.draws()["log_posterior"]), np.asarray(back.draws()["log_posterior"]))
    fit.save(tmp_path / "small", posterior=False)
    small = ranef.load(tmp_path / "small")
    assert str(small.summary()) == str(fit.summary())
    with pytest.raises(OptionError, match="saved without the draws"):
        small.predict(table)


def test_threads_change_no_bit_and_seeds_do() -> None:
    table = ranef.data.load("bacteria")
    one, two = (_fit("y ~ trt + (1 | ID)", table, family="bernoulli", draws=20, threads=n) for n in (1, 2))
    np.testing.assert_array_equal(one.model.sample.parameters, two.model.sample.parameters)
    np.testing.assert_array_equal(one.model.groups[0].modes, two.model.groups[0].modes)
    other = _fit("y ~ trt + (1 | ID)", table, family="bernoulli", draws=20, seed=5)
    assert not np.array_equal(one.model.sample.parameters, other.model.sample.parameters)


def test_chains_have_streams_of_their_own() -> None:
    table = ranef.data.load("bacteria")
    two, three = (_fit("y ~ trt + (1 | ID)", table, family="bernoulli", draws=20, chains=n) for n in (2, 3))
    np.testing.assert_array_equal(two.model.sample.parameters, three.model.sample.parameters[:2])
    assert not np.array_equal(three.model.sample.parameters[0], three.model.sample.parameters[1])


def test_conjugate_gradients_draw_what_the_factorised_system_does() -> None:
    data = ranef.data.load("penicillin")
    exact, iterative = (
        _fit("diameter ~ 1 + (1 | plate) + (1 | sample)", data, solver=solver, draws=30, warmup=5)
        for solver in ("exact", "stochastic")
    )
    assert (exact.solver, iterative.solver) == ("exact", "iterative")
    # the same random numbers: they part by the accuracy of the solutions only
    np.testing.assert_allclose(iterative.model.sample.parameters, exact.model.sample.parameters, rtol=1e-3)


def test_simulated_responses_are_posterior_predictive() -> None:
    fit = _sleepstudy()
    draws = fit.simulate(200, seed=1).to_pandas().to_numpy()
    y = np.asarray(ranef.data.sleepstudy()["Reaction"])
    assert abs(draws.mean() - y.mean()) < 3 * np.std(draws.mean(axis=0))
    within = fit.simulate(200, seed=1, conditional=True).to_pandas().to_numpy()
    assert np.mean(np.std(within, axis=1)) < 0.7 * np.mean(np.std(draws, axis=1))
    assert set(_wine().simulate(1)["sim_1"].to_pylist()) <= {"1", "2", "3", "4", "5"}


def test_an_earlier_fit_is_a_start() -> None:
    fit = _sleepstudy().refit(draws=20)
    assert fit.draws().num_rows == 40
    reml = _sleepstudy().update(method="reml", draws=None, warmup=None, chains=None)
    assert reml.loglik < 0


@pytest.mark.parametrize("what", ["loglik", "deviance", "aic", "bic"])
def test_there_is_no_likelihood_at_a_maximum(what: str) -> None:
    with pytest.raises(OptionError, match="draws from the posterior"):
        getattr(_sleepstudy(), what)


def test_what_needs_a_maximum_is_refused() -> None:
    fit = _sleepstudy()
    with pytest.raises(OptionError, match="method='gibbs'"):
        ranef.anova(fit)
    for method in ("wald", "profile", "bootstrap"):
        with pytest.raises(OptionError, match="use 'quantile'"):
            fit.confint(method)
    with pytest.raises(OptionError, match="did you mean 'Days'"):
        fit.confint(parameters="days")
    other = ranef.fit("Reaction ~ Days + (1 | Subject)", ranef.data.sleepstudy())
    with pytest.raises(OptionError, match="fit with method='gibbs'"):
        other.draws()
    found = document(fit)
    assert found["loglik"] is found["aic"] is None
    assert found["method"] == "gibbs"
    assert found["fixef"][0]["rhat"] > 0.9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"draws": 3}, "draws=3: give a whole number of at least 8"),
        ({"warmup": -1}, "warmup=-1"),
        ({"chains": 0}, "chains=0"),
        ({"thin": 1.5}, "thin=1.5"),
        ({"prior": "flat"}, "use 'half-t' or 'inverse-wishart'"),
        ({"prior": {"scales": 2}}, "did you mean 'scale'"),
        ({"prior": {"sd": -1}}, "sd=-1: give a positive number"),
        ({"prior": {"fixed": {"Dayz": 1.0}}}, "did you mean 'Days'"),
        ({"prior": 3}, "a dict with keys"),
        ({"tolerance": 1e-3}, "tolerance= has no use"),
        ({"quadrature": 3}, "everything is drawn"),
        ({"lock": ["Subject"]}, "lock= has no use"),
        ({"solver": "bound"}, "solver='bound' has no use"),
        ({"method": "reml"}, "draws= goes with method='gibbs' only"),
    ],
)
def test_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        _fit("Reaction ~ Days + (1 | Subject)", ranef.data.sleepstudy(), **options)


def test_families_without_an_augmentation_are_refused_with_those_that_have_one() -> None:
    with pytest.raises(OptionError, match=r"family='poisson'.*ordinal with link probit"):
        _fit("y ~ 1 + (1 | g)", pa.table({"y": [1, 2, 3, 4], "g": ["a", "a", "b", "b"]}), family="poisson")


@pytest.mark.filterwarnings("default::ranef.errors.ConvergenceWarning")
def test_chains_that_have_not_come_together_are_told() -> None:
    with pytest.warns(ConvergenceWarning, match=r"R-hat is .* effective sample size .* Take more draws="):
        fit = _fit("Reaction ~ Days + (1 | Subject)", ranef.data.sleepstudy(), draws=8, warmup=0)
    assert not fit.converged
    assert "NOT come together" in str(fit)


def test_summary() -> None:
    text = str(_wine())
    assert text.startswith(
        "Cumulative link mixed model fit by Gibbs sampling, 2 chains of 150 draws after 60 of warm-up"
    )
    for words in ("Thresholds:", "R-hat", "Tail ESS", "sd_(Intercept)|judge", "420 sweeps"):
        assert words in text
    assert max(map(len, text.splitlines())) <= 110
    assert "deviance" not in repr(_wine())


def test_priors_hold_what_the_data_do_not_say() -> None:
    # complete separation: the posterior is the prior's, where it is proper
    table = pa.table({"y": [0.0] * 10 + [1.0] * 10, "x": [-1.0] * 10 + [1.0] * 10, "g": [*range(10)] * 2})
    fit = _fit("y ~ x + (1 | g)", table, family="bernoulli", prior={"fixed": {"x": 1.5}, "sd": 0.3}, draws=500)
    mean, sd = fit.fixef()["estimate"][1].as_py(), fit.fixef()["se"][1].as_py()
    assert 1 < mean < 4.5
    assert 0.4 < sd < 1.5
    with pytest.raises(FitError, match=r"improper: x can grow .* prior=\{'fixed': 2.5\}"):
        _fit("y ~ x + (1 | g)", table, family="bernoulli")
    with pytest.raises(FitError, match="improper: x can grow"):
        _fit("y ~ x + (1 | g)", table, family="bernoulli", link="probit", draws=20, warmup=0)
    tight = _fit("Reaction ~ Days + (1 | Subject)", ranef.data.sleepstudy(), prior={"sd": 0.01, "df": 50})
    assert tight.varcorr()["sdcor"][0].as_py() < 1


def test_parameters_are_in_the_order_of_other_fits() -> None:
    classical = ranef.fit("Reaction ~ Days + (Days | Subject)", ranef.data.sleepstudy())
    assert _sleepstudy().confint()["parameter"].to_pylist() == classical.confint()["parameter"].to_pylist()
    wine = ranef.fit("rating ~ temp + (1 | judge)", ranef.data.load("wine"), family="ordinal", link="probit")
    assert _wine().confint()["parameter"].to_pylist() == wine.confint()["parameter"].to_pylist()
