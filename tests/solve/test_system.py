"""The factorised system against dense algebra on every kind of design."""

import numpy as np
import pytest

from ranef.engine.threads import engine
from ranef.errors import FitError
from ranef.solve import order
from ranef.solve.cross_products import cross_products
from ranef.solve.elimination import by_block, from_blocks, inner, multiply
from ranef.solve.inverse import invert
from ranef.solve.order import nesting
from ranef.solve.rows import Block, Rows
from ranef.solve.system import factorise, solve
from tests.oracle import KINDS, dense, example, some_theta

# Both sides are float64 with condition numbers below 1e4: 1e-9 leaves four digits to rounding.
TIGHT = {"rtol": 1e-9, "atol": 1e-10}


@pytest.fixture(params=[(kind, weighted) for kind in KINDS for weighted in (False, True)], ids=str)
def case(request):
    kind, weighted = request.param
    rows, layout = example(kind, weighted=weighted)
    theta = some_theta(layout)
    with engine(1) as pool:
        cross = cross_products(rows, pool)
        yield rows, layout, cross, factorise(cross, layout.factors(theta), pool), dense(rows, layout, theta)


def flat(blocks):
    return np.concatenate([b.reshape(-1, b.shape[-1]) for b in blocks])


def test_solution_and_determinants(case):
    rows, _, cross, system, oracle = case
    np.testing.assert_allclose(system.beta, oracle.beta(), **TIGHT)
    np.testing.assert_allclose(flat(by_block(cross, system.solution))[:, 0], oracle.modes(), **TIGHT)
    quadratic = rows.y @ oracle.projection @ rows.y
    np.testing.assert_allclose(system.residual, quadratic, rtol=1e-10)
    # |V| = |W^-1| |C_b|
    logdet = np.linalg.slogdet(oracle.v)[1] + np.log(oracle.weights).sum()
    np.testing.assert_allclose(system.logdet_random, logdet, rtol=1e-10)
    fixed = np.linalg.slogdet(rows.x.T @ oracle.precision @ rows.x)[1]
    np.testing.assert_allclose(system.logdet_fixed, fixed, rtol=1e-10)


@pytest.mark.parametrize("fixed", [False, True])
def test_inverse_and_traces(case, fixed):
    _, _, cross, system, oracle = case
    found = invert(system, fixed)
    p = oracle.projection if fixed else oracle.precision
    # posterior covariance S - S Z' P Z S and score traces Z' P Z, block by block
    crossed = oracle.z.T @ p @ oracle.z
    posterior = oracle.s - oracle.s @ crossed @ oracle.s
    at = 0
    for diagonal, trace, levels, k in zip(found.diagonal, found.trace, cross.levels, cross.sizes, strict=True):
        total = np.zeros((k, k))
        for g in range(levels):
            own = slice(at + g * k, at + (g + 1) * k)
            np.testing.assert_allclose(diagonal[g], posterior[own, own], **TIGHT)
            total += crossed[own, own]
        np.testing.assert_allclose(trace, total, rtol=1e-8)
        at += levels * k


@pytest.mark.parametrize("fixed", [False, True])
def test_solve_and_multiply(case, fixed):
    rows, _, cross, system, oracle = case
    rng = np.random.default_rng(1)
    right = from_blocks(cross, [rng.normal(size=(q, k, 3)) for q, k in zip(cross.levels, cross.sizes, strict=True)], 3)
    blocks = flat(by_block(cross, right))
    p = oracle.projection if fixed else oracle.precision
    posterior = oracle.s - oracle.s @ oracle.z.T @ p @ oracle.z @ oracle.s
    found = solve(system, right, fixed)
    np.testing.assert_allclose(flat(by_block(cross, found)), posterior @ blocks, **TIGHT)
    product = multiply(cross, right, system.engine)
    wz = oracle.weights[:, None] * oracle.z
    np.testing.assert_allclose(flat(by_block(cross, product)), oracle.z.T @ wz @ blocks, **TIGHT)
    np.testing.assert_allclose(product.rest[cross.random : -1], rows.x.T @ wz @ blocks, **TIGHT)
    np.testing.assert_allclose(inner(right, product), blocks.T @ oracle.z.T @ wz @ blocks, **TIGHT)


@pytest.mark.parametrize("kind", ["one", "slope", "crossed", "chain", "chain and crossed"])
def test_zero_variances_are_ordinary_points(kind):
    rows, layout = example(kind)
    theta = some_theta(layout)
    zero = np.zeros_like(theta)
    with engine(1) as pool:
        cross = cross_products(rows, pool)
        for point in (zero, np.where(np.arange(len(theta)) % 2, 0.0, theta)):
            system, oracle = factorise(cross, layout.factors(point), pool), dense(rows, layout, point)
            np.testing.assert_allclose(system.beta, oracle.beta(), **TIGHT)
            found = invert(system, True)
            crossed = oracle.z.T @ oracle.projection @ oracle.z
            at = 0
            for trace, levels, k in zip(found.trace, cross.levels, cross.sizes, strict=True):
                total = sum(
                    crossed[at + g * k : at + (g + 1) * k, at + g * k : at + (g + 1) * k] for g in range(levels)
                )
                np.testing.assert_allclose(trace, total, rtol=1e-8)
                at += levels * k


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(order, "ROWS_A_PARTITION", 10)
    for kind in KINDS:
        rows, layout = example(kind)
        results = []
        for threads in (1, 2, 5):
            with engine(threads) as pool:
                cross = cross_products(rows, pool)
                system = factorise(cross, layout.factors(some_theta(layout)), pool)
                found = invert(system, True)
                solved = solve(system, from_blocks(cross, by_block(cross, system.solution), 1))
                assert all(len(stage.partitions) > 1 for stage in cross.stages[:1])
                results.append([system.residual, system.logdet_random, *found.diagonal, *found.trace, solved.rest])
        for other in results[1:]:
            for a, b in zip(results[0], other, strict=True):
                np.testing.assert_array_equal(a, b)


def test_elimination_follows_the_codes_not_the_order_of_terms():
    def block(codes, k=1):
        codes = np.asarray(codes, np.int32)
        return Block(codes, int(codes.max()) + 1, np.ones((len(codes), k)))

    inner_codes = np.arange(24) % 12
    chain = [block(inner_codes % 3), block(inner_codes), block(inner_codes % 6)]
    assert nesting(chain).order == (1, 2, 0)
    crossed = [block(np.arange(24) % 4), block(np.arange(24) // 4)]
    assert nesting(crossed).order == (1,)
    # a factor with more coefficients is still eliminated after what is nested in it
    assert nesting([block(inner_codes % 6, 3), block(inner_codes)]).order == (1, 0)
    assert nesting([]).order == ()


def test_too_many_crossed_levels_are_refused_with_the_number():
    n = 40_000
    a, b = np.roll(np.arange(n) // 2, 1).astype(np.int32), ((np.arange(n) * 7919) % 17_000).astype(np.int32)
    rows = Rows(np.ones(n), np.ones((n, 1)), (Block(a, n // 2, np.ones((n, 1))), Block(b, 17_000, np.ones((n, 1)))))
    with engine(1) as pool, pytest.raises(FitError, match="17,000 random effects together"):
        factorise(cross_products(rows, pool), [np.eye(1), np.eye(1)], pool)
