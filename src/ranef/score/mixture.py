"""The predictive distribution of a new response: the family's, mixed over a normal linear predictor."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import special

from ranef.artifact.model import FloatArray
from ranef.family import Family

NODES = 24


@cache
def _nodes() -> tuple[FloatArray, FloatArray]:
    """Points and weights of Gauss-Hermite quadrature for a standard normal variable."""
    points, weights = np.polynomial.hermite_e.hermegauss(NODES)
    return points, weights / weights.sum()


def mixed_cdf(
    family: Family, y: FloatArray, mean: FloatArray, sd: FloatArray, weights: FloatArray | None, phi: FloatArray
) -> FloatArray:
    """``P(Y <= y)`` where the linear predictor is normal, shape (rows,).

    Parameters
    ----------
    y : float64 array, shape (rows,)
    mean, sd : float64 arrays, shape (rows,)
        Of the linear predictor.
    weights : float64 array, shape (rows,), or None
        Trials of a proportion.
    phi : float64 array

    Notes
    -----
    Quadrature over the linear predictor sees a step where the response is almost determined by it (large counts).
    There the roles change: with ``U`` uniform, ``Y <= y`` means that ``eta`` is below the linear predictor at which
    ``P(Y <= y) = U``, and the quadrature goes over the normal score of ``U``. Whichever of the two varies more is
    integrated exactly, so that the integrand is smooth.
    """
    points, mass = _nodes()
    half = np.full(len(y), special.ndtr(0.5))
    with np.errstate(invalid="ignore"):
        own = family.eta_at(y, 1.0 - half, weights, phi) - family.eta_at(y, half, weights, phi)
    # a difference of infinities: no linear predictor matters
    by_eta = ~(sd > own)
    out = np.zeros(len(y))

    def over(rows: npt.NDArray[np.bool_], integrand: Callable[..., FloatArray]) -> None:
        if rows.any():
            chosen = [None if a is None else a[rows] for a in (y, mean, sd, weights)]
            out[rows] = sum(w * integrand(t, *chosen) for t, w in zip(points, mass, strict=True))

    def given_eta(t: float, y: FloatArray, m: FloatArray, s: FloatArray, w: FloatArray | None) -> FloatArray:
        return family.cdf(y, m + t * s, w, phi)[1]

    def given_score(t: float, y: FloatArray, m: FloatArray, s: FloatArray, w: FloatArray | None) -> FloatArray:
        eta = family.eta_at(y, np.full(len(y), special.ndtr(t)), w, phi)
        return np.asarray(special.ndtr((eta - m) / s))

    over(by_eta, given_eta)
    over(~by_eta, given_score)
    return out
