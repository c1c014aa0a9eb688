"""Monte-Carlo standard errors from few probes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

FloatArray = npt.NDArray[np.float64]

ERRORS = 3.0


def coverage_factor(count: int) -> float:
    """What a standard error is multiplied by because it is itself estimated, from ``count`` values.

    Three of the errors printed then hold the truth as often as three known ones of a normal number (99.7 %): a mean
    over its estimated error follows Student's t with ``count - 1`` degrees of freedom.
    """
    return float(stdtrit(count - 1, ndtr(ERRORS))) / ERRORS


def standard_error(values: FloatArray) -> float:
    """Monte-Carlo standard error of the mean of independent values, with its `coverage_factor`."""
    return coverage_factor(len(values)) * float(values.std(ddof=1) / np.sqrt(len(values)))
