"""Conjugate gradients against the dense factor on every kind of design."""

from dataclasses import replace

import numpy as np
import pytest

from ranef.engine.threads import engine
from ranef.solve.cross_products import cross_products
from ranef.solve.elimination import by_block, from_blocks
from ranef.solve.iterative import log_determinant, prepare_iterative, solve_iterative
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


@pytest.mark.parametrize("kind", ["crossed", "crossed slopes", "chain and crossed"])
def test_log_determinant(kind):
    """Each probe's value is free of bias, and what factors shift together is exact."""
    rows, layout = example(kind)
    with engine(1) as pool:
        cross, factors = cross_products(rows, pool), layout.factors(some_theta(layout))
        system = prepare_iterative(cross, factors, pool)
        expected = factorise(cross, factors, pool).logdet_random - system.logdet_stages
        values = log_determinant(system, "abcd", 400, 1)
    # four errors are exceeded once in 15,000 times
    assert abs(values.mean() - expected) < 4 * values.std() / 20 + 1e-9


def test_probes_go_by_seed_name_and_number():
    rows, layout = example("chain and crossed")
    with engine(1) as pool:
        system = prepare_iterative(cross_products(rows, pool), layout.factors(some_theta(layout)), pool)
        values = log_determinant(system, "abcd", 8, 1)
        np.testing.assert_allclose(log_determinant(system, "abcd", 32, 1)[:8], values, rtol=1e-6)
        np.testing.assert_allclose(log_determinant(system, "abcd", 8, 1, skip=5), values[5:], rtol=1e-6)
        for names, seed in (("abcd", 2), ("efgh", 1)):
            assert np.abs(log_determinant(system, names, 8, seed) - values).min() > 1e-3


def test_with_one_direction_there_is_nothing_to_sample():
    rows, layout = example("crossed")
    one = replace(rows.blocks[1], codes=np.zeros_like(rows.blocks[1].codes), levels=1)
    with engine(1) as pool:
        cross = cross_products(replace(rows, blocks=(rows.blocks[0], one)), pool)
        system = prepare_iterative(cross, layout.factors(some_theta(layout)), pool)
        values = log_determinant(system, "ab", 3, 0)
    np.testing.assert_allclose(values, system.logdet_blocks, rtol=1e-12)
