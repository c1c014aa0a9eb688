"""Profile intervals against lme4 1.1-31 under R 4.2.2, and the surface that they move on.

The reference: ``confint(profile(lmer(formula, data, control = lmerControl(optimizer = "bobyqa",
optCtrl = list(rhoend = 1e-10))), signames = FALSE))``. lme4 reads limits off splines through a few points of the
profile, hence the tolerance.
"""

from dataclasses import replace

import numpy as np
import pytest

from ranef.engine.threads import engine
from ranef.learn.criterion import deviance, evaluate
from ranef.learn.gaussian import prepare
from ranef.learn.minimise import minimise
from ranef.result.intervals import confint
from ranef.result.surface import deviance_of
from tests.oracle import some_theta
from tests.result.fits import DYESTUFF, PASTES, PENICILLIN, SLEEP, fit_rows, fitted, three_slopes

LIMITS = {
    ("dyestuff", DYESTUFF, 0.95): [
        (12.19853522, 84.06304670),
        (38.22998488, 67.65769624),
        (1486.45149997, 1568.54849437),
    ],
    ("sleepstudy", SLEEP, 0.95): [
        (14.3815431474, 37.7159963218),
        (-0.4815007399, 0.6849859786),
        (3.8011640712, 8.7533831195),
        (22.8982668813, 28.8579965349),
        (237.6806954894, 265.1295146187),
        (7.3586532600, 13.5759187522),
    ],
    ("sleepstudy", SLEEP, 0.8): [
        (17.3808197288, 32.0742465643),
        (-0.3091575018, 0.4884916591),
        (4.3875342680, 7.5115249677),
        (23.7744224889, 27.6531172857),
        (242.7079016330, 260.1023081229),
        (8.4973352241, 12.4372367084),
    ],
    ("sleepstudy", "Reaction ~ Days + (Days || Subject)", 0.95): [
        (15.258646885, 37.786472466),
        (3.964073806, 8.769159084),
        (22.880554648, 28.787597595),
        (237.572148009, 265.238061759),
        (7.334066829, 13.600505106),
    ],
    ("penicillin", PENICILLIN, 0.95): [
        (0.6335657876, 1.1821039841),
        (1.0957892650, 3.5562919110),
        (0.4858454002, 0.6294534785),
        (21.2666273835, 24.6778176175),
    ],
    ("pastes", PASTES, 0.95): [
        (2.1579337084, 4.053588941),
        (0.0, 2.946591111),
        (0.6520233561, 1.085448104),
        (58.6636503785, 61.443016369),
    ],
}


@pytest.mark.parametrize("fit", LIMITS, ids=lambda fit: f"{fit[0]} {fit[1]} {fit[2]}")
def test_limits_are_lme4_s(fit):
    data, formula, level = fit
    design, model = fitted(data, formula)
    found = confint(model, method="profile", level=level, design=design, threads=1)
    lower, upper = np.array(LIMITS[fit]).T
    np.testing.assert_allclose(found["lower"], lower, rtol=5e-4)
    np.testing.assert_allclose(found["upper"], upper, rtol=5e-4)


def test_three_correlated_coefficients():
    design, model = fit_rows(three_slopes(), "y ~ x + (x + z | g)")
    names = ["sd_(Intercept)|g", "sd_x|g", "sd_z|g", "sigma", "(Intercept)", "x"]
    found = confint(model, method="profile", design=design, threads=1)
    places = [found["parameter"].index(name) for name in names]
    lower = [0.6652406469, 0.5173651499, 0.3947830286, 0.7056079619, 0.4425286183, 0.4457738442]
    upper = [1.5814417592, 1.3517526786, 1.1259858928, 0.9212280941, 1.6307403569, 1.5232166410]
    np.testing.assert_allclose(found["lower"][places], lower, rtol=5e-4)
    np.testing.assert_allclose(found["upper"][places], upper, rtol=5e-4)
    # lme4 leaves the valid matrices on the way and gives 0.2191, 0.9505 and -0.7216 for these; a search without
    # derivatives, from four starts, finds rises of 3.8414, 5.4064 and 3.7884 there, and 3.84146 at those below
    places = [found["parameter"].index(name) for name in ("cor_x.(Intercept)|g", "cor_z.x|g")]
    np.testing.assert_allclose(found["lower"][places], [0.219117, -0.724162], rtol=1e-5)
    assert found["upper"][places[0]] == pytest.approx(0.931400, rel=1e-5)


