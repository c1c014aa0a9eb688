"""Responses that fixed effects and the levels of one factor reproduce exactly: the likelihood has no maximum."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ranef.engine.threads import Engine
from ranef.solve.cross_products import CrossProducts, FactorProducts, last_products

FloatArray = npt.NDArray[np.float64]

# of the response's sum of squares; below is rounding of the cross products
EXACT = 1e-10


def saturated(cross: CrossProducts, engine: Engine) -> int | None:
    """The first block whose levels, with the fixed effects, leave nothing of the response; None if there is none.

    Each factor's coefficients are taken as free parameters: what its levels leave of fixed effects and response is a
    sum over levels, from the cross products. Factors whose levels meet each other are left to the search.
    """
    coupled = {kept.block for kept in cross.kept if kept.coupled}
    for factor in sorted(cross.factors, key=lambda f: f.block):
        if factor.block in coupled:
            continue
        within = cross.dense - _explained(factor, len(cross.dense), engine)
        x, xy, yy = within[:-1, :-1], within[:-1, -1], float(within[-1, -1])
        # fixed effects that are constant within the levels have nothing left to explain with
        values, vectors = np.linalg.eigh(x) if len(x) else (np.zeros(0), np.zeros((0, 0)))
        kept = values > EXACT * cross.rows
        left = yy - float(np.sum((vectors[:, kept].T @ xy) ** 2 / values[kept]))
        if left <= EXACT * cross.square:
            return factor.block
    return None


def _explained(factor: FactorProducts, dense: int, engine: Engine) -> FloatArray:
    """``sum_g R_g' H_g^+ R_g`` over the dense columns."""
    rows = last_products(factor, dense, engine)
    if factor.size == 1:
        half = rows[:, 0] / np.sqrt(np.maximum(factor.gram[:, 0], 1e-300))
        return np.asarray(half.T @ half)
    solved = np.linalg.pinv(factor.gram, hermitian=True, rcond=1e-12) @ rows
    return np.asarray(np.einsum("gka,gkb->ab", rows, solved, optimize=True))
