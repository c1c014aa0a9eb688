"""Intervals of every family: profiles against lme4 and against profiles by hand, Wald limits, the bootstrap.

The reference: ``confint(profile(glmer(formula, data, family, control = glmerControl(tolPwrss = 1e-13, optimizer =
"bobyqa")), signames = FALSE))``, lme4 1.1-31 under R 4.2.2, which reads limits off splines through a few points.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import optimize, stats

import ranef
from ranef.engine.threads import engine
from ranef.errors import OptionError
from ranef.result.parameters import parameters_of
from ranef.result.profile_generalized import _profiled, _slice
from ranef.result.restart import at_estimates, objective_of
from tests.result.generalized import EXAMPLES, data_of, fit_of

PERIODS = ["(Intercept)", "period2", "period3", "period4"]
LME4 = {
    ("binomial", 0.95, 1): [
        (0.3460944616, 1.0998818992),
        (-1.9011561069, -0.9477913935),
        (-1.6166786645, -0.4078405187),
        (-1.8009176265, -0.5116103052),
        (-2.5006007114, -0.8008310432),
    ],
    ("binomial", 0.8, 1): [
        (0.4397742034, 0.9118995913),
        (-1.7133271319, -1.1064239579),
        (-1.3946235376, -0.6069143909),
        (-1.5600766300, -0.7206386379),
        (-2.1610526191, -1.0591425837),
    ],
    ("binomial", 0.95, 25): [
        (0.3488017407, 1.1112975027),
        (-1.9046840197, -0.9462133679),
        (-1.6160837509, -0.4066107326),
        (-1.8004080107, -0.5104499953),
        (-2.5001921034, -0.7995919417),
    ],
    ("poisson", 0.95, 1): [
        (0.40122960200, 0.63433237025),
        (1.62078751113, 2.04092046230),
        (0.62210553532, 1.14494050830),
        (-0.63101517378, -0.04222096261),
        (-0.21405666190, 1.16705807830),
        (-0.26784103345, -0.05382727157),
        (-0.06469895792, 0.74405470804),
    ],
}


def limits(fit, method, **options):
    found = fit.confint(method, **options)
    return list(np.asarray(found["parameter"])), np.column_stack([found["lower"], found["upper"]]).astype(float)


@pytest.mark.parametrize("case", LME4, ids=str)
def test_profiles_are_lme4_s(case):
    family, level, nodes = case
    fit = fit_of(family) if nodes == 1 else fit_of(family, quadrature=nodes)
    _, found = limits(fit, "profile", level=level, threads=1)
    # of the length of the interval
    length = found[:, 1] - found[:, 0]
    assert (np.abs(found - np.array(LME4[case])) < 5e-4 * length[:, None]).all()


def test_the_profile_of_a_variance_is_that_of_clmm2():
    """The tutorial of R's ordinal: ``confint(profile(clmm2(...), which.term = "stDev"))`` of the wine data."""
    _, found = limits(fit_of("ordinal"), "profile", parameters="sd_(Intercept)|judge", threads=1)
    np.testing.assert_allclose(found[0], [0.5014584, 2.266741], rtol=2e-4)


def slopes():
    """A weak random slope; no random numbers, so that R makes the same."""
    i, level = np.arange(1, 301), np.arange(1, 31)
    g = np.repeat(level, 10) - 1
    x = np.sin(i * 1.3)
    u, v = np.sin(level * 2.1) * 1.2, np.cos(level * 3.7) * 0.7
    y = 0.3 + u[g] + (0.5 + v[g] + 0.4 * u[g]) * x + 1.5 * np.sin(i * i * 0.37) > 0
    return {"y": y.astype(float), "x": x, "g": g}


