"""From an expression of the formula to what it means on these data: `Operation`, `Basis` or `Coded`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast, get_args

import msgspec
import numpy as np

from ranef.design import splines
from ranef.design.columns import (
    Arithmetic,
    Basis,
    BSplines,
    Categories,
    Coded,
    Column,
    Constant,
    Function,
    FunctionName,
    LevelTest,
    NaturalSplines,
    Operation,
    OperatorName,
    Polynomial,
    Powers,
    Scaled,
    Truths,
    columns_of,
    evaluate,
    is_truth,
)
from ranef.design.contrasts import CONTRASTS, MOST_POLY_LEVELS, Contrast
from ranef.design.periods import period_of
from ranef.design.polynomials import polynomial_recurrence
from ranef.design.roles import FACTOR_CALLS, is_factor, level_test, require_levels, require_number
from ranef.errors import DataError, FormulaError, nearest
from ranef.formula import label
from ranef.formula.nodes import Binary, Call, Expression, Name, Number, Text, Truth, Unary
from ranef.formula.operations import OPERATIONS, PERIODS
from ranef.table.kinds import ColumnKind
from ranef.table.levels import used
from ranef.table.table import FloatArray, Table

Kinds: TypeAlias = Mapping[str, ColumnKind]

_FUNCTIONS = frozenset(get_args(FunctionName))
_OPERATORS = frozenset(get_args(OperatorName))
_BASES = frozenset({"poly", "bs", "ns"})


def learn_expression(expression: Expression, table: Table, kinds: Kinds) -> Operation:
    """A single numeric expression (response, offset, weights, or inside a term) learned on ``table``.

    Parameters
    ----------
    expression : Expression
    table : Table
        Complete rows only; holds the columns that :func:`ranef.design.roles.needed` names.
    kinds : mapping of str to {"number", "boolean", "category", "date", "other"}

    Returns
    -------
    Operation
        For :func:`ranef.design.columns.evaluate`.

    Raises
    ------
    FormulaError
        The expression does not give one column of numbers.
    DataError
        A column has the wrong kind, or values that an operation cannot take.
    """
    match expression:
        case Name(name):
            require_number(name, kinds, expression)
            return Column(name)
        case Number(value):
            if not np.isfinite(value):
                raise _wrong(expression, "the number does not fit a float")
            return Constant(float(value))
        case Truth(value):
            return Constant(float(value))
        case Text():
            raise _wrong(expression, "a text can only be compared, by == or !=, with a column that holds categories")
        case Unary(operator, operand):
            return _function(operator, operand, expression, table, kinds)
        case Binary():
            return _binary(expression, table, kinds)
        case Call():
            return _call(expression, table, kinds)


def learn_variable(expression: Expression, table: Table, kinds: Kinds) -> Operation | Basis | Coded:
    """One factor of a term learned on ``table``: a number, several columns of numbers, or levels.

    Raises
    ------
    FormulaError, DataError
        As :func:`learn_expression`; also a factor with one level, or too few distinct values for a basis.
    """
    match expression:
        case Name(name) if is_factor(name, kinds):
            return _categories(expression, name, table)
        case Call("I", (inner,)):
            return learn_variable(inner, table, kinds)
        case Call(function) if function in FACTOR_CALLS:
            return _factor_call(expression, table, kinds)
        case Call(function) if function in PERIODS:
            return _categories(expression, period_of(expression).name, table)
        case Call("poly"):
            return _poly(expression, table, kinds)
        case Call("bs"):
            return _bs(expression, table, kinds)
        case Call("ns"):
            return _ns(expression, table, kinds)
        case _:
            operation = learn_expression(expression, table, kinds)
            return _truths(expression, operation, table) if is_truth(operation) else operation


# --- one column of numbers


def _function(name: str, argument: Expression, whole: Expression, table: Table, kinds: Kinds) -> Function:
    if name not in _FUNCTIONS:
        raise _wrong(whole, f"{name} is not a column operation; the operations are {', '.join(OPERATIONS)}")
    return Function(cast(FunctionName, name), learn_expression(argument, table, kinds), label(whole))


def _binary(expression: Binary, table: Table, kinds: Kinds) -> Operation:
    test = level_test(expression, kinds)
    if test is not None:
        column, level, equal = test
        known = table.factors[column].levels.labels
        if level not in known:
            close = nearest(level, known) or known[:5]
            raise DataError(
                f"{label(expression)}: column {column!r} has no level {level!r}; did you mean {_either(close)}?",
                column=column,
            )
        return LevelTest(column, level, equal)
    if expression.operator not in _OPERATORS:
        raise _wrong(expression, f"{expression.operator} is not an operator between numbers")
    left = learn_expression(expression.left, table, kinds)
    right = learn_expression(expression.right, table, kinds)
    return Arithmetic(cast(OperatorName, expression.operator), left, right, label(expression))


def _call(call: Call, table: Table, kinds: Kinds) -> Operation:
    name = call.function
    if name in FACTOR_CALLS | PERIODS | _BASES:
        gives = "several columns" if name in _BASES else "levels"
        raise _wrong(call, f"{name}() gives {gives}, not a number; let it stand as a term of its own")
    options = _options(call)
    if name == "I":
        return learn_expression(call.arguments[0], table, kinds)
    if name == "log" and "base" in options:
        return _log(call, _number(call, options["base"]), table, kinds)
    if name in ("center", "scale"):
        return _scale(call, options, table, kinds)
    return _function(name, call.arguments[0], call, table, kinds)


def _log(call: Call, base: float, table: Table, kinds: Kinds) -> Operation:
    if base <= 0 or base == 1:
        raise _wrong(call, "the base of a logarithm is above 0 and not 1")
    if base in (2.0, 10.0):
        return _function(f"log{base:.0f}", call.arguments[0], call, table, kinds)
    natural = Function("log", learn_expression(call.arguments[0], table, kinds), label(call))
    return Arithmetic("/", natural, Constant(float(np.log(base))), label(call))


def _scale(call: Call, options: Mapping[str, Expression], table: Table, kinds: Kinds) -> Scaled:
    argument = learn_expression(call.arguments[0], table, kinds)
    x = _varied(call, argument, table)
    center = _truth_or_number(call, options.get("center", Truth(True)))
    scale = _truth_or_number(call, options.get("scale", Truth(call.function == "scale")))
    if isinstance(center, bool):
        center = float(np.mean(x)) if center else 0.0
    if isinstance(scale, bool):
        # R divides by the root mean square about whatever was subtracted
        scale = float(np.sqrt(np.sum((x - center) ** 2) / (len(x) - 1))) if scale else 1.0
    if scale == 0:
        raise _wrong(call, "the scale must not be 0")
    return Scaled(argument, center, scale, label(call))


# --- several columns of numbers


def _poly(call: Call, table: Table, kinds: Kinds) -> Polynomial | Powers:
    options = _options(call)
    argument = learn_expression(call.arguments[0], table, kinds)
    degree = _whole(call, options.get("degree", Number(1.0)), "degree", least=1)
    x = _varied(call, argument, table)
    distinct = len(np.unique(x))
    if degree >= distinct:
        raise _unfit(call, argument, f"has {distinct} distinct values; the degree must be less than that")
    if _flag(call, options.get("raw", Truth(False))):
        return Powers(argument, degree, label(call))
    alpha, norm2 = polynomial_recurrence(x, degree)
    if not (np.isfinite(norm2).all() and (norm2 > 0).all()):
        raise _unfit(call, argument, "has values too large or too close together for this degree; scale it first")
    return Polynomial(argument, _floats(alpha), _floats(norm2), label(call))


def _bs(call: Call, table: Table, kinds: Kinds) -> BSplines:
    options = _options(call)
    degree = _whole(call, options.get("degree", Number(3.0)), "degree", least=1)
    first = 0 if _flag(call, options.get("intercept", Truth(False))) else 1
    argument, knots = _knots(call, options, degree, degree + 1 - first, table, kinds)
    return BSplines(argument, _floats(knots), degree, first, label(call))


def _ns(call: Call, table: Table, kinds: Kinds) -> NaturalSplines:
    options = _options(call)
    first = 0 if _flag(call, options.get("intercept", Truth(False))) else 1
    argument, knots = _knots(call, options, splines.CUBIC, 2 - first, table, kinds)
    projection = splines.natural_projection(knots, first)
    return NaturalSplines(argument, _floats(knots), tuple(_floats(row) for row in projection), label(call))


def _knots(
    call: Call, options: Mapping[str, Expression], degree: int, least_df: int, table: Table, kinds: Kinds
) -> tuple[Operation, FloatArray]:
    """The argument and the full knot vector; ``least_df`` is the number of columns without interior knots."""
    argument = learn_expression(call.arguments[0], table, kinds)
    x = _varied(call, argument, table)
    if "df" in options and "knots" in options:
        raise _wrong(call, "give df or knots, not both")
    if "df" in options:
        df = _whole(call, options["df"], "df", least=least_df)
        interior = splines.quantile_knots(x, df - least_df)
    else:
        interior = np.array(_numbers(call, options["knots"]) if "knots" in options else [], dtype=np.float64)
    low, high = float(np.min(x)), float(np.max(x))
    outside = interior[(interior <= low) | (interior >= high)]
    if len(outside):
        remedy = "take fewer df or give knots" if "df" in options else "give knots between these"
        raise _unfit(call, argument, f"goes from {low:g} to {high:g}, and a knot falls on {outside[0]:g}; {remedy}")
    return argument, splines.knot_sequence(interior, low, high, degree)


# --- levels


def _factor_call(call: Call, table: Table, kinds: Kinds) -> Coded:
    inner = call.arguments[0]
    if isinstance(inner, Name):
        require_levels(inner.name, kinds)
        coded: Operation | Basis | Coded = _categories(call, inner.name, table)
    else:
        coded = learn_variable(inner, table, kinds)
    if not isinstance(coded, Categories | Truths):
        raise _wrong(call, f"{call.function}() takes a column or a comparison; make the levels a column of the data")
    if call.function == "ordered":
        return _with_contrast(call, coded, "poly", 0)
    options = _options(call)
    if call.function == "C" and options:
        contrast, base = _contrast(call, options, coded)
        return _with_contrast(call, coded, contrast, base)
    return coded


def _categories(expression: Expression, name: str, table: Table) -> Coded:
    levels = used(table.factors[name]).levels
    if len(levels) < 2:
        raise _one_level(expression, f"column {name!r}", levels.labels, name)
    coded = Categories(name, levels.labels, "treatment", 0)
    return _with_contrast(expression, coded, "poly", 0) if levels.ordered else coded


def _truths(expression: Expression, operation: Operation, table: Table) -> Truths:
    found = np.unique(evaluate(operation, table))
    if len(found) < 2:
        levels = tuple("TRUE" if value else "FALSE" for value in found)
        raise _one_level(expression, label(expression), levels, next(columns_of(operation), None))
    return Truths(operation, "treatment", 0)


def _with_contrast(expression: Expression, coded: Coded, contrast: Contrast, base: int) -> Coded:
    if contrast == "poly" and len(coded.levels) > MOST_POLY_LEVELS:
        raise DataError(
            f"{label(expression)} has {len(coded.levels)} levels, too many for polynomial contrasts (at most "
            f'{MOST_POLY_LEVELS}); make it unordered, write C(..., "treatment"), or use it as a number',
            column=next(columns_of(coded), None),
        )
    return msgspec.structs.replace(coded, contrast=contrast, base=base)


def _contrast(call: Call, options: Mapping[str, Expression], coded: Coded) -> tuple[Contrast, int]:
    chosen = options.get("contrast", Name("treatment"))
    base = options.get("base")
    match chosen:
        case Name(name) | Text(name):
            pass
        case Call(name, arguments, keywords):
            if arguments and not isinstance(arguments[0], Text):
                raise _wrong(call, 'name the base level as a text, treatment("b"), or its place, base = 2')
            base = next(iter([*arguments, *dict(keywords).values()]), base)
        case _:
            name = ""
    contrast = next((known for known in CONTRASTS if known == name.removeprefix("contr.")), None)
    if contrast is None:
        raise _wrong(call, f"the contrasts are {', '.join(CONTRASTS)}")
    if base is None:
        return contrast, 0
    if contrast != "treatment":
        raise _wrong(call, f"contrast {contrast} has no base level; leave base out")
    return contrast, _base(call, base, coded)


def _base(call: Call, base: Expression, coded: Coded) -> int:
    """Position of the base level from 0: a text is a level's name, a number its place from 1, as in R."""
    levels = coded.levels
    if isinstance(base, Text):
        if base.value not in levels:
            close = nearest(base.value, levels) or levels[:5]
            raise DataError(
                f"{label(call)}: there is no level {base.value!r} in the rows used; did you mean {_either(close)}?",
                column=next(columns_of(coded), None),
            )
        return levels.index(base.value)
    place = _whole(call, base, "base", least=1)
    if place > len(levels):
        raise _wrong(call, f"base is {place}, but there are {len(levels)} levels in the rows used")
    return place - 1


