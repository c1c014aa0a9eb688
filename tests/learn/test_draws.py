"""Draws from the posterior against the dense posterior of the oracle."""

from types import SimpleNamespace

import numpy as np
import pytest

from ranef.engine.threads import engine
from ranef.learn.criterion import Criterion, evaluate
from ranef.learn.draws import draw_posterior
from ranef.learn.posterior import exact_conditional
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
        criterion, _, _, many = drawn(kind, reml, pool, range(30))
    covariance, places = posterior(rows, layout, some_theta(layout))
    first = criterion.cross.stages[0].block
    for own, at in zip(many[0].own[first], places[first].reshape(rows.blocks[first].levels, -1), strict=True):
        # what the values of this factor are without, and independent of
        covariance[np.ix_(at, at)] -= own
    values = np.concatenate(
        [np.concatenate([x.reshape(-1, 64) for x in (*draws.values, draws.beta)]) for draws in many], axis=1
    )
    count = values.shape[1]
    # errors of sums of products of normal draws; the largest of some thousands is below five
    error = np.sqrt((covariance**2 + np.outer(np.diag(covariance), np.diag(covariance))) / count)
    assert np.abs((values @ values.T / count - covariance) / error).max() < 5
    for block, own in enumerate(many[0].own):
        known, own = (np.einsum("...aa->...a", x) for x in (np.array([draws.known[block] for draws in many]), own))
        if block == first:
            np.testing.assert_array_equal(known, np.broadcast_to(own, known.shape))
        else:
            # a mean of squares of normal draws has the relative error sqrt(2 / count)
            assert np.abs(known.mean(axis=0)).max() <= 5 * np.sqrt(2 / count) * own.max()


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("kind", CROSSED)
def test_conditional_covariances(kind, reml):
    with engine(1) as pool:
        criterion, at, _, (draws,) = drawn(kind, reml, pool)
        whole = evaluate(criterion, at.theta)
        exact = exact_conditional(criterion, whole, fixed_effects(criterion, whole))
    for a, b, own in zip(exact, draws.conditional, draws.own, strict=True):
        a, b, own = (np.einsum("gaa->ga", x) for x in (a, b, own))
        assert np.all(b >= own)
        # a mean of 64 squares has a relative error of 0.18; it is of the part that is not exact
        assert np.all(np.abs(b - a) < 5 * 0.18 * (a - own) + 1e-9)


def test_the_seed_decides_and_threads_do_not():
    results = []
    for threads, seed in ((1, 0), (2, 0), (1, 1)):
        with engine(threads) as pool:
            _, _, _, (draws,) = drawn("chain and crossed", False, pool, [seed])
            results.append([*draws.values, draws.beta, *draws.conditional])
    for one, two, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
        assert not np.any(one == other)
