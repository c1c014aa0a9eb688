"""Latent terms on new rows in each kept draw of a Bayesian fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.artifact.latent import FieldDraws
from ranef.artifact.model import Model
from ranef.score.latent import FieldRows, TermRows
from ranef.table.table import MISSING, UNKNOWN

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Met:
    """A factor on some rows.

    Attributes
    ----------
    draws : FieldDraws
    of_rows : callable
        From the vectors of the levels, then that of a new level, shape (levels + 1, k), to those of the rows.
    surplus : float64 array, shape (rows,)
        Sum of the squared weights of a row's new levels.
    missing : bool array, shape (rows,)
    """

    draws: FieldDraws
    of_rows: Callable[[SingleArray], SingleArray]
    surplus: FloatArray
    missing: npt.NDArray[np.bool_]


def latent_draws(
    model: Model,
    terms: Mapping[int, TermRows],
    rows: npt.NDArray[np.int64],
    draws: int,
    random: np.random.Generator | None = None,
) -> FloatArray:
    """The sum of latent terms on some rows in each kept draw, shape (rows, draws).

    Parameters
    ----------
    terms : mapping of int to TermRows
        By the term's place in the model.
    rows : int64 array, shape (some rows,)
    draws : int
        Kept ones.
    random : numpy.random.Generator, optional
        Draws the vectors of levels that the fit did not have; without, they are the mean over the levels.
    """
    total = np.zeros((len(rows), draws))
    for place, sides in terms.items():
        met = [
            [met_field(one.draws, of, rows) for one, of in zip(fields, side, strict=True) if one.draws is not None]
            for fields, side in zip(model.latent[place].sides, sides, strict=True)
        ]
        for draw in range(draws):
            sums = np.zeros((len(rows), model.latent[place].rank), np.float32)
            for s, side in enumerate(met):
                vectors = drawn_vectors(side[0], draw, random)
                for one in side[1:]:
                    vectors = vectors + drawn_vectors(one, draw, random)
                if s:
                    total[:, draw] += np.einsum("nk,nk->n", sums, vectors)
                if s + 1 < len(met):
                    sums = vectors if s == 0 else sums + vectors
        for side in met:
            for one in side:
                total[one.missing] = np.nan
    return total


def met_field(draws: FieldDraws, of: FieldRows, rows: npt.NDArray[np.int64]) -> Met:
    """A factor of a latent term on some rows."""
    codes = of.codes[rows]
    levels = draws.vectors.shape[1]
    missing = codes == MISSING
    if of.membership is None:
        place = np.where(codes == UNKNOWN, levels, np.maximum(codes, 0))
        return Met(draws, lambda vectors: vectors[place], (codes == UNKNOWN).astype(np.float64), missing)
    from scipy.sparse import csr_array  # slow to import

    membership = of.membership
    units, unit = np.unique(codes, return_inverse=True)
    # units that the fit did not have, and missing ones, have no levels
    counts = np.where(units >= 0, np.diff(membership.start)[units], 0)
    start = np.concatenate([[0], np.cumsum(counts)])
    members = np.arange(start[-1]) + np.repeat(membership.start[:-1][units] - start[:-1], counts)
    level, weight = membership.level[members], membership.weight[members]
    place = np.where(level == UNKNOWN, levels, level)
    matrix = csr_array((weight.astype(np.float32), place, start), shape=(len(units), levels + 1))
    new = csr_array((np.where(level == UNKNOWN, weight**2, 0.0), place, start), shape=matrix.shape)
    surplus = np.asarray(new.sum(axis=1)).reshape(-1)[unit]
    return Met(draws, lambda vectors: np.asarray(matrix @ vectors)[unit], surplus, missing)


def drawn_vectors(met: Met, draw: int, random: np.random.Generator | None) -> SingleArray:
    """The vectors of the rows, shape (rows, k)."""
    draws = met.draws
    out = met.of_rows(np.vstack([draws.vectors[draw], draws.means[draw].astype(np.float32)]))
    new = np.flatnonzero(met.surplus)
    if random is not None and len(new):
        noise = random.standard_normal((len(new), out.shape[1]))
        out[new] += np.sqrt(met.surplus[new, None] * draws.variances[draw]) * noise
    return out
