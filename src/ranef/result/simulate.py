"""New responses from a fitted model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.design.build import Design
from ranef.prior import factor_of
from ranef.result.options import check_whole
from ranef.result.residuals import check_rows, fixed_values, random_values

FloatArray = npt.NDArray[np.float64]


def simulate(model: Model, design: Design, count: int = 1, seed: int = 0, conditional: bool = False) -> FloatArray:
    """Draw new responses for the rows of a fit at its estimates.

    Parameters
    ----------
    model : Model
    design : Design
        The rows.
    count : int
        How many responses for each row.
    seed : int
        Column ``i`` depends on the seed and ``i`` only, not on ``count``.
    conditional : bool
        Keep the conditional modes and draw the residuals only; otherwise new random effects are drawn too.

    Returns
    -------
    float64 array, shape (rows, count)

    Raises
    ------
    OptionError
        ``count`` or ``seed`` is not a whole number in range.
    DataError
        With ``conditional``: the rows are not those of the fit.
    """
    check_whole("count", count, 1)
    out = np.empty((len(design.y), count))
    for i, values in enumerate(draws(model, design, count, seed, conditional)):
        out[:, i] = values
    return out


def draws(model: Model, design: Design, count: int, seed: int = 0, conditional: bool = False) -> Iterator[FloatArray]:
    """The columns of `simulate` one after the other, each of shape (rows,)."""
    check_whole("seed", seed, 0)
    mean = fixed_values(model, design)
    if conditional:
        check_rows(model, design)
        mean = mean + random_values(model, design)
    noise = np.full(len(mean), model.info.sigma)
    if design.weights is not None:
        noise /= np.sqrt(design.weights)
    roots = [factor_of(group.covariance) for group in model.groups]
    for i in range(count):
        random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(i,)))
        values = mean + noise * random.standard_normal(len(mean))
        if not conditional:
            for group, root in zip(design.groups, roots, strict=True):
                effects = random.standard_normal((len(group.levels), len(root))) @ root.T
                values += np.einsum("nk,nk->n", group.covariates, effects[group.codes])
        yield values
