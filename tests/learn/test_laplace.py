"""The Laplace deviance: its gradient against differences of its value, for every kind of term and family."""

from __future__ import annotations

import numpy as np
import pytest

from ranef.engine.threads import engine
from tests.learn.laplace_problems import BAGS, FAMILIES, TERMS, laplace_problem

CASES = [(terms, *member) for terms in TERMS for member in FAMILIES]
CASES += [(terms, *member) for terms in BAGS for member in (FAMILIES[0], FAMILIES[3], FAMILIES[5])]


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize(("terms", "name", "link"), CASES)
def test_the_gradient_is_that_of_the_deviance(terms: str, name: str, link: str, joint: bool) -> None:
    with engine(2) as pool:
        problem, parameters = laplace_problem(terms, name, link, joint, pool)
        at = problem.evaluate(parameters)
        for j in range(len(parameters)):
            step = np.zeros(len(parameters))
            step[j] = 1e-4
            far, near = (
                problem.evaluate(parameters + k * step, at).deviance
                - problem.evaluate(parameters - k * step, at).deviance
                for k in (2, 1)
            )
            # five-point difference: error of the fourth order in the step
            assert at.gradient[j] == pytest.approx((8 * near - far) / 12e-4, rel=1e-6, abs=1e-6)
