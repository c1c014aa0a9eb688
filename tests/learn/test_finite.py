"""Where floating point ends: searches step back, and a fit that cannot be made says so without warnings of NumPy."""

import numpy as np
import pytest

import ranef
from ranef.engine.threads import engine
from ranef.learn.finite import check_finite
from ranef.result.summary import summary_text


def test_a_point_that_cannot_be_computed_is_an_error():
    check_finite(1.0, np.zeros(2), np.zeros((0, 0)))
    for value in (np.nan, np.inf, np.array([1.0, -np.inf])):
        with pytest.raises(ranef.FitError, match="out of range"):
            check_finite(0.0, value)


@pytest.mark.parametrize("threads", [1, 2])
def test_no_flags_are_reported_in_any_thread(threads):
    with engine(threads) as pool:
        found = pool.map(lambda x: np.array([x]) * 1e300, [(1e300,), (2.0,), (1e300,), (1.0,)])
    assert [float(one[0]) for one in found] == [np.inf, 2e300, np.inf, 1e300]


def test_responses_that_are_impossible_at_their_means():
    fit = ranef.fit("y ~ 1", {"y": np.array([0, 1, 2, 4, 3])}, family="poisson")
    text = summary_text(fit.model, quantiles=np.array([-1.0, 0.0, 0.5, 1.0, np.inf]))
    assert "infinite where the fitted mean" in text


def test_many_parameters_have_standard_errors_of_the_average_information():
    rng = np.random.default_rng(1)
    data = {"y": rng.poisson(2.0, 60), "g": rng.integers(0, 6, 60), "h": rng.integers(0, 16, 60).astype(str)}
    with pytest.warns(ranef.RanefWarning):
        fit = ranef.fit("y ~ 1 + (h | g)", data, family="poisson", max_iterations=5)
    assert fit.model.info.information == "average"


def test_what_kept_a_search_from_its_end_is_named():
    data = {"y": [1e14, 2.0, 1.0, 3e12, 1.0, 2.0], "g": ["a", "b", "a", "b", "c", "c"]}
    with pytest.warns(ranef.errors.ConvergenceWarning, match="the counts of y are as large as 1e\\+14"):
        ranef.fit("y ~ 1 + (1 | g)", data, family="poisson", max_iterations=20)
