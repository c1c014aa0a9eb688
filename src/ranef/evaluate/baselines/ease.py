"""EASE: a linear model from the items that a user has to the others, in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from ranef.errors import FitError, OptionError
from ranef.table import FloatArray

# numbers of a block of items by users
BLOCK = 1 << 22


@dataclass(frozen=True)
class Ease:
    """Embarrassingly shallow autoencoder (Steck 2019, WWW).

    Minimises ``|X - X B|^2 + penalty |B|^2`` over matrices ``B`` with a zero diagonal, so that no item is explained by
    itself.

    Parameters
    ----------
    penalty : float
        Choose it on validation users; a few hundred on dense data, a few tens on sparse data.

    Notes
    -----
    With ``P = (X'X + penalty I)^-1`` off the diagonal ``B_ij = -P_ij / P_jj``. Where there are fewer users than items
    ``P`` is never formed: ``P = (I - X'(X X' + penalty I)^-1 X) / penalty`` needs the users' Gram matrix alone. Memory
    and time are the square and the cube of the smaller number.
    """

    penalty: float = 500.0

    name = "EASE"

    def __post_init__(self) -> None:
        if not (isinstance(self.penalty, int | float) and 0 < self.penalty < np.inf):
            raise OptionError(f"penalty={self.penalty!r}: give a number above 0")

    def fit(self, train: sparse.csr_array) -> FittedEase | FittedEaseOfUsers:
        """Solve for ``B``; ``train`` has shape (users, items)."""
        users, items = train.shape
        if items <= users:
            inverse = _inverse(_gram(sparse.csr_array(train.T)), self.penalty)
            weights = inverse / -np.diag(inverse)
            np.fill_diagonal(weights, 0.0)
            return FittedEase(weights)
        inner = _inverse(_gram(train), self.penalty)
        by_item = sparse.csr_array(train.T)
        explained = np.empty(items)
        size = max(1, BLOCK // max(users, 1))
        for at in range(0, items, size):
            part = by_item[at : at + size]
            explained[at : at + size] = np.asarray(part.multiply(part @ inner).sum(axis=1)).ravel()
        return FittedEaseOfUsers(train, inner, (1.0 - explained) / self.penalty, self.penalty)


@dataclass(frozen=True, eq=False)
class FittedEase:
    """Weights from item to item, shape (items, items); the diagonal is zero."""

    weights: FloatArray

    def scores(self, seen: sparse.csr_array) -> FloatArray:
        """Scores for users who have the items ``seen``, shape (users, items)."""
        return np.asarray(seen @ self.weights)


@dataclass(frozen=True, eq=False)
class FittedEaseOfUsers:
    """The same through the users' Gram matrix.

    Attributes
    ----------
    train : scipy.sparse.csr_array, shape (users, items)
    inner : float64 array, shape (users, users)
        Inverse of ``X X' + penalty I``.
    diagonal : float64 array, shape (items,)
        Of ``P``.
    penalty : float
    """

    train: sparse.csr_array
    inner: FloatArray
    diagonal: FloatArray
    penalty: float

    def scores(self, seen: sparse.csr_array) -> FloatArray:
        """Scores for users who have the items ``seen``, shape (users, items)."""
        shared = (seen @ self.train.T).toarray() @ self.inner
        found: FloatArray = np.asarray(shared @ self.train)
        found -= seen
        found /= self.penalty * self.diagonal
        # the diagonal of -P / diag(P) is -1
        found += seen
        return np.asarray(found)


def _gram(rows: sparse.csr_array) -> FloatArray:
    return np.asarray((rows @ rows.T).toarray(), np.float64, order="F")


def _inverse(gram: FloatArray, penalty: float) -> FloatArray:
    """Inverse of a Gram matrix, which is overwritten, plus a multiple of the identity."""
    gram[np.diag_indices_from(gram)] += penalty
    factor, bad = lapack.dpotrf(gram, lower=1, overwrite_a=1)
    if bad:
        raise FitError(f"the penalty {penalty:g} of EASE is too small for these data: take a larger one")
    half, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    whole: FloatArray = np.tril(half)
    whole += np.tril(half, -1).T
    return whole
