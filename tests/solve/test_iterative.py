"""Conjugate gradients against the dense factor on every kind of design."""

import numpy as np
import pytest

from ranef.engine.threads import engine
from ranef.solve.cross_products import cross_products
from ranef.solve.elimination import by_block, from_blocks
from ranef.solve.iterative import prepare_iterative, solve_iterative
from ranef.solve.system import factorise, solve
from tests.oracle import KINDS, example, some_theta


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_solutions(kind, fixed):
    rows, layout = example(kind, weighted=True)
    with engine(2) as pool:
        cross = cross_products(rows, pool)
        for theta in (some_theta(layout), np.where(np.arange(layout.parameters) % 2, 0.0, some_theta(layout))):
            exact = factorise(cross, layout.factors(theta), pool)
            iterative = prepare_iterative(cross, layout.factors(theta), pool, tolerance=1e-9)
            rng = np.random.default_rng(0)
            values = [rng.normal(size=(q, k, 3)) for q, k in zip(cross.levels, cross.sizes, strict=True)]
            right = from_blocks(cross, values, 3)
            right.rest[cross.random : -1] = rng.normal(size=(cross.fixed, 3))
            a, b = solve(exact, right, fixed), solve_iterative(iterative, right, fixed=fixed, tolerance=1e-9).x
            for one, other in zip(by_block(cross, a), by_block(cross, b), strict=True):
                # the iteration stops at 1e-9 of the right-hand side
                np.testing.assert_allclose(other, one, atol=1e-6 * max(1.0, np.abs(one).max()))
            np.testing.assert_allclose(b.rest[:-1], a.rest[:-1], atol=1e-6 * max(1.0, np.abs(a.rest).max()))
            np.testing.assert_allclose(np.linalg.slogdet(iterative.precision)[1], exact.logdet_fixed, rtol=1e-6)
