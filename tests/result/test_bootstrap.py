"""Bootstrap intervals: agreement with theory, determinism, failed refits."""

import numpy as np
import pytest

from ranef.engine.threads import engine
from ranef.errors import ConvergenceWarning, FitError, OptionError
from ranef.result import bootstrap as room
from ranef.result.bootstrap import bootstrap
from ranef.result.intervals import confint
from ranef.result.parameters import parameters_of
from tests.result.fits import PASTES, SLEEP, fit_rows, fitted, three_slopes


@pytest.fixture(scope="module")
def replicates():
    design, model = fitted("sleepstudy", SLEEP)
    wanted = parameters_of(model)
    with engine(1) as pool:
        return model, wanted, bootstrap(model, design, wanted, 300, 5, pool)


def test_refits_scatter_around_the_fit(replicates):
    model, wanted, estimates = replicates
    fixed = [place for place, one in enumerate(wanted) if one.kind == "fixed"]
    se = np.sqrt(np.diag(model.vcov))
    # the design is balanced: estimates of the fixed effects are normal with the model's own covariance
    mean, spread = estimates[:, fixed].mean(axis=0), estimates[:, fixed].std(axis=0, ddof=1)
    assert (np.abs(mean - model.beta) < 4 * se / np.sqrt(300)).all()
    np.testing.assert_allclose(spread, se, rtol=4 / np.sqrt(600))
    sigma = estimates[:, [one.kind == "sigma" for one in wanted]]
    # 144 degrees of freedom within subjects
    assert abs(sigma.mean() / model.info.sigma - 1) < 4 / np.sqrt(2 * 144 * 300) + 1 / (4 * 144)


def test_limits_are_percentiles_and_seeded():
    design, model = fitted("pastes", PASTES)
    options = {"method": "bootstrap", "design": design, "replicates": 39, "threads": 1}
    found, again, other = (confint(model, seed=seed, **options) for seed in (1, 1, 2))
    for side in ("lower", "upper"):
        np.testing.assert_array_equal(found[side], again[side])
        assert (found[side] != other[side]).any()
    wanted = parameters_of(model)
    with engine(1) as pool:
        estimates = np.sort(bootstrap(model, design, wanted, 39, 1, pool), axis=0)
    # with 39 replicates the 2.5 % limits are the smallest and the largest
    np.testing.assert_allclose(found["lower"], estimates[0])
    np.testing.assert_allclose(found["upper"], estimates[-1])


def test_correlations_and_weights():
    design, model = fit_rows(three_slopes(), "y ~ x + (x + z | g)", weights="wt")
    found = confint(model, method="bootstrap", design=design, replicates=20, threads=1, level=0.8)
    assert (found["lower"] < found["upper"]).all()
    cor = [name.startswith("cor") for name in found["parameter"]]
    assert (np.abs(found["lower"][cor]) <= 1 + 1e-12).all()


def test_failed_refits_are_counted(monkeypatch):
    design, model = fitted("pastes", PASTES)
    real, calls = room.prepare, []

    def sometimes(*arguments):
        calls.append(1)
        if len(calls) % 4 == 0:
            raise FitError("no")
        return real(*arguments)

    monkeypatch.setattr(room, "prepare", sometimes)
    with pytest.warns(ConvergenceWarning, match="2 of 10 bootstrap refits"):
        found = confint(model, method="bootstrap", design=design, replicates=10, threads=1)
    assert np.isfinite(found["lower"]).all()


def test_errors():
    design, model = fitted("pastes", PASTES)
    with pytest.raises(OptionError, match="replicates=1"):
        confint(model, method="bootstrap", design=design, replicates=1)
