"""Modes of many levels side by side: each gradient vanishes, whatever the number of rows and however far the mode."""

import numpy as np
import pytest

from ranef.errors import FitError
from ranef.family import family, gaussian
from ranef.score.block_modes import Response, block_modes, sort_rows

LEVELS, D = 40, 3


@pytest.mark.parametrize("scale", [1.0, 300.0])
@pytest.mark.parametrize("name", ["gaussian", "bernoulli", "poisson"])
def test_gradients_vanish(name, scale):
    rng = np.random.default_rng(0)
    # levels without rows, with few and with many
    counts = rng.integers(0, 4, LEVELS) * rng.integers(0, 20, LEVELS)
    codes = rng.permutation(np.repeat(np.arange(LEVELS), counts))
    h, offset = rng.standard_normal((len(codes), D)), rng.standard_normal(len(codes))
    h[:, 1] *= scale if name == "bernoulli" else 1.0
    y = {"gaussian": h[:, 0], "bernoulli": 1.0 * (h[:, 0] > 0), "poisson": np.floor(scale * rng.random(len(codes)))}[
        name
    ]
    own = gaussian() if name == "gaussian" else family(name)
    phi = np.zeros(1 if name == "gaussian" else 0)
    weights = rng.uniform(0.5, 2.0, len(codes))
    precision = np.eye(D) * rng.uniform(0.5, 2.0, (LEVELS, 1, 1))
    of = sort_rows(codes, np.arange(len(codes)), LEVELS)
    seen = []
    for found in block_modes(
        of, Response(own, phi, y, weights), lambda at: h[at], offset, lambda levels: precision[levels], D
    ):
        for level, mode, curvature, inverse, mask, rows, eta in zip(
            found.levels, found.mode, found.precision, found.inverse, found.mask, found.rows, found.eta, strict=True
        ):
            mine = np.flatnonzero(codes == level)
            at = offset[mine] + h[mine] @ mode
            np.testing.assert_allclose(eta[mask], offset[rows[mask]] + h[rows[mask]] @ mode, rtol=0, atol=1e-9 * scale)
            assert sorted(rows[mask]) == mine.tolist()
            _, score, weight, _ = own.derivatives(y[mine], at, weights[mine], phi)
            gradient = h[mine].T @ score - precision[level] @ mode
            now = precision[level] + (h[mine].T * weight) @ h[mine]
            # in standard deviations
            assert np.sqrt(max(gradient @ np.linalg.solve(now, gradient), 0.0)) < 1e-7
            np.testing.assert_allclose(curvature, now, rtol=1e-6, atol=1e-9 * np.abs(now).max())
            np.testing.assert_allclose(inverse @ curvature, np.eye(D), atol=1e-6)
            seen.append(level)
    assert sorted(seen) == list(range(LEVELS))


def test_what_overflows_is_an_error():
    of = sort_rows(np.zeros(1, np.int64), np.arange(1), 1)
    rows = Response(gaussian(), np.zeros(1), np.array([1e300]), np.array([1e300]))
    with pytest.raises(FitError, match="far from those of the fit"):
        list(block_modes(of, rows, lambda at: np.ones((len(at), 1)), np.zeros(1), lambda levels: np.eye(1), 1))
