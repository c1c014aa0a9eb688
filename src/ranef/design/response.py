"""The response that a family takes: learned on the fit's rows as plain data, computed and checked on any rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import msgspec
import numpy as np
import numpy.typing as npt

from ranef.design.categories import (
    categories_of_column,
    categories_of_numbers,
    codes_of_column,
    codes_of_numbers,
)
from ranef.design.columns import Categories, Column, Operation, columns_of, evaluate, is_truth, leaves
from ranef.design.learn import learn_expression
from ranef.design.matrix import ModelMatrixSpec, Value
from ranef.design.pieces import by_pieces
from ranef.design.roles import FACTOR_CALLS, Roles, is_factor, needed, require_levels
from ranef.design.spec import ResponseKind, ResponseSpec
from ranef.errors import DataError, FormulaError
from ranef.formula.nodes import Call, Expression, Formula, Name, Number, Response
from ranef.formula.write import response_text
from ranef.storage import Storage
from ranef.table import ColumnKind, FloatArray, Table

# What weights are to each kind of response, for messages.
WEIGHTS: Mapping[ResponseKind, str] = {
    "number": "inverse variances up to a factor",
    "proportion": "numbers of trials",
    **dict.fromkeys(("binary", "count", "positive", "ordered", "rating"), "how often a row counts"),
}

# Counts that were computed, such as a proportion of trials, are whole up to this relative error.
ROUNDING = 1e-6

_CLASSES: frozenset[ResponseKind] = frozenset({"binary", "proportion", "ordered"})
_LEVELS_OF = FACTOR_CALLS - {"C"}


class Learned(NamedTuple):
    """A response as plain data, and the categories of its column that no row of the fit has."""

    spec: ResponseSpec
    empty: tuple[str, ...]


def response_of(formula: Formula, kind: ResponseKind) -> Response:
    """The left side, refused where the kind of response does not fit the formula.

    Raises
    ------
    FormulaError
    """
    response = formula.response
    if response is None:
        raise FormulaError("the formula has no response; write it left of `~`, such as `y ~ x`", formula.text, 0, 1)
    if isinstance(response.expressions[0], Number):
        raise FormulaError(
            "the response `1` names no column; pairs that are observed or not are family='implicit'",
            formula.text,
            response.span.start,
            response.span.end,
        )
    if len(response.expressions) > 1 and kind != "proportion":
        raise FormulaError(
            "cbind() is the response of the binomial family; this family has one response",
            formula.text,
            response.span.start,
            response.span.end,
        )
    if kind == "ordered" and not formula.fixed.intercept:
        right = formula.text[formula.text.index("~", response.span.end) + 1 :]
        raise FormulaError(
            "the thresholds of an ordinal model take the place of its intercept, which cannot be removed; leave out "
            "`0` or `-1`",
            formula.text,
            len(formula.text) - len(right.lstrip()),
            len(formula.text),
        )
    return response


def response_roles(response: Response, kind: ResponseKind, kinds: Mapping[str, ColumnKind]) -> Roles:
    """The columns of a response, as numbers or as factors.

    Raises
    ------
    DataError
        A column does not exist, or its kind does not fit.
    """
    column = _class_column(response, kind, kinds)
    if column is not None:
        return Roles(frozenset(), frozenset({column}))
    expressions = [_unwrapped(one, kind)[0] for one in response.expressions]
    try:
        return needed(expressions, kinds)
    except DataError as error:
        inner = expressions[0]
        if len(expressions) == 1 and isinstance(inner, Name) and kinds.get(inner.name) == "category":
            raise DataError(
                f"{error}, or take a family for categories: 'ordinal' for levels in order, 'bernoulli' for two",
                column=error.column,
            ) from error
        raise


def learn_response(response: Response, kind: ResponseKind, table: Table, kinds: Mapping[str, ColumnKind]) -> Learned:
    """Learn a response on the fit's rows.

    Parameters
    ----------
    response : Response
    kind : {"number", "binary", "proportion", "count", "positive", "ordered"}
    table : Table
        Complete rows, with the columns that `response_roles` names.
    kinds : mapping of str to {"number", "boolean", "category", "date", "other"}

    Returns
    -------
    Learned

    Raises
    ------
    FormulaError
        An expression is not one column of numbers.
    DataError
        A column has too many levels for the kind, or values that an operation cannot take.

    Notes
    -----
    The first level of two is the failure, the second the success (R's rule), in declared order if the column has one,
    else sorted. An ordered response may be any column of at most 50 different values.
    """
    text = response_text(response)
    column = _class_column(response, kind, kinds)
    if column is not None:
        levels, empty = categories_of_column(text, column, kinds[column], table, two=kind != "ordered")
        value = Categories(column, levels, "treatment", 0)
        return Learned(ResponseSpec(kind, text, value, None, levels), empty)
    values = [learn_expression(_unwrapped(one, kind)[0], table, kinds) for one in response.expressions]
    levels = categories_of_numbers(text, values[0], table) if kind in ("ordered", "rating") else ()
    return Learned(ResponseSpec(kind, text, values[0], values[1] if len(values) > 1 else None, levels), ())


def response_columns(spec: ResponseSpec) -> Roles:
    """The columns that `response_values` reads."""
    values = [spec.value, *([] if spec.failures is None else [spec.failures])]
    found = [leaf for value in values for leaf in leaves(value)]
    return Roles(
        frozenset(leaf.name for leaf in found if isinstance(leaf, Column)),
        frozenset(leaf.column for leaf in found if not isinstance(leaf, Column)),
    )


def response_values(spec: ResponseSpec, table: Table) -> tuple[FloatArray, FloatArray | None]:
    """The response of any rows.

    Parameters
    ----------
    spec : ResponseSpec
    table : Table
        Holds the columns that `response_columns` names.

    Returns
    -------
    y : float64 array, shape (rows,)
        Numbers and ratings; 0 and 1 of a binary response; proportions; codes from 0 of an ordered response. NaN where
        it is missing, and where ``cbind()`` has no trials. May be the table's own column.
    trials : float64 array, shape (rows,), or None
        Of ``cbind()`` only.

    Raises
    ------
    LevelError
        A category that was not there in fitting.
    DataError
        A value that the kind of response does not have, or an operation that cannot be computed.
    """
    if spec.failures is not None:
        return _proportions(spec, spec.failures, table)
    if isinstance(spec.value, Categories):
        return codes_of_column(spec, spec.value, table), None
    operation = cast(Operation, spec.value)
    y = evaluate(operation, table)
    if spec.kind == "ordered":
        return (y if is_truth(operation) else codes_of_numbers(spec, y)), None
    _check_values(spec, y)
    return y, None


def response_by_pieces(spec: ResponseSpec, table: Table, storage: Storage) -> tuple[FloatArray, FloatArray | None]:
    """`response_values` of the fit's rows, some at a time where there are no trials."""
    if spec.failures is not None:
        return response_values(spec, table)
    return by_pieces(lambda part: response_values(spec, part)[0], table, storage), None


def check_trials(spec: ResponseSpec, y: FloatArray, weights: FloatArray | None) -> None:
    """Refuse a proportion that is no whole number of successes out of its weight, the number of trials.

    Parameters
    ----------
    spec : ResponseSpec
        Nothing is checked unless it is a proportion that is written as one number.
    y, weights : float64 arrays, shape (rows,)
        No weights are one trial a row.

    Raises
    ------
    DataError
    """
    if spec.kind != "proportion" or spec.failures is not None:
        return
    column = next(columns_of(spec.value), None)
    if weights is None:
        _refuse(
            (y != 0) & (y != 1),
            y,
            column,
            f"the response {spec.label} without weights must be 0 or 1, one trial a row",
            "name the column of the numbers of trials as weights, or write cbind(successes, failures)",
        )
        return
    _refuse(
        _fractional(weights),
        weights,
        None,
        f"the weights of the response {spec.label} must be numbers of trials, whole",
        "correct them; weights that are no trials belong to family 'bernoulli'",
    )
    successes = y * weights
    _refuse(
        _fractional(successes),
        successes,
        column,
        f"the response {spec.label} times its weight, the trials, must be a whole number of successes",
        "correct one of them, or write cbind(successes, failures) if the proportions were rounded",
    )


def check_variation(spec: ResponseSpec, y: FloatArray) -> None:
    """Refuse a response from which nothing can be learned.

    Raises
    ------
    DataError
        One row, or a response without variation: the same number or category in all rows, no count above 0, all trials
        with one outcome.
    """
    if len(y) < 2:
        raise DataError("one row is left to fit, and a model needs more: check which rows lack values", count=1)
    # an offset may explain equal counts and proportions, but nothing explains the end of their range
    if not np.all(y == y[0]) or (spec.kind == "count" and y[0] > 0) or (spec.kind == "proportion" and 0 < y[0] < 1):
        return
    value = repr(spec.levels[int(y[0])]) if spec.levels and spec.kind != "rating" else f"{y[0]:g}"
    raise DataError(
        f"the response {spec.label} has the same value, {value}, in all {len(y):,} rows: there is no variation to "
        "model; choose another response",
        column=spec.label,
    )


def without_intercept(spec: ModelMatrixSpec) -> ModelMatrixSpec:
    """The columns of a model matrix but for its intercept, the first; contrasts stay those beside an intercept."""
    terms = tuple(
        msgspec.structs.replace(term, start=term.start - 1, stop=term.stop - 1) for term in spec.terms if term.variables
    )
    return msgspec.structs.replace(spec, names=spec.names[1:], terms=terms)


# --- which columns


def _unwrapped(expression: Expression, kind: ResponseKind) -> tuple[Expression, bool]:
    """What stands inside ``I()``, ``factor()`` and the like where classes are wanted; whether it is to be levels."""
    levels = False
    while kind in _CLASSES and isinstance(expression, Call) and expression.function in {"I", *_LEVELS_OF}:
        levels = levels or expression.function in _LEVELS_OF
        expression = expression.arguments[0]
    return expression, levels


def _class_column(response: Response, kind: ResponseKind, kinds: Mapping[str, ColumnKind]) -> str | None:
    """The column whose levels are the classes of the response; None if it is computed from numbers."""
    if kind not in _CLASSES or len(response.expressions) > 1:
        return None
    inner, levels = _unwrapped(response.expressions[0], kind)
    if not isinstance(inner, Name):
        return None
    if levels:
        require_levels(inner.name, kinds)
        return inner.name
    factor = is_factor(inner.name, kinds)
    return inner.name if kind == "ordered" or (factor and kinds[inner.name] != "boolean") else None


# --- numbers


def _proportions(spec: ResponseSpec, failures: Value, table: Table) -> tuple[FloatArray, FloatArray]:
    parts = [np.asarray(evaluate(cast(Operation, value), table)) for value in (spec.value, failures)]
    for which, value, values in zip(("successes", "failures"), (spec.value, failures), parts, strict=True):
        _refuse(
            _not_counts(values),
            values,
            next(columns_of(value), None),
            f"the {which} in {spec.label} must be counts, whole numbers of at least 0",
            "correct these rows, or the arithmetic in cbind(successes, failures)",
        )
    trials = parts[0] + parts[1]
    y = np.full(len(trials), np.nan)
    np.divide(parts[0], trials, out=y, where=trials > 0)
    return y, trials


def _check_values(spec: ResponseSpec, y: FloatArray) -> None:
    match spec.kind:
        case "binary":
            bad, must = (y != 0) & (y != 1), "0 or 1"
            remedy = (
                f"say by a comparison which are successes, such as `{spec.label} == {np.nanmax(y):g} ~ ...`, or take a "
                "family for more than two values ('ordinal', 'binomial', 'poisson', 'gaussian')"
                if bad.any()
                else ""
            )
        case "proportion":
            bad, must = (y < 0) | (y > 1), "a proportion, from 0 to 1"
            remedy = "write cbind(successes, failures) for counts, or say by a comparison which values are successes"
        case "count":
            bad, must = _not_counts(y), "a count, a whole number of at least 0"
            remedy = "correct these rows, or take a family for other numbers"
        case "positive":
            bad, must = y <= 0, "above 0"
            remedy = "correct these rows, or take a family for other numbers"
        case _:
            return
    _refuse(bad, y, next(columns_of(spec.value), None), f"the response {spec.label} must be {must}", remedy)


def _not_counts(values: FloatArray) -> npt.NDArray[np.bool_]:
    return np.asarray((values < 0) | (values != np.floor(values)))


def _fractional(values: FloatArray) -> npt.NDArray[np.bool_]:
    return np.asarray(np.abs(values - np.rint(values)) > ROUNDING * np.maximum(values, 1))


def _refuse(bad: npt.NDArray[np.bool_], values: FloatArray, column: str | None, must: str, remedy: str) -> None:
    """An error for the ``bad`` rows; a missing value is not bad."""
    if not bad.any():
        return
    bad = bad & ~np.isnan(values)
    count = int(np.count_nonzero(bad))
    if not count:
        return
    row = int(np.argmax(bad))
    found = f"row {row} has {values[row]:g}"
    if count > 1:
        found = f"{count:,} rows have something else, the first is row {row} with {values[row]:g}"
    raise DataError(f"{must}; {found}: {remedy}", column=column, row=row, count=count)
