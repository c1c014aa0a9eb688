"""Monte-Carlo errors of the fixed effects and of a family's own parameters."""

from __future__ import annotations

import numpy as np
import pytest

import ranef
from ranef.data import simulate
from ranef.engine.threads import engine
from ranef.learn.criterion import Criterion, evaluate
from ranef.learn.uncertainty import fixed_effects
from ranef.solve.cross_products import cross_products
from tests.oracle import KINDS, example, some_theta

SEEDS = 10
MODELS = [("gaussian", "reml"), ("bernoulli", "laplace"), ("bernoulli", "joint"), ("ordinal", "laplace")]


@pytest.mark.parametrize("kind", KINDS)
def test_fixed_effects_follow_the_covariances(kind: str) -> None:
    rows, layout = example(kind, weighted=True)
    with engine(1) as pool:
        criterion = Criterion(cross_products(rows, pool), layout, True, pool)
        theta = some_theta(layout)
        moves = fixed_effects(criterion, evaluate(criterion, theta)).moves
        assert moves.shape == (criterion.cross.fixed, len(theta) + 1)
        for j, step in enumerate(1e-5 * np.eye(len(theta))):
            ahead, behind = (evaluate(criterion, theta + sign * step).system.beta for sign in (1, -1))
            np.testing.assert_allclose(moves[:, j], (ahead - behind) / 2e-5, rtol=1e-5, atol=1e-9)
        np.testing.assert_array_equal(moves[:, -1], 0.0)


@pytest.mark.parametrize(("family", "method"), MODELS)
def test_they_are_what_other_seeds_show(family: str, method: str) -> None:
    fixed = {"x": 0.4} if family == "ordinal" else {"(Intercept)": 0.6, "x": 0.4}
    own = {"thresholds": [-0.5, 1.0]} if family == "ordinal" else {}
    made = simulate(
        1_000, {"user": 90, "item": 40}, family=family, sd={"user": 0.9, "item": 0.7}, fixed=fixed, seed=2, **own
    )
    exact = ranef.fit(made.formula, made.data, family=family, method=method, solver="exact")
    assert "mcse" not in exact.fixef().column_names
    off = []
    for seed in range(SEEDS):
        found = ranef.fit(
            made.formula, made.data, family=family, method=method, solver="stochastic", probes=16, seed=seed
        )
        tables = [(found.fixef(), exact.fixef())]
        tables += [(found.thresholds(), exact.thresholds())] if family == "ordinal" else []
        off.append(
            np.concatenate(
                [(np.asarray(a["estimate"]) - np.asarray(b["estimate"])) / np.asarray(a["mcse"]) for a, b in tables]
            )
        )
    # an error from 16 probes is printed larger by a quarter: three of them are as rare as three known ones
    spread = np.sqrt(np.mean(np.square(off), axis=0))
    assert np.all((spread > 0.25) & (spread < 1.5)), spread
    assert np.abs(off).max() < 4
