"""Whether responses vary more around their fitted values than their family says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.design.build import Design
from ranef.errors import OptionError
from ranef.result.residuals import residuals

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Overdispersion:
    """The Pearson statistic of a fit.

    Attributes
    ----------
    chisq : float
        Sum of the squared Pearson residuals.
    ratio : float
        ``chisq / df``: near 1 if the family's variance is right, above it if the responses vary more.
    df : int
        Rows less parameters.
    p : float
        Probability of a chi-squared variable on ``df`` degrees of freedom to be larger: small for overdispersion.
    """

    chisq: float
    ratio: float
    df: int
    p: float


def overdispersion(model: Model, design: Design, eta: FloatArray) -> Overdispersion:
    """The approximate test of lme4's authors (``overdisp_fun`` in the GLMM FAQ), given the conditional modes.

    The chi-squared distribution is approximate: a few counts around 5 a row make it good, very small ones or few rows
    a level do not. With one random effect a row there is nothing left over to be judged.

    Parameters
    ----------
    model : Model
    design : Design
        The rows of the fit.
    eta : float64 array, shape (rows,)
        Linear predictor with the conditional modes.

    Raises
    ------
    OptionError
        The family's dispersion is learned, or its variance follows from its mean whatever the model; there are no
        more rows than parameters.
    """
    family, kind = model.info.family, model.spec.kind
    trials = design.weights is not None and bool(np.any(design.weights > 1))
    if kind == "ordered" or kind == "binary" or (kind == "proportion" and not trials):
        raise OptionError(
            f"one trial a row cannot be overdispersed: the variance of family={family!r} follows from its mean; "
            "look at residuals(type='quantile')"
        )
    if kind not in ("count", "proportion"):
        raise OptionError(
            f"family={family!r} learns its dispersion, so there is nothing to test: see fit.sigma; the test is for "
            "counts and for proportions of several trials"
        )
    df = model.info.nobs - model.info.df
    if df < 1:
        raise OptionError(f"there are {model.info.nobs:,} rows and {model.info.df:,} parameters: nothing is left over")
    from scipy.special import chdtrc

    chisq = float(np.sum(residuals(model, design, eta, "pearson") ** 2))
    return Overdispersion(chisq, chisq / df, df, float(chdtrc(df, chisq)))
