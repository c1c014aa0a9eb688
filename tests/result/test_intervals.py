"""Wald intervals: values by an independent derivation, names, the boundary, errors."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.special import stdtrit

from ranef.errors import OptionError
from ranef.result.intervals import confint
from tests.result.fits import DYESTUFF, SLEEP, fit_rows, fitted, three_slopes

NAMES = ["sd_(Intercept)|Subject", "cor_Days.(Intercept)|Subject", "sd_Days|Subject", "sigma", "(Intercept)", "Days"]


def reml_deviance(design, parameters):
    """The REML criterion of a random intercept and slope, from the dense covariance of the rows."""
    sd, z, sigma = np.exp(parameters[:2]), np.tanh(parameters[2]), np.exp(parameters[3])
    covariance = np.array([[sd[0] ** 2, z * sd[0] * sd[1]], [z * sd[0] * sd[1], sd[1] ** 2]])
    group = design.groups[0]
    same = group.codes[:, None] == group.codes[None, :]
    v = same * (group.covariates @ covariance @ group.covariates.T) + sigma**2 * np.eye(len(design.y))
    solved = np.linalg.solve(v, np.column_stack([design.x, design.y]))
    vx, vy = solved[:, :-1], solved[:, -1]
    information = design.x.T @ vx
    beta = np.linalg.solve(information, design.x.T @ vy)
    residual = design.y - design.x @ beta
    return (
        np.linalg.slogdet(v)[1]
        + np.linalg.slogdet(information)[1]
        + residual @ np.linalg.solve(v, residual)
        + (len(design.y) - design.x.shape[1]) * np.log(2 * np.pi)
    )


def test_wald_against_the_hessian_on_the_transformed_scale():
    """On log sd, Fisher's z and log sigma, standard errors are those of the inverse Hessian on that scale."""
    design, model = fitted("sleepstudy", SLEEP)
    covariance = model.groups[0].covariance
    sd = np.sqrt(np.diag(covariance))
    rho = covariance[0, 1] / sd.prod()
    at = np.array([*np.log(sd), np.arctanh(rho), np.log(model.info.sigma)])
    assert reml_deviance(design, at) == pytest.approx(model.info.deviance, abs=1e-6)

    def gradient(parameters):
        steps = 1e-4 * np.eye(4)
        values = [reml_deviance(design, parameters + s) - reml_deviance(design, parameters - s) for s in steps]
        return np.array(values) / 2e-4

    hessian = approx_fprime(at, gradient, 1e-3)
    se = np.sqrt(np.diag(np.linalg.inv((hessian + hessian.T) / 4)))
    reach = 1.959963984540054 * se
    found = confint(model)
    assert found["parameter"] == NAMES
    # the Hessian is from one-sided differences
    for place, own in ((0, 0), (2, 1), (3, 3)):
        np.testing.assert_allclose(found["lower"][place], np.exp(at[own] - reach[own]), rtol=1e-3)
        np.testing.assert_allclose(found["upper"][place], np.exp(at[own] + reach[own]), rtol=1e-3)
    np.testing.assert_allclose(found["lower"][1], np.tanh(at[2] - reach[2]), rtol=2e-3)
    np.testing.assert_allclose(found["upper"][1], np.tanh(at[2] + reach[2]), rtol=2e-3)


def test_wald_of_fixed_effects():
    _, model = fitted("sleepstudy", SLEEP)
    found = confint(model, level=0.9)
    reach = stdtrit(17, 0.95) * np.sqrt(np.diag(model.vcov))
    np.testing.assert_allclose(found["lower"][4:], model.beta - reach, rtol=1e-6)
    np.testing.assert_allclose(found["upper"][4:], model.beta + reach, rtol=1e-6)
    # lme4 1.1-31: confint(fit, method = "Wald"), which uses the normal distribution
    normal = confint(model, ddf=None)
    np.testing.assert_allclose(normal["lower"][4:], [238.029222, 7.437595], atol=1e-4)


def test_names_are_lme4_s():
    """lme4 1.1-31: confint(profile(lmer(y ~ x + (x + z | g)), signames = FALSE))."""
    _, model = fit_rows(three_slopes(), "y ~ x + (x + z | g)")
    assert confint(model)["parameter"] == [
        "sd_(Intercept)|g",
        "cor_x.(Intercept)|g",
        "cor_z.(Intercept)|g",
        "sd_x|g",
        "cor_z.x|g",
        "sd_z|g",
        "sigma",
        "(Intercept)",
        "x",
    ]


def test_at_the_boundary_there_is_no_wald_interval():
    _, model = fitted("dyestuff2", DYESTUFF)
    found = confint(model)
    assert found["estimate"][0] == 0
    assert np.isnan(found["lower"][0])
    assert np.isnan(found["upper"][0])
    assert np.isfinite(found["lower"][1:]).all()


def test_a_choice_of_parameters():
    _, model = fitted("sleepstudy", SLEEP)
    everything, some = confint(model), confint(model, parameters=["Days", "sigma"])
    assert some["parameter"] == ["Days", "sigma"]
    np.testing.assert_array_equal(some["lower"], everything["lower"][[5, 3]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "profil"}, "method='profil' is not known"),
        ({"level": 95}, "level=95: give a number between 0 and 1"),
        ({"ddf": "kenward"}, "ddf='kenward' is not known"),
        ({"method": "profile"}, "needs the rows of the fit"),
        ({"parameters": ["day"]}, "no parameter 'day'; did you mean 'Days'"),
    ],
)
def test_errors(options, message):
    _, model = fitted("sleepstudy", SLEEP)
    with pytest.raises(OptionError, match=message):
        confint(model, **options)


def test_a_model_without_random_effects_is_linear_regression():
    """R 4.2.2: confint(lm(y ~ x, d)); its degrees of freedom are the residual ones."""
    design, model = fit_rows(three_slopes(), "y ~ x")
    t = stdtrit(142, 0.975) * np.sqrt(np.diag(model.vcov))
    wald = confint(model)
    assert wald["parameter"] == ["sigma", "(Intercept)", "x"]
    np.testing.assert_allclose(wald["lower"][1:], model.beta - t, rtol=1e-8)
    # the ML deviance is n log(RSS): a closed form for the profile
    profile = confint(model, method="profile", design=design, threads=1)
    rss = np.sum((design.y - design.x @ model.beta) ** 2)
    reach = np.sqrt(np.expm1(3.841458820694124 / 144) * rss * np.diag(np.linalg.inv(design.x.T @ design.x)))
    np.testing.assert_allclose(profile["lower"][1:], model.beta - reach, rtol=1e-6)
    np.testing.assert_allclose(profile["upper"][1:], model.beta + reach, rtol=1e-6)
    bootstrap = confint(model, method="bootstrap", design=design, threads=1, replicates=20)
    assert (bootstrap["lower"] < bootstrap["upper"]).all()
