"""Recommendation by popularity and by similar items."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse

from ranef.errors import OptionError
from ranef.result.options import check_whole
from ranef.table import FloatArray

# similarities computed at a time
BLOCK = 1 << 22


@dataclass(frozen=True)
class Popularity:
    """Everybody gets the items with most users."""

    name = "popularity"

    def fit(self, train: sparse.csr_array) -> FittedPopularity:
        """Count the users of each item; ``train`` has shape (users, items)."""
        return FittedPopularity(np.asarray(train.sum(axis=0), np.float64).ravel())


@dataclass(frozen=True, eq=False)
class FittedPopularity:
    """Users by item, shape (items,)."""

    counts: FloatArray

    def scores(self, seen: sparse.csr_array) -> FloatArray:
        """The counts for every user of ``seen``, shape (users, items)."""
        return np.broadcast_to(self.counts, seen.shape)


@dataclass(frozen=True)
class ItemKNN:
    """Items most like those that a user has, by the shrunk cosine of who has them.

    Parameters
    ----------
    neighbours : int
        For every item those with the largest similarity are kept, with all that tie with the last.
    shrink : float
        Added to the denominator of the cosine: pairs of rare items have little to say.

    Notes
    -----
    Deshpande and Karypis (2004, ACM Transactions on Information Systems 22). The score of an item is the sum of its
    similarities with the items that the user has, as far as these are among its neighbours.
    """

    neighbours: int = 100
    shrink: float = 10.0

    name = "item-kNN"

    def __post_init__(self) -> None:
        check_whole("neighbours", self.neighbours, 1)
        if not self.shrink >= 0:
            raise OptionError(f"shrink={self.shrink!r}: give a number of at least 0")

    def fit(self, train: sparse.csr_array) -> FittedItemKNN:
        """Find the neighbours of each item; ``train`` has shape (users, items)."""
        users_of = sparse.csr_array(train.T)
        items = users_of.shape[0]
        norm = np.sqrt(np.asarray(train.multiply(train).sum(axis=0), np.float64).ravel())
        size = max(1, BLOCK // max(items, 1))
        blocks = [self._similar(users_of[at : at + size] @ train, norm, at) for at in range(0, items, size)]
        similarity = sparse.vstack(blocks, format="csr") if blocks else sparse.csr_array((0, 0))
        return FittedItemKNN(sparse.csr_array(similarity.T))

    def _similar(self, shared: sparse.csr_array, norm: FloatArray, at: int) -> sparse.csr_array:
        """Similarities of some items, the first is ``at``, with their neighbours; shape (some, items)."""
        rows = np.repeat(np.arange(shared.shape[0]), np.diff(shared.indptr))
        values = shared.data / (norm[at + rows] * norm[shared.indices] + self.shrink)
        values[shared.indices == at + rows] = 0.0
        for start, end in pairwise(shared.indptr):
            if end - start > self.neighbours:
                mine = values[start:end]
                mine[mine < np.partition(mine, -self.neighbours)[-self.neighbours]] = 0.0
        kept = values > 0
        return sparse.csr_array((values[kept], (rows[kept], shared.indices[kept])), shape=shared.shape)


@dataclass(frozen=True, eq=False)
class FittedItemKNN:
    """Similarity of each item, by column, with its neighbours, by row; shape (items, items)."""

    similarity: sparse.csr_array

    def scores(self, seen: sparse.csr_array) -> FloatArray:
        """Scores for users who have the items ``seen``, shape (users, items)."""
        found: FloatArray = (seen @ self.similarity).toarray()
        return found
