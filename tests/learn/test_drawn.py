"""Moments of draws, of chains one after the other and side by side, against NumPy's."""

import numpy as np
import pytest

from ranef.learn.drawn import add_effects, empty_drawn, empty_moments, finish, join, note_effects

CHAINS, DRAWS = 3, 7


@pytest.mark.parametrize("beside", [False, True])
def test_moments_are_those_of_all_draws(beside):
    draws = [np.random.default_rng(k).normal(50, 1, (CHAINS, DRAWS, 5, k)) for k in (1, 2)]
    kept = np.array([0, 8, 20])
    out = empty_drawn((CHAINS, DRAWS), 1, 1, [(5, 1), (5, 2)], kept)
    parts = [empty_moments(out) for _ in range(CHAINS)]
    place = {int(draw): i for i, draw in enumerate(kept)}
    for chain in range(CHAINS):
        for draw in range(DRAWS):
            effects = [of[chain, draw] for of in draws]
            if beside:
                add_effects(parts[chain], draw, effects)
            else:
                note_effects(out, chain * DRAWS + draw, effects, place)
    if beside:
        join(out, parts)
    finish(out)
    for of, mean, covariance, effects in zip(draws, out.mean, out.covariance, out.effects, strict=True):
        every = of.reshape(-1, *of.shape[2:])
        np.testing.assert_allclose(mean, every.mean(axis=0), rtol=1e-13)
        for level in range(5):
            np.testing.assert_allclose(covariance[level], np.atleast_2d(np.cov(every[:, level].T)), rtol=1e-10)
        if not beside:
            assert np.array_equal(effects, np.moveaxis(every[kept], 0, -1))
