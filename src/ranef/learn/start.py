"""Starting values by the method of moments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.engine.threads import Engine
from ranef.prior import Layout
from ranef.solve.cross_products import CrossProducts, last_products
from ranef.solve.elimination import Coefficients, by_block

FloatArray = npt.NDArray[np.float64]

# of a generalized model's variances at the start, on the scale of the linear predictor
POSSIBLE = 0.01, 10.0
REPETITIONS = 4


def moment_start(cross: CrossProducts, layout: Layout, engine: Engine) -> FloatArray:
    """``theta`` from each coefficient's sum of squared level sums, as if it were the only random effect.

    With ``s_g = z_g'y`` and ``h_g = z_g'z_g`` the sum of ``s_g^2 / h_g`` has expectation
    ``levels * sigma^2 + variance * sum h_g`` when the rows' other effects are independent of the factor (the
    between-level mean square of the one-way analysis of variance). Correlations start at zero. What is missed costs
    a step or two of the search.
    """
    total = cross.square
    mean_square = total / max(cross.rows, 1)
    variances: list[FloatArray] = [np.empty(0)] * len(cross.sizes)
    for factor in cross.factors:
        sums = last_products(factor, 1, engine)[:, :, 0]
        variances[factor.block] = _moments(sums, np.einsum("gaa->ga", factor.gram), mean_square)
    explained = min(0.8, sum(float(v.sum()) for v in variances) / mean_square if mean_square > 0 else 0.0)
    sigma2 = mean_square * (1 - explained)
    if sigma2 <= 0:
        return layout.project([np.eye(k) for k in cross.sizes])
    return layout.project([np.diag(np.clip(v / sigma2, 1e-2, 1e4)) for v in variances])


def _moments(sums: FloatArray, squares: FloatArray, mean_square: float) -> FloatArray:
    """Variances of each coefficient, from (levels, k) sums and squares; never below a hundredth of what is possible."""
    possible = mean_square * len(squares) / np.maximum(squares.sum(0), 1e-300)
    used = np.where(squares > 0, sums**2 / np.where(squares > 0, squares, 1.0), 0.0).sum(0)
    surplus = used - mean_square * (squares > 0).sum(0)
    variance: FloatArray = surplus / np.maximum(squares.sum(0), 1e-300)
    return np.asarray(np.maximum(variance, 1e-2 * possible))


def start_from(cross: CrossProducts, scores: Coefficients, layout: Layout) -> FloatArray:
    """``theta`` from the scores of a generalized model without random effects.

    As `moment_start`, with ``Z'g`` for sums of the response, ``Z'WZ`` for their squares and a residual variance of one.
    """
    variances: list[FloatArray] = [np.empty(0)] * len(cross.sizes)
    for block, (s, h) in enumerate(zip(by_block(cross, scores), _squares(cross), strict=True)):
        used = np.where(h > 0, s[:, :, 0] ** 2 / np.where(h > 0, h, 1.0) - 1, 0.0).sum(0)
        variances[block] = np.clip(used / np.maximum(h.sum(0), 1e-300), 0.05, 4.0)
    return layout.project([np.diag(v) for v in variances])


def start_at_mode(cross: CrossProducts, scores: Coefficients, modes: Coefficients, layout: Layout) -> FloatArray:
    """``theta`` from the scores and modes of a generalized model at other covariances, by the method of moments.

    As if a coefficient's estimate ``b + g / h`` were that of the only random effect, with variance ``1 / h``. Estimates
    are weighted by their precision given the variance, which is found by repetition (Paule and Mandel 1982).
    """
    variances = []
    for s, b, h in zip(by_block(cross, scores), by_block(cross, modes), _squares(cross), strict=True):
        known = h > 0
        error = 1 / np.where(known, h, 1.0)
        surplus = (b[:, :, 0] + error * s[:, :, 0]) ** 2 - error
        variance = np.ones(h.shape[1])
        for _ in range(REPETITIONS):
            weight = np.where(known, (variance + error) ** -2, 0.0)
            variance = np.clip((weight * surplus).sum(0) / np.maximum(weight.sum(0), 1e-300), *POSSIBLE)
        variances.append(np.diag(variance))
    return layout.project(variances)


def _squares(cross: CrossProducts) -> list[FloatArray]:
    """``z_g'Wz_g`` of each coefficient of each block, shape (levels, k)."""
    out = [np.empty(0)] * len(cross.sizes)
    for factor in cross.factors:
        out[factor.block] = np.einsum("gaa->ga", factor.gram)
    for stage in cross.stages:
        out[stage.block] = out[stage.block][np.argsort(stage.old)]
    return out


@dataclass(frozen=True, eq=False)
class Start:
    """What an earlier fit says of where to begin, in the units and the order of the new design.

    Attributes
    ----------
    covariances : mapping of str to float64 array (k, k)
        Of each grouping factor, over the residual variance.
    modes : mapping of str to float64 array, shape (levels, k)
        Of each grouping factor that both have; zero for new levels.
    beta : mapping of str to float
        Fixed effects by name.
    family : tuple of str
        Name and link.
    phi : float64 array
        The family's own parameters.
    """

    covariances: Mapping[str, FloatArray]
    modes: Mapping[str, FloatArray]
    beta: Mapping[str, float]
    family: tuple[str, str]
    phi: FloatArray
