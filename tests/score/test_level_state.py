"""States of levels against dense posteriors and modes, and in pieces against all at once."""

import numpy as np
import pytest
from scipy import optimize

from ranef.errors import FitError, OptionError
from ranef.family import family, gaussian, ordinal
from ranef.score.level_state import Events, LevelState, absorb, forgotten

D = 5


def prior(seed=0):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((D, D))
    return LevelState(rng.standard_normal(D), root @ root.T + np.eye(D))


def events(count, draw, seed=1):
    rng = np.random.default_rng(seed)
    h, offset = rng.standard_normal((count, D)), rng.standard_normal(count)
    return Events(h, draw(rng, count), offset, rng.uniform(0.5, 2.0, count))


def piece(of, start, stop):
    return Events(of.covariates[start:stop], of.y[start:stop], of.offset[start:stop], of.weights[start:stop])


def test_gaussian_rows_give_the_exact_posterior_whatever_their_pieces():
    own, phi = gaussian(), np.array([np.log(0.7)])
    state, rows = prior(), events(40, lambda rng, n: rng.standard_normal(n))
    w = rows.weights / 0.7
    precision = state.precision + (rows.covariates.T * w) @ rows.covariates
    right = state.precision @ state.mean + rows.covariates.T @ (w * (rows.y - rows.offset))
    for cuts in ([0, 40], [0, 7, 8, 8, 31, 40], range(41)):
        at = state
        for start, stop in zip(list(cuts)[:-1], list(cuts)[1:], strict=True):
            at = absorb(at, piece(rows, start, stop), own, phi)
        np.testing.assert_allclose(at.precision, precision, rtol=1e-12)
        np.testing.assert_allclose(at.mean, np.linalg.solve(precision, right), rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(at.covariance, np.linalg.inv(precision), rtol=1e-9, atol=1e-12)


FAMILIES = {
    "bernoulli": (family("bernoulli"), np.zeros(0), lambda rng, n: rng.integers(0, 2, n).astype(float)),
    "poisson": (family("poisson"), np.zeros(0), lambda rng, n: rng.poisson(1.5, n).astype(float)),
    "ordinal": (
        ordinal("probit").with_categories(("a", "b", "c")),
        np.array([-0.5, 0.6]),
        lambda rng, n: rng.integers(0, 3, n).astype(float),
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_other_families_find_the_mode(name):
    own, phi, draw = FAMILIES[name]
    state, rows = prior(), events(30, draw)

    def loss(b):
        value, score, _, _ = own.derivatives(rows.y, rows.offset + rows.covariates @ b, rows.weights, phi)
        pull = state.precision @ (b - state.mean)
        return 0.5 * (b - state.mean) @ pull - value.sum(), pull - rows.covariates.T @ score

    found = optimize.minimize(loss, state.mean, jac=True, method="BFGS", options={"gtol": 1e-9})
    at = absorb(state, rows, own, phi)
    np.testing.assert_allclose(at.mean, found.x, rtol=0, atol=1e-7)
    weight = own.derivatives(rows.y, rows.offset + rows.covariates @ at.mean, rows.weights, phi)[2]
    np.testing.assert_allclose(at.precision, state.precision + (rows.covariates.T * weight) @ rows.covariates)
    # in two pieces the first one is linearised at its own mode: near all at once, and not the same
    halves = absorb(absorb(state, piece(rows, 0, 15), own, phi), piece(rows, 15, 30), own, phi)
    sd = np.sqrt(np.diag(at.covariance))
    assert 1e-9 < np.max(np.abs(halves.mean - at.mean) / sd) < 0.5


def test_far_starts_are_reached_by_halved_steps():
    own = family("poisson")
    rows = Events(np.ones((1, 1)), np.array([1e4]), np.array([-3.0]))
    at = absorb(LevelState(np.zeros(1), np.array([[1e-3]])), rows, own, np.zeros(0))
    assert abs(at.mean[0] - 3 - np.log(1e4)) < 1e-3
    nowhere = Events(np.ones((1, 1)), np.ones(1), np.array([np.nan]))
    with pytest.raises(FitError, match="cannot be computed"):
        absorb(LevelState(np.zeros(1), np.eye(1)), nowhere, own, np.zeros(0))
    huge = Events(np.ones((1, 1)), np.array([1e300]), np.zeros(1), np.array([1e300]))
    with pytest.raises(FitError, match="cannot be computed"):
        absorb(LevelState(np.zeros(1), np.eye(1)), huge, gaussian(), np.zeros(1))


def test_forgetting_goes_back_to_the_prior():
    start, rows = prior(), events(20, lambda rng, n: rng.standard_normal(n))
    learned = absorb(start, rows, gaussian(), np.zeros(1))
    gone = forgotten(learned, 1.0, start)
    np.testing.assert_allclose(gone.mean, start.mean, atol=1e-12)
    np.testing.assert_allclose(gone.precision, start.precision)
    # half of it is rows of half the weight
    half = forgotten(learned, 0.5, start)
    light = absorb(start, rows._replace(weights=rows.weights / 2), gaussian(), np.zeros(1))
    np.testing.assert_allclose(half.mean, light.mean, atol=1e-10)
    np.testing.assert_allclose(half.precision, light.precision)
    assert forgotten(learned, 0.0, None) is learned
    with pytest.raises(OptionError, match="share between"):
        forgotten(learned, 1.5, start)
    with pytest.raises(OptionError, match="prior="):
        forgotten(learned, 0.5, None)


def test_bytes_and_back():
    state = absorb(prior(), events(3, lambda rng, n: rng.standard_normal(n)), gaussian(), np.zeros(1))
    again = LevelState.from_bytes(state.to_bytes())
    assert np.array_equal(again.mean, state.mean)
    assert np.array_equal(again.precision, state.precision)
    for bad in (b"", b"\0" * 4, state.to_bytes()[:-1]):
        with pytest.raises(OptionError, match="no state of a level"):
            LevelState.from_bytes(bad)
