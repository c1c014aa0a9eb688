"""Narrower towers by a singular value decomposition of their product, which is never formed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import FloatArray
from ranef.errors import OptionError
from ranef.score.towers import Towers

# of the largest eigenvalue of a Gram matrix: below it columns say nothing that float64 could tell
NEGLIGIBLE = 1e-13


def compress(towers: Towers, error: float) -> Towers:
    """The narrowest towers whose scores are off by at most ``error``, root mean square over all pairs.

    A Bayesian fit's towers hold every kept draw: their width is the rank times the number of draws, while the mean of
    the products has far fewer directions of any size. By Eckart and Young (1936) the singular value decomposition of
    the product has the least error of its width, and the squares of what it leaves out are the sum of squared errors.

    Parameters
    ----------
    towers : Towers
    error : float
        On the link scale, not negative.

    Returns
    -------
    Towers
        With ``error``, what it is; as they were, if that is no wider.

    Raises
    ------
    OptionError
    """
    if not error >= 0:
        raise OptionError(f"error={error!r}: give a number that is not negative, on the scale of the linear predictor")
    known = towers.entity_side[:-1]
    targets = towers.target_side[np.isfinite(towers.target_side).all(axis=1)]
    if not len(known) or not len(targets):
        return towers
    to_entity, root_entity = _whitening(known)
    to_target, root_target = _whitening(targets)
    left, values, right = np.linalg.svd(root_entity @ root_target.T)
    beyond = np.sqrt(np.append(np.cumsum(values[::-1] ** 2)[::-1], 0.0) / (len(known) * len(targets)))
    width = max(int(np.argmax(beyond <= error)), 1)
    if width >= towers.width:
        return towers
    scale = np.sqrt(values[:width])
    return replace(
        towers,
        entity_side=towers.entity_side @ (to_entity @ (left[:, :width] * scale)),
        target_side=towers.target_side @ (to_target @ (right[:width].T * scale)),
        error=float(beyond[width]) if width < len(beyond) else 0.0,
    )


def _whitening(side: FloatArray) -> tuple[FloatArray, npt.NDArray[np.float64]]:
    """What makes the columns of one side orthonormal, shape (d, r), and what gives them back, shape (r, d)."""
    values, vectors = np.linalg.eigh(side.T @ side)
    kept = values > NEGLIGIBLE * max(float(values[-1]), np.finfo(np.float64).tiny)
    root = np.sqrt(values[kept])
    return vectors[:, kept] / root, root[:, None] * vectors[:, kept].T