# --- arguments


def _options(call: Call) -> dict[str, Expression]:
    """The constants after the first argument by name; the parser has checked their number and their names."""
    return {**dict(zip(OPERATIONS[call.function].options, call.arguments[1:], strict=False)), **dict(call.keywords)}


def _number(call: Call, value: Expression) -> float:
    match value:
        case Number(number):
            return float(number)
        case Unary("-", Number(number)):
            return -float(number)
        case Unary("+", Number(number)):
            return float(number)
        case _:
            raise _wrong(call, f"{label(value)} is not a number")


def _numbers(call: Call, value: Expression) -> list[float]:
    parts = value.arguments if isinstance(value, Call) and value.function == "c" else (value,)
    return [_number(call, part) for part in parts]


def _whole(call: Call, value: Expression, name: str, least: int) -> int:
    number = _number(call, value)
    if number != round(number) or number < least:
        raise _wrong(call, f"{name} must be a whole number of at least {least}")
    return int(number)


def _flag(call: Call, value: Expression) -> bool:
    if not isinstance(value, Truth):
        raise _wrong(call, f"{label(value)} must be TRUE or FALSE")
    return value.value


def _truth_or_number(call: Call, value: Expression) -> bool | float:
    return value.value if isinstance(value, Truth) else _number(call, value)


