"""Intervals of an ordinal model's probabilities, with the uncertainty of its thresholds.

Thresholds and coefficients are estimated together, and what counts is how a row's linear predictor stands to them. With
``d = x - M'z`` (``M`` is the modes' sensitivity to the fixed effects) and ``s = S'z`` (``S`` that to the thresholds'
parameters ``phi``) a linear predictor moves by ``d'dbeta + s'dphi``, besides the modes' own uncertainty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.artifact.model import FloatArray, Model, Thresholds
from ranef.errors import OptionError
from ranef.score.rows import Batch

if TYPE_CHECKING:
    from ranef.family import Family

# a probability of 1 to the last digit has no logit
LARGEST = 1.0 - 1e-15


def kept_thresholds(model: Model) -> Thresholds:
    """The thresholds' uncertainty.

    Raises
    ------
    OptionError
        It was not saved.
    """
    if model.thresholds is None:
        raise OptionError(
            "this model was saved without the uncertainty of its thresholds, which intervals of an ordinal model need; "
            "save it with posterior=True, or predict without an interval"
        )
    return model.thresholds


def threshold_part(model: Model, batch: Batch) -> tuple[FloatArray, FloatArray]:
    """What the thresholds' uncertainty adds to linear predictors.

    Parameters
    ----------
    model : Model
    batch : Batch

    Returns
    -------
    variance : float64 array, shape (rows,)
    shared : float64 array, shape (rows, parameters of the thresholds)
        Covariance of ``phi`` and the linear predictor.
    """
    found = kept_thresholds(model)
    p, q = len(model.beta), len(model.phi)
    d = np.zeros((len(batch.rows), p)) if batch.x is None else np.nan_to_num(batch.x)
    s = np.zeros((len(batch.rows), q))
    for group in batch.groups:
        known = group.known[:, None] * np.nan_to_num(group.covariates)
        sensitivity = group.by_code(model.groups[group.group].sensitivity)
        moves = group.by_code(found.moves[group.group])
        for a, z in zip(group.coefficients, known.T, strict=True):
            # the weights of a level that is not known are zero, whatever is looked up for it
            d -= z[:, None] * sensitivity[group.codes, a]
            s += z[:, None] * moves[group.codes, a]
    shared = d @ found.vcov[:p, p:] + s @ found.vcov[p:, p:]
    return np.einsum("nq,nq->n", s, shared + d @ found.vcov[:p, p:]), shared


def probability_limits(
    family: Family,
    phi: FloatArray,
    vcov: FloatArray,
    eta: FloatArray,
    variance: FloatArray,
    shared: FloatArray,
    z: float,
) -> tuple[FloatArray, FloatArray]:
    """Limits of each category's probability: by the delta method on the scale of its logit, as ``predict.clm``.

    Parameters
    ----------
    family : Family
    phi : float64 array, shape (q,)
    vcov : float64 array, shape (q, q)
        Of ``phi``.
    eta, variance : float64 arrays, shape (rows,)
        Of the linear predictor.
    shared : float64 array, shape (rows, q)
        See `threshold_part`.
    z : float
        Normal quantile.

    Returns
    -------
    lower, upper : float64 arrays, shape (rows, categories)
    """
    probabilities = family.probabilities(eta, phi)
    lower, upper = np.empty_like(probabilities), np.empty_like(probabilities)
    for code, p in enumerate(probabilities.T):
        y = np.full(len(eta), float(code))
        score = family.derivatives(y, eta, None, phi)[1]
        by_phi = family.parameter_derivatives(y, eta, None, phi)[0]
        square = score**2 * variance + 2 * score * np.einsum("nq,nq->n", by_phi, shared)
        square += np.einsum("nq,qr,nr->n", by_phi, vcov, by_phi)
        p = np.minimum(p, LARGEST)
        with np.errstate(divide="ignore"):
            logit = np.log(p) - np.log1p(-p)
        reach = z * np.sqrt(square.clip(0)) / (1 - p)
        lower[:, code], upper[:, code] = (1 / (1 + np.exp(-(logit + side * reach))) for side in (-1, 1))
    return lower, upper