def test_a_correlation_of_a_negligible_slope_may_be_anything():
    """The slope's standard deviation could be zero (its own lower limit is), and then so could any correlation."""
    rows = three_slopes()
    rows["y"] = rows["y"] + np.sin(rows["g"] * 2.9) - 0.97 * np.cos(rows["g"] * 3.7) * rows["x"]
    design, model = fit_rows(rows, "y ~ x + z + (z | g)")
    assert not model.info.singular
    found = confint(model, method="profile", level=0.9999999, design=design, threads=1)
    assert found["lower"][2] == 0
    assert (found["lower"][1], found["upper"][1]) == (-1, 1)


def test_a_variance_estimated_as_zero():
    """lme4 1.1-31 gives 0 and 2.084043."""
    design, model = fitted("dyestuff2", DYESTUFF)
    found = confint(model, method="profile", design=design, threads=1)
    assert found["lower"][0] == 0
    assert found["upper"][0] == pytest.approx(2.084043, rel=1e-4)
    assert np.isfinite(found["lower"][1:]).all()


def test_one_variance_for_several_coefficients_has_one_interval():
    design, model = fit_rows(three_slopes(), "y ~ x + us(1 | g) + homdiag(0 + x + z | g)")
    found = confint(model, method="profile", design=design, threads=1)
    assert found["lower"][1] == found["lower"][2] > 0
    assert found["upper"][1] == found["upper"][2] > found["estimate"][1]


def test_fixed_effects_without_random_correlation_by_hand():
    """A held effect is an offset: the limits are where the refitted ML deviance is larger by the quantile."""
    design, model = fitted("sleepstudy", SLEEP, "ml")
    found = confint(model, method="profile", design=design, threads=1, parameters=["Days"])
    for limit in (found["lower"][0], found["upper"][0]):
        held = replace(design, y=design.y - limit * design.x[:, 1], x=design.x[:, :1])
        with engine(1) as pool:
            problem = prepare(held, "ml", pool)
            rise = minimise(problem.criterion, np.ones(3), tolerance=1e-9, max_iterations=100).at.deviance
        assert rise - model.info.deviance == pytest.approx(3.841458820694124, abs=1e-4)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_surface_against_the_criterion_and_differences(weighted):
    rows = three_slopes()
    design, model = fit_rows(rows, "y ~ x + (x + z | g)", "ml", weights="wt" if weighted else None)
    with engine(1) as pool:
        problem = prepare(design, "ml", pool)
        theta = some_theta(problem.layout)
        back, y = problem.scaling.z_back[0], problem.scaling.y_scale
        factor = problem.layout.factors(theta)[0]
        # at the residual variance that is best for theta the profiled criterion is the same
        sigma = y * np.sqrt(evaluate(problem.criterion, theta).sigma2)
        root = sigma * back @ factor
        at = deviance_of(problem, [root], sigma)
        assert at.deviance == pytest.approx(deviance(problem.criterion, theta), abs=1e-8)
        turned = root @ np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
        assert deviance_of(problem, [turned], sigma).deviance == pytest.approx(at.deviance, abs=1e-8)
        h = 1e-5
        at = deviance_of(problem, [turned], 1.3 * sigma)
        for i, j in np.ndindex(3, 3):
            step = np.zeros((3, 3))
            step[i, j] = h
            ahead = deviance_of(problem, [turned + step], 1.3 * sigma).deviance
            behind = deviance_of(problem, [turned - step], 1.3 * sigma).deviance
            assert at.roots[0][i, j] == pytest.approx((ahead - behind) / (2 * h), rel=1e-5, abs=1e-5)
        ahead = deviance_of(problem, [turned], 1.3 * sigma * np.exp(h)).deviance
        behind = deviance_of(problem, [turned], 1.3 * sigma * np.exp(-h)).deviance
        assert at.log_sigma == pytest.approx((ahead - behind) / (2 * h), rel=1e-5)
    assert model.info.converged
