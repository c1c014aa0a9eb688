"""Which rows take part in the fit: those with every value and a weight; and their numbers in the data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from ranef.errors import DataError, OptionError, counted
from ranef.storage import MEMORY, Storage
from ranef.table import FloatArray, Table, complete_rows
from ranef.table.table import taken

Missing = Literal["drop", "raise"]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Dropped:
    """Rows that take no part in the fit.

    Attributes
    ----------
    rows : int
    missing : mapping of str to int
        Rows by column that lacks a value there; a row may count for several columns.
    zero_weight : int
    """

    rows: int = 0
    missing: Mapping[str, int] = ()  # type: ignore[assignment]
    zero_weight: int = 0


@dataclass(frozen=True, eq=False)
class FitRows:
    """The rows of the fit.

    Attributes
    ----------
    table : Table
    weights : float64 array, shape (rows,), or None
        Positive.
    kept : bool array, shape (rows of the data,), or None
        Which rows of the data these are; None if all.
    dropped : Dropped
    held_out : bool array, shape (rows of the data,), or None
        Complete rows that are left for validation; they are not counted as dropped.
    """

    table: Table
    weights: FloatArray | None
    kept: BoolArray | None
    dropped: Dropped
    held_out: BoolArray | None = None


@dataclass(frozen=True)
class HoldOut:
    """A share of the rows, drawn at random by a seed, that a fit is validated on."""

    share: float
    seed: int

    def rows(self, count: int) -> BoolArray:
        """Which of ``count`` rows, at least one; shape (count,)."""
        random = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(7,)))
        held = np.zeros(count, np.bool_)
        held[random.permutation(count)[: max(1, round(self.share * count))]] = True
        return held


def given_weights(weights: str | npt.ArrayLike | None, table: Table, meaning: str) -> FloatArray | None:
    """The weights of all rows of the data.

    Parameters
    ----------
    weights : str or array_like, shape (rows,), optional
        A column's name, or the weights.
    table : Table
    meaning : str
        What weights are to this kind of response, for messages.

    Returns
    -------
    float64 array, shape (rows,), or None
        NaN where one is missing.

    Raises
    ------
    DataError
        A weight is negative or infinite.
    OptionError
        They are not one number a row.
    """
    if weights is None:
        return None
    column = weights if isinstance(weights, str) else None
    if column is not None:
        values, has = table.numbers[column], f"column {column!r} has"
    else:
        try:
            values = np.asarray(weights, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise OptionError("weights must be the name of a column or an array of numbers") from error
        has = "weights has"
        if values.shape != (table.rows,):
            raise OptionError(
                f"weights has the shape {values.shape} but the data have {counted(table.rows, 'row')}; give one number "
                "a row, or the name of a column"
            )
    for bad, what in ((values < 0, "negative weight"), (np.isinf(values), "infinite weight")):
        if bad.any():
            row, count = int(np.argmax(bad)), int(np.count_nonzero(bad))
            raise DataError(
                f"{has} {counted(count, what)}, the first in row {row} ({values[row]:g}); weights are {meaning}, "
                "at least 0: correct them, or make them 0 or missing to leave their rows out",
                column=column,
                row=row,
                count=count,
            )
    return values


def complete_and_weighted(
    table: Table,
    weights: FloatArray | None,
    missing: Missing,
    storage: Storage = MEMORY,
    hold_out: HoldOut | None = None,
) -> FitRows:
    """The rows that have every value and a weight above zero, less those that are held out.

    Raises
    ------
    DataError
        A value is missing and ``missing`` is ``"raise"``, or no row is left.
    """
    found, gaps = complete_rows(table, storage)
    counts = {name: gap.count for name, gap in gaps.items()}
    if found is None and weights is None and hold_out is None:
        return FitRows(table, None, None, Dropped(0, {}, 0))
    complete = np.ones(table.rows, np.bool_) if found is None else found
    if weights is not None:
        absent = np.isnan(weights)
        if absent.any():
            complete = complete & ~absent
            counts.setdefault("weights", int(absent.sum())) if not _covered(counts, absent, table) else None
    if missing == "raise" and counts:
        name, row, count = next(iter(counts)), int(np.argmin(complete)), int(np.sum(~complete))
        lack = "row lacks a value" if count == 1 else "rows lack values"
        raise DataError(
            f"{count:,} {lack} ({_listed(counts)}), the first is row {row}; fill them in, or leave these rows out with "
            "missing='drop'",
            column=name,
            row=row,
            count=count,
        )
    zero = 0
    if weights is not None:
        none = complete & (weights == 0)
        zero = int(none.sum())
        complete = complete & ~none
    rows = int(np.sum(~complete))
    if rows == table.rows:
        worst = max(counts, key=lambda name: counts[name]) if counts else None
        reasons = [f"missing values in {_listed(counts)}"] if counts else []
        reasons += [f"weight zero in {counted(zero, 'row')}"] if zero else []
        raise DataError(
            f"none of the {counted(table.rows, 'row')} is left: {'; '.join(reasons)}. Correct these columns, or leave "
            "them out of the formula",
            column=worst,
            count=table.rows,
        )
    held = None
    if hold_out is not None:
        held = hold_out.rows(table.rows) & complete
        complete = complete & ~held
        if not (complete.any() and held.any()):
            raise OptionError(
                f"validation={hold_out.share:g} leaves {counted(int(complete.sum()), 'row')} to fit and "
                f"{counted(int(held.sum()), 'row')} to validate on; give another share"
            )
    if not rows and held is None:
        return FitRows(table, weights, None, Dropped(0, {}, 0))
    left = None if weights is None else taken(weights, complete, storage)
    return FitRows(table.take(complete, storage), left, complete, Dropped(rows, counts, zero), held)


def with_trials(rows: FitRows, trials: FloatArray, response: str) -> FitRows:
    """The rows with a trial, weighted by their trials.

    Parameters
    ----------
    rows : FitRows
    trials : float64 array, shape (rows,)
        A row without one is dropped and counted as one of weight zero.
    response : str
        Its label, for messages.

    Raises
    ------
    DataError
        No row has a trial.
    """
    some = trials > 0
    none = int(np.count_nonzero(~some))
    if not none:
        return replace(rows, weights=trials)
    if none == len(trials):
        raise DataError(
            f"none of the {counted(none, 'row')} has a trial: successes and failures of {response} are all 0; check "
            "these columns",
            count=none,
        )
    kept = some if rows.kept is None else rows.kept.copy()
    if rows.kept is not None:
        kept[rows.kept] = some
    dropped = replace(rows.dropped, rows=rows.dropped.rows + none, zero_weight=rows.dropped.zero_weight + none)
    return FitRows(rows.table.take(some), trials[some], kept, dropped, rows.held_out)


@contextmanager
def numbered_as_in_the_data(rows: FitRows) -> Iterator[None]:
    """Errors about a row of the fit name its number in the caller's data."""
    try:
        yield
    except DataError as error:
        if error.row is None or rows.kept is None:
            raise
        raise _recounted(error, np.flatnonzero(rows.kept)) from error


def _covered(counts: Mapping[str, int], absent: npt.NDArray[np.bool_], table: Table) -> bool:
    """Whether the missing weights are those of a column that is counted already."""
    return any(name in counts and np.array_equal(np.isnan(v), absent) for name, v in table.numbers.items())


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items())


def _recounted(error: DataError, rows: npt.NDArray[np.intp]) -> DataError:
    row = int(rows[error.row or 0])
    text = re.sub(rf"\brow {error.row}\b", f"row {row}", str(error))
    return type(error)(text, column=error.column, row=row, count=error.count)
