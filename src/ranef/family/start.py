"""Intercepts of responses without covariates, for families with a log link."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ranef.family.special import exp_capped, total

FloatArray = npt.NDArray[np.float64]


def weight_sum(rows: int, weights: FloatArray | None) -> float:
    """Sum of the weights, or the number of rows."""
    return float(rows) if weights is None else total(lambda w: w, weights)


def log_mean(y: FloatArray, weights: FloatArray | None, offset: FloatArray | None) -> float:
    """The intercept at which a Poisson model reproduces the sum of ``y``; half a count is added, so that 0 has one."""
    counted = total(lambda y, w: y if w is None else y * w, y, weights) + 0.5
    if offset is None:
        return float(np.log(counted / weight_sum(len(y), weights)))
    # whatever the offset's size, its exponentials are at most one
    top = float(offset.max())
    exposure = total(lambda o, w: exp_capped(o - top) if w is None else exp_capped(o - top) * w, offset, weights)
    return float(np.log(counted) - np.log(exposure)) - top
