"""What floating point could not compute is an error of the point where it happened, which searches step back from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ranef.errors import FitError

OUT_OF_RANGE = (
    "the likelihood cannot be computed where the search stands: linear predictors or parameters are out of range. Are "
    "covariates or the offset very large? Scale them"
)


def check_finite(*values: npt.ArrayLike) -> None:
    """Refuse a point whose deviance, gradient or metric is not finite.

    Raises
    ------
    FitError
    """
    if not all(np.all(np.isfinite(value)) for value in values):
        raise FitError(OUT_OF_RANGE)