def test_a_negligible_slope_leaves_its_correlation_free():
    """lme4 warns of a profile of the correlation that is not monotonic, and finds the same ends."""
    names, found = limits(ranef.fit("y ~ x + (x | g)", slopes(), family="bernoulli"), "profile", threads=1)
    expected = [
        (0.40702208053, 1.2921522484),
        (-1.0, 1.0),
        (0.0, 1.2657521062),
        (0.12346854466, 0.9471554467),
        (0.01517091982, 0.9349299272),
    ]
    assert names[1] == "cor_x.(Intercept)|g"
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=4e-4)


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("bernoulli", ["sd_(Intercept)|ID", "trtdrug"]),
        ("negative_binomial", ["theta", "minedno"]),
        ("gamma", ["dispersion", "x"]),
        ("ordinal", ["1|2", "3|4", "contactyes"]),
    ],
)
def test_profiles_by_hand(family, names):
    """At a limit the deviance's minimum over the others, by a search on its values alone, is higher by the quantile."""
    fit = fit_of(family)
    _, found = limits(fit, "profile", parameters=names, threads=1)
    with engine(1) as pool:
        prepared, parameters = at_estimates(fit.model, fit._design, pool)
        m, p = prepared.layout.parameters, len(fit.model.beta)
        laplace = objective_of(prepared.of, prepared.layout, False, parameters[m : m + p], 1)
        at = laplace.evaluate(parameters)
        scale = np.sqrt(2 / np.diag(at.metric))
        # what each parameter is of (theta, beta, phi): linear
        own = [one.name for one in fit.model.info.family_parameters]
        for name, ends in zip(names, found, strict=True):
            direction = np.zeros(len(parameters))
            values = ends
            if name in own:
                direction[m + p + own.index(name)] = 1.0
                values = ends if family == "ordinal" else np.log(ends)
            elif name.startswith("sd"):
                direction[0] = 1.0
            else:
                direction[m : m + p] = prepared.scaling.x_back[fit.model.fixed_names.index(name)]
            plane = scale[:, None] * np.linalg.qr((scale * direction)[:, None], mode="complete")[0][:, 1:]
            for value in values:
                centre = parameters + scale**2 * direction * (value - direction @ parameters) / (
                    (scale * direction) @ (scale * direction)
                )

                def rise(w, centre=centre, plane=plane):
                    return laplace.evaluate(centre + plane @ w, at).deviance - fit.deviance

                held = optimize.minimize(rise, np.zeros(plane.shape[1]), method="BFGS", options={"gtol": 1e-4})
                assert held.fun == pytest.approx(stats.chi2.ppf(0.95, 1), abs=2e-3), name


def test_the_gradient_along_a_slice_is_that_of_its_deviance():
    fit = fit_of("gamma")
    with engine(1) as pool:
        profiled = _profiled(fit.model, fit._design, pool)
        for one, value in zip(parameters_of(fit.model), [0.5, 0.6, 0.3, 0.4, 0.9, 0.2], strict=True):
            held = _slice(profiled, one, value)
            u = held.start + 0.05
            at = held.evaluate(u)
            for j in range(len(u)):
                step = np.zeros(len(u))
                step[j] = 1e-4
                ahead, behind = held.evaluate(u + step, at).deviance, held.evaluate(u - step, at).deviance
                assert at.gradient[j] == pytest.approx((ahead - behind) / 2e-4, rel=1e-5, abs=1e-5)


def test_a_variance_estimated_as_zero():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ranef.SingularFitWarning)
        fit = ranef.fit(
            "rating ~ temp + contact + (1 | judge) + (1 | bottle)", ranef.data.load("wine"), family="ordinal"
        )
    names = ["sd_(Intercept)|bottle", "tempwarm"]
    _, found = limits(fit, "profile", parameters=names, threads=1)
    assert found[0, 0] == 0
    assert 0 < found[0, 1] < 2
    assert np.isfinite(found).all()
    _, wald = limits(fit, "wald", parameters=names)
    assert np.isnan(wald[0]).all()


