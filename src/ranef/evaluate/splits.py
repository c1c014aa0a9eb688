"""Training and test rows: at random, by time, the last of each user, new users or items, strong generalization.

Every function takes any data that `ranef.fit` takes and gives a split that depends on the rows and the seed alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ranef.errors import DataError, OptionError
from ranef.evaluate.held import Held, RowArray
from ranef.result.options import check_whole

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Split:
    """Rows to fit and rows to test; ``train, test = split`` gives the tables.

    Attributes
    ----------
    train_rows, test_rows : int64 arrays
        Places of the rows in the data, ascending.
    """

    train_rows: RowArray
    test_rows: RowArray
    _held: Held

    @property
    def train(self) -> Any:
        """The training rows as a table in the library of the data."""
        return self._held.take(self.train_rows)

    @property
    def test(self) -> Any:
        """The test rows as a table in the library of the data."""
        return self._held.take(self.test_rows)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.train, self.test))

    def __repr__(self) -> str:
        return f"<Split: {len(self.train_rows):,} rows to fit, {len(self.test_rows):,} to test>"


@dataclass(frozen=True, eq=False)
class StrongSplit:
    """Rows of users to fit, and of held-out users: rows to fold them in by, and rows to be found.

    ``train, fold_in, test = split`` gives the tables.

    Attributes
    ----------
    train_rows, fold_in_rows, test_rows : int64 arrays
        Places of the rows in the data, ascending.
    validation_fold_in_rows, validation_rows : int64 arrays
        The same of the users to choose settings on.
    dropped : int
        Rows of held-out users whose item no training row has: in none of the parts.
    """

    train_rows: RowArray
    fold_in_rows: RowArray
    test_rows: RowArray
    validation_fold_in_rows: RowArray
    validation_rows: RowArray
    dropped: int
    _held: Held

    @property
    def train(self) -> Any:
        """The rows of the users to fit, in the library of the data."""
        return self._held.take(self.train_rows)

    @property
    def fold_in(self) -> Any:
        """What is known of the test users."""
        return self._held.take(self.fold_in_rows)

    @property
    def test(self) -> Any:
        """What is to be found for the test users."""
        return self._held.take(self.test_rows)

    @property
    def validation_fold_in(self) -> Any:
        """What is known of the validation users."""
        return self._held.take(self.validation_fold_in_rows)

    @property
    def validation(self) -> Any:
        """What is to be found for the validation users."""
        return self._held.take(self.validation_rows)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.train, self.fold_in, self.test))

    def __repr__(self) -> str:
        return (
            f"<StrongSplit: {len(self.train_rows):,} rows to fit, {len(self.fold_in_rows):,} to fold test users in by, "
            f"{len(self.test_rows):,} to find>"
        )


def split_random(data: Any, test: int | float = 0.1, seed: int = 0) -> Split:
    """Hold out rows at random.

    Parameters
    ----------
    data : any data that `ranef.fit` takes
    test : float or int
        The share of the rows, rounded down, or their number.
    seed : int
        The test rows are the first of ``numpy.random.default_rng(seed).permutation(rows)``.

    Returns
    -------
    Split

    Raises
    ------
    OptionError
        A share is not between 0 and 1, or too many rows are asked for.

    Examples
    --------
    >>> import ranef
    >>> split = ranef.evaluate.split_random(ranef.data.sleepstudy(), test=0.2, seed=1)
    >>> split
    <Split: 144 rows to fit, 36 to test>
    >>> train, test = split
    >>> len(train), len(test)
    (144, 36)
    """
    held = Held(data)
    count = _count("test", test, held.rows, "rows")
    check_whole("seed", seed, 0)
    chosen = np.zeros(held.rows, np.bool_)
    chosen[np.random.default_rng(seed).permutation(held.rows)[:count]] = True
    return _split(held, chosen)


def split_folds(data: Any, folds: int = 5, seed: int = 0) -> tuple[Split, ...]:
    """Cross-validation: as many splits as folds, in which every row is held out once.

    Parameters
    ----------
    data : any data that `ranef.fit` takes
    folds : int
        At least 2.
    seed : int
        A row's fold is ``numpy.random.default_rng(seed).permutation(rows) % folds`` at its place.

    Returns
    -------
    tuple of Split

    Raises
    ------
    OptionError
        There are fewer rows than folds.

    Examples
    --------
    >>> import ranef
    >>> [len(split.test_rows) for split in ranef.evaluate.split_folds(ranef.data.sleepstudy(), 4)]
    [45, 45, 45, 45]
    """
    held = Held(data)
    check_whole("folds", folds, 2)
    check_whole("seed", seed, 0)
    if held.rows < folds:
        raise OptionError(f"folds={folds}: there are only {held.rows:,} rows")
    fold = np.random.default_rng(seed).permutation(held.rows) % folds
    return tuple(_split(held, fold == one) for one in range(folds))


def split_by_time(data: Any, time: str, test: int | float = 0.1, at: Any = None) -> Split:
    """Hold out the latest rows: a forecast from one moment on.

    Parameters
    ----------
    data : any data that `ranef.fit` takes
    time : str
        A column of numbers, dates or times.
    test : float or int
        The least share, or number, of rows to hold out. Rows of one moment stay together, so that there may be more;
        every training row is earlier than every test row.
    at : number, date or time, optional
        In the place of ``test``: rows at this moment and later are held out.

    Returns
    -------
    Split

    Raises
    ------
    OptionError, DataError
        ``at`` is no moment of the column; a row has no time; nothing is left on one side.
    """
    held = Held(data)
    moments = held.instants(time)
    if at is None:
        count = _count("test", test, held.rows, "rows")
        first = float(np.partition(moments, held.rows - count)[held.rows - count])
    else:
        first = held.instant_of(time, at)
    chosen = moments >= first
    if chosen.all() or not chosen.any():
        what = "all rows are held out" if chosen.all() else "no row is held out"
        raise DataError(f"column {time!r}: {what}; hold out fewer rows, or choose another moment", column=time)
    return _split(held, chosen)


def split_last(data: Any, user: str, time: str, last: int | float = 1) -> Split:
    """Hold out the last rows of every user.

    A model then sees other users' later rows: this measures what becomes of a user, not a forecast from one moment on
    (see `split_by_time`).

    Parameters
    ----------
    data : any data that `ranef.fit` takes
    user, time : str
        Columns. Rows of one user at one moment are in the order of the data.
    last : int or float
        Rows of each user, or the share of them, rounded down. A user with no more rows than ``last`` keeps them all in
        the training rows.

    Returns
    -------
    Split

    Raises
    ------
    OptionError, DataError
    """
    held = Held(data)
    users, moments = held.factor(user), held.instants(time)
    counts = np.bincount(users.codes, minlength=len(users.levels))
    if isinstance(last, float):
        _check_share("last", last)
        want = np.floor(counts * last + 1e-9).astype(np.int64)
    else:
        check_whole("last", last, 1)
        want = np.where(counts > last, last, 0)
    order = np.lexsort((moments, users.codes))  # stable: the order of the data decides between equals
    ends = np.cumsum(counts)
    chosen = np.zeros(held.rows, np.bool_)
    of_row = users.codes[order]
    chosen[order] = np.arange(held.rows) >= (ends - want)[of_row]
    if not chosen.any():
        raise DataError(f"no {user!r} has enough rows to hold some out: take a smaller `last`", column=user)
    return _split(held, chosen)


def split_new(data: Any, column: str, test: int | float = 0.1, seed: int = 0) -> Split:
    """Hold out whole users, or whole items: every row of the levels that are drawn, so that they are new to a model.

    Parameters
    ----------
    data : any data that `ranef.fit` takes
    column : str
        Users, items, or another grouping factor.
    test : float or int
        The share of the levels that occur, rounded down, or their number.
    seed : int
        The levels are the first of ``numpy.random.default_rng(seed).permutation(levels)``, levels in their order.

    Returns
    -------
    Split

    Raises
    ------
    OptionError, DataError
    """
    held = Held(data)
    check_whole("seed", seed, 0)
    codes, count = _occurring(held, column)
    drawn = np.zeros(count, np.bool_)
    drawn[np.random.default_rng(seed).permutation(count)[: _count("test", test, count, "levels")]] = True
    return _split(held, drawn[codes])


def split_strong(
    data: Any,
    user: str,
    item: str,
    test: int | float = 0.1,
    validation: int | float = 0.0,
    hold_out: float = 0.2,
    least: int = 5,
    seed: int = 0,
) -> StrongSplit:
    """Hold out users, give a part of their rows to fold them in by, and keep the rest to be found.

    The strong generalization of Marlin (2004), as Liang et al. (2018, Variational autoencoders for collaborative
    filtering) use it: a model is fitted to other users alone.

    Parameters
    ----------
    data : any data that `ranef.fit` takes
        One row for each pair of a user and an item.
    user, item : str
        Columns.
    test, validation : float or int
        Shares of the users, rounded down, or their numbers; no validation users by default. Of a random order of the
        users the test users are the first, the validation users the next.
    hold_out : float
        The share of a held-out user's rows to be found, rounded down.
    least : int
        A held-out user with fewer rows has none to be found.
    seed : int
        Of the users' order and, user by user (validation and test users in the order of the levels), of the rows to
        be found; one generator, ``numpy.random.default_rng(seed)``, draws both.

    Returns
    -------
    StrongSplit

    Raises
    ------
    OptionError, DataError

    Notes
    -----
    Rows of held-out users whose item no training row has are left out, and counted: a model cannot know these items.
    """
    held = Held(data)
    check_whole("seed", seed, 0)
    check_whole("least", least, 1)
    _check_share("hold_out", hold_out)
    users, count = _occurring(held, user)
    items = held.factor(item)
    tests = _count("test", test, count, "users")
    validations = 0 if not validation else _count("validation", validation, count - tests, "other users")
    random = np.random.default_rng(seed)
    role = np.zeros(count, np.int8)
    order = random.permutation(count)
    role[order[:tests]] = 2
    role[order[tests : tests + validations]] = 1
    fitted = role[users] == 0
    known = np.zeros(len(items.levels), np.bool_)
    known[items.codes[fitted]] = True
    kept = known[items.codes] & ~fitted
    found = _drawn(random, users, items.codes, np.flatnonzero(kept), hold_out, least)
    tested = role[users] == 2

    def rows(mask: Mask) -> RowArray:
        return np.flatnonzero(mask)

    return StrongSplit(
        rows(fitted),
        rows(kept & tested & ~found),
        rows(kept & tested & found),
        rows(kept & ~tested & ~found),
        rows(kept & ~tested & found),
        int(np.count_nonzero(~fitted & ~kept)),
        held,
    )


def _drawn(
    random: np.random.Generator,
    users: npt.NDArray[np.integer],
    items: npt.NDArray[np.integer],
    rows: RowArray,
    share: float,
    least: int,
) -> Mask:
    """Which rows are to be found: of each user's ``rows``, in the order of the items, a random share."""
    rows = rows[np.lexsort((items[rows], users[rows]))]
    starts = np.flatnonzero(np.diff(users[rows], prepend=-1))
    found = np.zeros(len(users), np.bool_)
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        size = int(end - start)
        if size >= least:
            found[rows[start + random.choice(size, int(size * share + 1e-9), replace=False)]] = True
    return found


def _occurring(held: Held, column: str) -> tuple[npt.NDArray[np.int64], int]:
    """Codes of the levels that occur, in their order, and how many there are."""
    codes = held.factor(column).codes
    distinct, dense = np.unique(codes, return_inverse=True)
    return dense.astype(np.int64), len(distinct)


def _split(held: Held, test: Mask) -> Split:
    return Split(np.flatnonzero(~test), np.flatnonzero(test), held)


def _count(option: str, wanted: int | float, available: int, what: str) -> int:
    """How many of the ``available`` a share or number stands for: at least one, and not all."""
    if isinstance(wanted, float):
        _check_share(option, wanted)
        count = int(available * wanted + 1e-9)  # 0.29 of 100 is 29, though 100 * 0.29 is a little less
    else:
        check_whole(option, wanted, 1)
        count = int(wanted)
    if not 0 < count < available:
        raise OptionError(f"{option}={wanted!r}: {count:,} of {available:,} {what} would be held out; give another")
    return count


def _check_share(option: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise OptionError(f"{option}={value!r}: give a share between 0 and 1, such as 0.1")