def _varied(call: Call, argument: Operation, table: Table) -> FloatArray:
    """The argument's values, refused if they are missing or all the same."""
    x = evaluate(argument, table)
    missing = np.flatnonzero(np.isnan(x))
    if len(missing):
        raise DataError(
            f"{label(call)} cannot be learned from missing values; leave out the {len(missing):,} rows that have them",
            column=next(columns_of(argument), None),
            row=int(missing[0]),
            count=len(missing),
        )
    if not len(x):
        raise DataError(f"{label(call)} cannot be learned: there are no rows", column=next(columns_of(argument), None))
    if np.min(x) == np.max(x):
        raise _unfit(call, argument, f"is {x[0]:g} in every row; drop the term")
    return x


def _floats(values: FloatArray) -> tuple[float, ...]:
    return tuple(values.tolist())


# --- errors


def _wrong(expression: Expression, problem: str) -> FormulaError:
    return FormulaError(f"{label(expression)}: {problem}")


def _unfit(call: Call, argument: Operation, problem: str) -> DataError:
    return DataError(
        f"{label(call)} cannot be computed: {label(call.arguments[0])} {problem}",
        column=next(columns_of(argument), None),
    )


def _one_level(expression: Expression, what: str, levels: Sequence[str], column: str | None) -> DataError:
    found = f"only the level {levels[0]!r}" if levels else "no level at all"
    return DataError(
        f"{what} has {found} in the rows used, and a fixed effect needs at least two; "
        f"drop {label(expression)} from the formula",
        column=column,
    )


def _either(words: Sequence[str]) -> str:
    return " or ".join(map(repr, words))
