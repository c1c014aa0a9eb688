"""The categories of a response: those that occur in the fit, and the code of each row's among them."""

from __future__ import annotations

import numpy as np

from ranef.design.columns import Categories, Operation, columns_of, evaluate, evaluate_codes, is_truth
from ranef.design.spec import ResponseSpec
from ranef.errors import DataError, LevelError, counted
from ranef.formula import label
from ranef.formula.nodes import Binary, Name, Number, Text
from ranef.table import ColumnKind, FloatArray, Table, from_numpy, labels_of, used

MOST_CATEGORIES = 50


def categories_of_column(
    text: str, column: str, kind: ColumnKind, table: Table, two: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The levels of a column that occur, in order, and those that do not.

    Parameters
    ----------
    text : str
        The response, for messages.
    column : str
    kind : {"number", "boolean", "category", "date"}
        Of the column.
    table : Table
        The fit's rows.
    two : bool
        Whether two levels are all there may be; else 50.

    Raises
    ------
    DataError
        There are more levels, or infinite numbers among them.
    """
    factor = table.factors[column]
    levels = used(factor).levels
    if not two:
        _check_count(text, column, len(levels))
    elif len(levels) > 2:
        last = levels.labels[-1]
        test = label(Binary("==", Name(column), Number(float(last)) if kind == "number" else Text(last)))
        raise DataError(
            f"the response {text} has {len(levels):,} levels ({_listed(levels.labels)}) where there must be two: "
            f"compare it with one level, as in `{test} ~ ...`, or take family 'ordinal' for levels in order; counts "
            "of successes are cbind(successes, failures) of family 'binomial'",
            column=column,
        )
    if kind == "number":
        infinite = np.isin(factor.levels.labels, ("Inf", "-Inf"))[factor.codes]
        if infinite.any():
            row, count = int(np.argmax(infinite)), int(np.count_nonzero(infinite))
            raise DataError(
                f"column {column!r} has {counted(count, 'infinite value')}, the first in row {row}; replace them by "
                "missing values or leave these rows out",
                column=column,
                row=row,
                count=count,
            )
    return levels.labels, tuple(level for level in factor.levels.labels if level not in levels.labels)


def categories_of_numbers(text: str, operation: Operation, table: Table) -> tuple[str, ...]:
    """The different values of an operation, in order, as texts that read back as the same numbers.

    Raises
    ------
    DataError
        There are more than 50.
    """
    if is_truth(operation):
        return ("FALSE", "TRUE")
    distinct = np.unique(evaluate(operation, table))
    _check_count(text, next(columns_of(operation), None), len(distinct))
    return labels_of(from_numpy(distinct))


def codes_of_column(spec: ResponseSpec, value: Categories, table: Table) -> FloatArray:
    """The place of each row's level among ``spec.levels``, shape (rows,); NaN where it is missing.

    Raises
    ------
    LevelError
        A level is not among them.
    """
    try:
        codes = evaluate_codes(value, table)
    except LevelError as error:
        factor, row = table.factors[value.column], error.row or 0
        code = int(factor.codes[row])
        level = repr(factor.levels.labels[code]) if code >= 0 else "an unknown level"
        raise _unknown(spec, level, row, error.count or 1) from error
    y = codes.astype(np.float64)
    y[codes < 0] = np.nan
    return y


def codes_of_numbers(spec: ResponseSpec, values: FloatArray) -> FloatArray:
    """The place of each number among ``spec.levels``, shape (rows,); NaN where it is missing.

    Raises
    ------
    LevelError
        A number is not among them.
    """
    known = np.array([float(level) for level in spec.levels])
    missing = np.isnan(values)
    place = np.minimum(np.searchsorted(known, values), len(known) - 1)
    unknown = ~missing & (known[place] != values)
    if unknown.any():
        row = int(np.argmax(unknown))
        raise _unknown(spec, labels_of(from_numpy(values[[row]]))[0], row, int(np.count_nonzero(unknown)))
    return np.where(missing, np.nan, place)


def _check_count(text: str, column: str | None, count: int) -> None:
    if count > MOST_CATEGORIES:
        raise DataError(
            f"the response {text} has {count:,} different values; an ordinal model learns a threshold between every "
            f"two neighbours and takes at most {MOST_CATEGORIES} values: group them in the data, or take a family for "
            "numbers",
            column=column,
        )


def _unknown(spec: ResponseSpec, level: str, row: int, count: int) -> LevelError:
    more = f", and {counted(count - 1, 'more row')} have such categories" if count > 1 else ""
    return LevelError(
        f"the response {spec.label} is {level} in row {row}, which is no category of the fit{more}: leave such rows "
        f"out, or fit again with them. Known categories: {_listed(spec.levels)}",
        column=next(columns_of(spec.value), None),
        row=row,
        count=count,
    )


def _listed(levels: tuple[str, ...]) -> str:
    return ", ".join(map(repr, levels[:5])) + (", ..." if len(levels) > 5 else "")
