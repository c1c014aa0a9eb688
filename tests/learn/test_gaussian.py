"""The stochastic search as a whole: what it counts, and where it ends."""

import numpy as np
import pytest

import ranef
import ranef.data
from ranef.errors import ConvergenceWarning


@pytest.mark.parametrize("coarse_rows", [0, 10**9])
def test_max_iterations_bounds_the_whole_search(monkeypatch, coarse_rows):
    """Coarse start, doublings of the probes and all: few rows need many probes."""
    monkeypatch.setattr("ranef.learn.gaussian.COARSE_ROWS", coarse_rows)
    made = ranef.data.simulate(200, {"user": 40, "item": 20}, seed=1)
    formula, rows = "y ~ 1 + (1 | user) + (1 | item)", made.data
    whole = ranef.fit(formula, rows, solver="stochastic")
    assert whole.converged
    assert whole.model.info.probes > 8
    for most in range(1, whole.iterations):
        with pytest.warns(ConvergenceWarning, match="Raise max_iterations"):
            found = ranef.fit(formula, rows, solver="stochastic", max_iterations=most)
        assert not found.converged
        # a coarse start that is cut short is not a start, but it is work
        assert most - (coarse_rows == 0) <= found.iterations <= most
        assert [step.iteration for step in found.history] == list(range(found.iterations))
        assert np.all(np.diff([step.seconds for step in found.history]) > 0)
    assert ranef.fit(formula, rows, solver="stochastic", max_iterations=whole.iterations).converged
