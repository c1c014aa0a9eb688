"""Who has what: matrices of users and items, aligned between training, what is known and what is to be found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ranef.evaluate.held import Held
from ranef.score.rows import match
from ranef.table import CodeArray, Levels, used


@dataclass(frozen=True, eq=False)
class RankingData:
    """What recommenders learn from, what is known of the test users, and what is to be found for them.

    Attributes
    ----------
    train : scipy.sparse.csr_array, shape (training users, items)
        1 where a user has an item.
    seen, test : scipy.sparse.csr_array, shape (test users, items)
        What is known of the test users, never recommended to them; what is to be found.
    users, items : arrays
        The users of ``test`` and the items, in the type of the columns.
    dropped : int
        Pairs of ``seen`` and ``test`` left out: their item is not in the training rows, or a pair is in both.
    """

    train: sparse.csr_array
    seen: sparse.csr_array
    test: sparse.csr_array
    users: npt.NDArray[Any]
    items: npt.NDArray[Any]
    dropped: int

    def __repr__(self) -> str:
        return (
            f"<RankingData: {self.train.nnz:,} pairs of {self.train.shape[0]:,} users and {len(self.items):,} items; "
            f"{self.test.nnz:,} to find for {len(self.users):,} users>"
        )


def ranking_data(train: Any, test: Any, user: str, item: str, fold_in: Any = None) -> RankingData:
    """Bring tables of pairs together.

    Parameters
    ----------
    train, test : any data that `ranef.fit` takes
        A row for each pair of a user and an item; pairs that come twice count once.
    user, item : str
        Columns.
    fold_in : any data that `ranef.fit` takes, optional
        What is known of the test users. Default: their training rows.

    Returns
    -------
    RankingData

    Raises
    ------
    OptionError, DataError

    Examples
    --------
    >>> import ranef
    >>> pairs = ranef.data.insteval().select(["s", "d"])
    >>> split = ranef.evaluate.split_strong(pairs, "s", "d", test=200)
    >>> ranef.evaluate.ranking_data(split.train, split.test, "s", "d", split.fold_in)
    <RankingData: 68,568 pairs of 2,772 users and 1,128 items; 898 to find for 195 users>
    """
    fitted, tested = Held(train), Held(test)
    known = fitted if fold_in is None else Held(fold_in)
    users, items = used(tested.factor(user)), used(fitted.factor(item))
    learners = used(fitted.factor(user))
    seen, unknown = _pairs(known, user, item, users.levels, items.levels)
    found, new = _pairs(tested, user, item, users.levels, items.levels)
    both = found.multiply(seen).nnz
    if both:
        found = sparse.csr_array(found - found.multiply(seen))
        found.eliminate_zeros()
    return RankingData(
        matrix(learners.codes, items.codes, (len(learners.levels), len(items.levels))),
        seen,
        found,
        _values(users.levels),
        _values(items.levels),
        unknown + new + both,
    )


def matrix(users: CodeArray, items: CodeArray, shape: tuple[int, int]) -> sparse.csr_array:
    """1 at every pair of codes; shape (users, items)."""
    found = sparse.csr_array((np.ones(len(users)), (users, items)), shape=shape)
    found.sum_duplicates()
    found.data[:] = 1.0
    return found


def _pairs(held: Held, user: str, item: str, users: Levels, items: Levels) -> tuple[sparse.csr_array, int]:
    """The pairs of these users, and how many more there are with other items."""
    rows, columns = match(user, held.factor(user), users), match(item, held.factor(item), items)
    asked = rows >= 0
    whole = asked & (columns >= 0)
    found = matrix(rows[whole], columns[whole], (len(users), len(items)))
    return found, int(np.count_nonzero(asked & ~whole))


def _values(levels: Levels) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = levels.values.to_numpy(zero_copy_only=False)
    return values
