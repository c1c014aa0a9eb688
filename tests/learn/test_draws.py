"""Draws from the posterior against the dense posterior of the oracle."""

from types import SimpleNamespace

import numpy as np
import pytest

from ranef.engine.threads import engine
from ranef.learn.criterion import Criterion, evaluate
from ranef.learn.draws import draw_posterior
from ranef.learn.posterior import exact_conditional, stochastic_conditional
from ranef.learn.probes import draw_probes
from ranef.learn.stochastic import estimate, estimating
from ranef.learn.uncertainty import fixed_effects
from ranef.solve.cross_products import cross_products
from tests.oracle import dense, example, some_theta

CROSSED = ("crossed", "crossed slopes", "chain and crossed")


def drawn(kind, reml, pool, seeds=(0,)):
    rows, layout = example(kind, weighted=True)
    criterion = Criterion(cross_products(rows, pool), layout, reml, pool)
    at = estimate(estimating(criterion, draw_probes(rows, criterion.cross, pool, 8, 0)), some_theta(layout))
    fixed = fixed_effects(criterion, at)
    problem = SimpleNamespace(rows=rows, criterion=criterion)
    return criterion, at, fixed, [draw_posterior(problem, at, fixed, 64, seed) for seed in seeds]


def posterior(rows, layout, theta):
    """Covariance of all random effects and the fixed ones over sigma^2, and where each block's coefficients are."""
    whole = dense(rows, layout, theta)
    both = np.concatenate([whole.z, whole.x], axis=1)
    precision = both.T @ (whole.weights[:, None] * both)
    q = whole.z.shape[1]
    precision[:q, :q] += np.linalg.inv(whole.s)
    ends = np.cumsum([block.levels * block.size for block in rows.blocks])
    places = [np.arange(end - b.levels * b.size, end) for end, b in zip(ends, rows.blocks, strict=True)]
    return np.linalg.inv(precision), [*places, np.arange(q, len(precision))]


@pytest.mark.parametrize("kind", CROSSED)
def test_what_is_known_exactly(kind):
    """Given the fixed effects and all that is not eliminated before it, with the other levels of its own factor."""
    rows, layout = example(kind, weighted=True)
    with engine(1) as pool:
        criterion, _, _, (draws,) = drawn(kind, True, pool)
    covariance, places = posterior(rows, layout, some_theta(layout))
    chain = [stage.block for stage in criterion.cross.stages]
    for block, own in enumerate(draws.own):
        before = chain[: chain.index(block)] if block in chain else chain
        left = np.concatenate([place for b, place in enumerate(places) if b not in before])
        precision = np.linalg.inv(covariance[np.ix_(left, left)])
        size = own.shape[1]
        for level, found in enumerate(own):
            at = np.searchsorted(left, places[block][level * size : (level + 1) * size])
            np.testing.assert_allclose(found, np.linalg.inv(precision[np.ix_(at, at)]), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("kind", CROSSED)
def test_covariances_of_all_coefficients(kind, reml):
    rows, layout = example(kind, weighted=True)
    with engine(1) as pool:
        _, _, _, many = drawn(kind, reml, pool, range(30))
    covariance, _ = posterior(rows, layout, some_theta(layout))
    values, parts = (
        np.concatenate([np.concatenate([x.reshape(-1, 64) for x in arrays]) for arrays in drawn], axis=1)
        for drawn in ([(*draws.values, draws.beta) for draws in many], [draws.parts for draws in many])
    )
    count = values.shape[1]
    # errors of sums of products of normal draws; the largest of some thousands is below five
    error = np.sqrt((covariance**2 + np.outer(np.diag(covariance), np.diag(covariance))) / count)
    assert np.abs((values @ values.T / count - covariance) / error).max() < 5
    # each level's own part is independent of the fixed effects
    beta = values[len(parts) :]
    scale = np.sqrt(np.outer(np.mean(parts**2, axis=1), np.mean(beta**2, axis=1)) / count)
    assert np.abs(parts @ beta.T / count / scale).max() < 5


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("kind", CROSSED)
def test_conditional_covariances(kind, reml):
    with engine(1) as pool:
        criterion, at, fixed, (draws,) = drawn(kind, reml, pool)
        whole = evaluate(criterion, at.theta)
        exact = exact_conditional(criterion, whole, fixed_effects(criterion, whole))
        found = stochastic_conditional(draws, fixed)
    for a, b, own in zip(exact, found, draws.own, strict=True):
        a, b, own = (np.einsum("gaa->ga", x) for x in (a, b, own))
        assert np.all(b >= own)
        # a mean of 64 squares has a relative error of 0.18; it is of the part that is not exact
        assert np.all(np.abs(b - a) < 5 * 0.18 * (a - own) + 1e-9)


def test_the_seed_decides_and_threads_do_not():
    results = []
    for threads, seed in ((1, 0), (2, 0), (1, 1)):
        with engine(threads) as pool:
            _, _, _, (draws,) = drawn("chain and crossed", False, pool, [seed])
            results.append([*draws.values, draws.beta, *draws.parts])
    for one, two, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
        assert not np.any(one == other)
