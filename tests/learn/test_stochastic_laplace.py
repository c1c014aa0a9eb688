"""The stochastic Laplace score against the exact one, within the Monte-Carlo errors that it reports."""

from __future__ import annotations

import numpy as np
import pytest

from ranef.engine.threads import engine
from ranef.learn.laplace import evaluate_laplace
from ranef.learn.stochastic_laplace import estimate_laplace, laplace_equations
from tests.learn.laplace_problems import FAMILIES, TERMS, laplace_problem


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize(("name", "link"), FAMILIES)
@pytest.mark.parametrize("terms", TERMS[1:])
def test_the_score_is_the_exact_one_but_for_its_error(terms: str, name: str, link: str, joint: bool) -> None:
    with engine(2) as pool:
        problem, parameters = laplace_problem(terms, name, link, joint, pool)
        exact = evaluate_laplace(problem, parameters, problem.start)
        found = estimate_laplace(laplace_equations(problem, 64, 0), parameters, None, 1e-6)
    for a, b in zip(exact.scores, found.scores, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-4 * np.abs(a).max())
    np.testing.assert_allclose(found.information, exact.information, rtol=1e-4, atol=1e-4 * exact.information.max())
    # 64 probes: a t distribution with 63 degrees of freedom; five errors are never exceeded by chance
    errors = np.sqrt(np.diag(found.gradient_covariance))
    assert np.all(np.abs(found.gradient - exact.gradient) < 5 * errors + 1e-3)
    for a, b, e in zip(exact.slopes, found.slopes, found.slope_errors, strict=True):
        assert np.all(np.abs(b - a) < 5 * e + 1e-3)