def test_counts_without_overdispersion_have_no_largest_theta():
    """A Poisson response: theta may be infinite, where the model is a Poisson one."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(30), 8)
    y = rng.poisson(np.exp(1 + 0.5 * rng.standard_normal(30)[g]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ranef.RanefWarning)
        fit = ranef.fit("y ~ 1 + (1 | g)", {"y": y, "g": g}, family="negative_binomial")
    _, found = limits(fit, "profile", parameters="theta", threads=1)
    assert np.isinf(found[0, 1])
    assert found[0, 0] > 2


@pytest.mark.parametrize("family", EXAMPLES)
def test_wald_limits_by_their_definition(family):
    fit = fit_of(family)
    model, z = fit.model, stats.norm.ppf(0.95)
    names, found = limits(fit, "wald", level=0.9)
    fixed = [names.index(name) for name in model.fixed_names]
    se = np.sqrt(np.diag(model.vcov))
    np.testing.assert_allclose(found[fixed], np.column_stack([model.beta - z * se, model.beta + z * se]))
    row = model.varcorr[0]
    np.testing.assert_allclose(np.log(found[0] / row.sdcor), np.array([-1, 1]) * z * row.se / row.vcov / 2)
    for one in model.info.family_parameters:
        ends = found[names.index(one.name)]
        if family == "ordinal":
            np.testing.assert_allclose(ends, [one.value - z * one.se, one.value + z * one.se])
        else:
            np.testing.assert_allclose(np.log(ends / one.value), np.array([-1, 1]) * z * one.se / one.value)


def test_a_wald_correlation_by_differences():
    """By the delta method on Fisher's scale, with the covariance that the fit's own parameters have."""
    fit = fit_of("gamma")
    names, found = limits(fit, "wald")
    place = names.index("cor_x.(Intercept)|g")
    middle = np.arctanh(found[place]).mean()
    covariance = fit.model.groups[0].covariance
    assert np.tanh(middle) == pytest.approx(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))
    _, profile = limits(fit, "profile", parameters=["cor_x.(Intercept)|g"], threads=1)
    np.testing.assert_allclose(np.arctanh(found[place]), np.arctanh(profile[0]), atol=0.1)


@pytest.mark.parametrize("family", ["poisson", "gamma", "ordinal"])
def test_bootstrap_limits(family):
    """80 replicates: within a third of an interval's length of the profile's limits but for the variances' bias."""
    fit = fit_of(family)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ranef.ConvergenceWarning)
        names, found = limits(fit, "bootstrap", level=0.8, replicates=80, seed=2, threads=1)
    _, profile = limits(fit, "profile", level=0.8, threads=1)
    places = [i for i, name in enumerate(names) if not name.startswith(("sd", "cor"))]
    length = (profile[:, 1] - profile[:, 0])[:, None]
    assert (np.abs(found - profile) < 0.35 * length)[places].all()
    assert (found[:, 0] < found[:, 1]).all()


def test_bootstrap_of_a_joint_fit():
    fit = fit_of("binomial", method="joint")
    names, found = limits(fit, "bootstrap", replicates=30, parameters=["period4"], threads=1)
    assert names == ["period4"]
    assert found[0, 0] < fit.model.beta[3] < found[0, 1]


def test_a_joint_fit_is_profiled_by_laplace():
    joint = limits(fit_of("binomial", method="joint"), "profile", parameters=["period2"], threads=1)
    laplace = limits(fit_of("binomial"), "profile", parameters=["period2"], threads=1)
    np.testing.assert_allclose(joint[1], laplace[1], rtol=1e-5)


def test_a_loaded_model_takes_its_rows(tmp_path):
    fit = fit_of("ordinal")
    fit.save(tmp_path / "model")
    again = ranef.load(tmp_path / "model")
    np.testing.assert_allclose(limits(again, "wald")[1], limits(fit, "wald")[1])
    options = {"parameters": ["2|3", "tempwarm"], "threads": 1}
    given = limits(again, "profile", data=data_of("ordinal"), **options)
    np.testing.assert_allclose(given[1], limits(fit, "profile", **options)[1], rtol=1e-6)
    with pytest.raises(OptionError, match="pass data="):
        again.confint("profile")
    with pytest.raises(OptionError, match=r"did you mean '2\|3'"):
        fit.confint(parameters="1|3")
