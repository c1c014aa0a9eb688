"""Compressed towers have the error that they state."""

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose

import ranef
from ranef.errors import OptionError
from ranef.score.compress import compress
from ranef.score.towers import Towers
from ranef.table import Levels


def towers_of(entity, target):
    levels = [Levels(pa.array(np.arange(n))) for n in (len(entity) - 1, len(target))]
    known = [np.ones(len(one), np.bool_) for one in levels]
    return Towers("user", "item", *levels, *known, entity, target)


@pytest.fixture(scope="module")
def draws():
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=(61, 3)), rng.normal(size=(40, 3))
    # ten draws of three numbers around one truth, turned each time
    parts = []
    for _ in range(10):
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        parts.append((((p + 0.1 * rng.normal(size=p.shape)) @ turn) / 10, (q + 0.1 * rng.normal(size=q.shape)) @ turn))
    target = np.concatenate([c for _, c in parts], axis=1)
    target[7, 2] = np.nan
    return towers_of(np.concatenate([a for a, _ in parts], axis=1), target)


@pytest.mark.parametrize("error", [0.0, 0.01, 0.03, 0.2])
def test_states_its_error(draws, error):
    found = compress(draws, error)
    exact = draws.entity_side @ draws.target_side.T
    listed = np.isfinite(exact[0])
    difference = (found.entity_side @ found.target_side.T - exact)[:-1, listed]
    assert_allclose(np.sqrt(np.mean(difference**2)), found.error, atol=1e-9)
    assert found.error <= error
    assert np.isnan(found.target_side[7]).any()
    if error == 0.2:
        assert found.width <= 3
    else:
        assert found.width <= draws.width


def test_takes_an_error(draws):
    with pytest.raises(OptionError, match="error=-1"):
        compress(draws, -1)
    assert compress(draws, 100.0).width == 1


@pytest.mark.filterwarnings("ignore::ranef.errors.RanefWarning")
def test_a_bayesian_fit_recommends_by_narrower_towers():
    rng = np.random.default_rng(2)
    user, item = rng.integers(0, 30, 300), rng.integers(0, 12, 300)
    rows = {"y": rng.normal(size=(30, 12))[user, item], "user": user, "item": item}
    fit = ranef.fit("y ~ 1 + latent(user, item, rank = 2)", rows, method="gibbs", chains=1, warmup=5, draws=8)
    whole, narrow = fit.recommend(k=12), fit.recommend(k=12, error=0.02)
    order = [np.lexsort((one["item"], one["user"])) for one in (whole, narrow)]
    difference = whole["score"][order[0]] - narrow["score"][order[1]]
    assert 0 < np.sqrt(np.mean(difference**2)) <= 0.02
    with pytest.raises(OptionError, match="leave one of them out"):
        fit.recommend(error=0.02, explore="thompson")
