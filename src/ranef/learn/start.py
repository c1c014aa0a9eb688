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
    for block, s in enumerate(by_block(cross, scores)):
        factor = next(f for f in cross.factors if f.block == block)
        h = np.einsum("gaa->ga", factor.gram)
        if block in (stage.block for stage in cross.stages):
            h = h[np.argsort(next(stage.old for stage in cross.stages if stage.block == block))]
        used = np.where(h > 0, s[:, :, 0] ** 2 / np.where(h > 0, h, 1.0) - 1, 0.0).sum(0)
        variances[block] = np.clip(used / np.maximum(h.sum(0), 1e-300), 0.05, 4.0)
    return layout.project([np.diag(v) for v in variances])


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
