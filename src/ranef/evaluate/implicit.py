"""A fit of implicit feedback as a recommender: users folded in by the items they have, items matched by value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from ranef.evaluate.interactions import RankingData
from ranef.result.implicit_fit import ImplicitFit
from ranef.score.rows import match
from ranef.table import CodeArray, Factor, Levels


@dataclass(frozen=True, eq=False)
class FoldedIn:
    """An `ImplicitFit` whose items may be others, or in another order, than those of the rankings.

    Attributes
    ----------
    fit : ImplicitFit
    place : int32 array, shape (items of the rankings,)
        Codes of the fit's items; negative where it lacks one.
    """

    fit: ImplicitFit
    place: CodeArray

    def scores(self, seen: sparse.csr_array) -> npt.NDArray[np.float32]:
        """Scores for users who have the items ``seen``, shape (users, items); an unknown item is never listed."""
        known = np.flatnonzero(self.place >= 0)
        there = sparse.coo_array(seen[:, known])
        places = self.place[known][there.coords[1]]
        shape = (seen.shape[0], len(self.fit.model.items))
        found = self.fit.scores(sparse.csr_array((there.data, (there.coords[0], places)), shape=shape))
        scores = np.full(seen.shape, -np.inf, np.float32)
        scores[:, known] = found[:, self.place[known]]
        return scores


def folded_in(fit: ImplicitFit, data: RankingData) -> FoldedIn:
    """Match the items of the rankings with those of the fit.

    Raises
    ------
    DataError
        They are of types that cannot be compared.
    """
    levels = Levels(pa.array(data.items))
    factor = Factor(np.arange(len(levels), dtype=np.int32), levels)
    return FoldedIn(fit, match(fit.model.spec.item, factor, fit.model.items))
