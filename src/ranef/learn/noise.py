"""Monte-Carlo standard errors from few probes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

FloatArray = npt.NDArray[np.float64]

ERRORS = 3.0
# of a deviance: half of it in the log-likelihood
LARGEST_ERROR = 1.0
MOST_VALUES, A_PANEL = 64, 8


def coverage_factor(count: int) -> float:
    """What a standard error is multiplied by because it is itself estimated, from ``count`` values.

    Three of the errors printed then hold the truth as often as three known ones of a normal number (99.7 %): a mean
    over its estimated error follows Student's t with ``count - 1`` degrees of freedom.
    """
    return float(stdtrit(count - 1, ndtr(ERRORS))) / ERRORS


def standard_error(values: FloatArray) -> float:
    """Monte-Carlo standard error of the mean of independent values, with its `coverage_factor`."""
    return coverage_factor(len(values)) * float(values.std(ddof=1) / np.sqrt(len(values)))


def precise_enough(values: Callable[[int, int], FloatArray], count: int) -> FloatArray:
    """``count`` values of a deviance, and as many more as it takes until the error of their mean is below one.

    Parameters
    ----------
    values : callable
        The values from one number (the second argument) up to another (the first).
    """
    found = values(count, 0)
    while len(found) < MOST_VALUES and standard_error(found) > LARGEST_ERROR:
        # their spread tells how many; whole panels of sides cost little more than a part of one
        spread = float(found.std(ddof=1))
        larger = range(len(found) + A_PANEL, MOST_VALUES, A_PANEL)
        enough = (n for n in larger if coverage_factor(n) * spread / np.sqrt(n) <= LARGEST_ERROR)
        found = np.concatenate([found, values(next(enough, MOST_VALUES), len(found))])
    return found
