"""Which columns of the data a formula needs as numbers and which as factors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ranef.design.periods import period_of
from ranef.errors import DataError, nearest
from ranef.formula import label
from ranef.formula.nodes import Binary, Call, Expression, LinearPart, Name, Text, Unary
from ranef.formula.operations import PERIODS
from ranef.table.kinds import ColumnKind

FACTOR_CALLS = frozenset({"factor", "as.factor", "ordered", "C"})


@dataclass(frozen=True)
class Roles:
    """Columns to read as float64 numbers and columns to read as codes; a column may be in both."""

    numbers: frozenset[str]
    factors: frozenset[str]


def needed(wanted: LinearPart | Iterable[Expression], kinds: Mapping[str, ColumnKind]) -> Roles:
    """The roles of all columns of a linear part, or of numeric expressions (response, weights, offset).

    Parameters
    ----------
    wanted : LinearPart or iterable of Expression
        In a linear part a category or a boolean that stands alone is a factor; in a numeric expression it is not.
    kinds : mapping of str to {"number", "boolean", "category", "date", "other"}
        The columns of the data.

    Returns
    -------
    Roles

    Raises
    ------
    DataError
        A column does not exist, or its kind does not fit its place.
    """
    if isinstance(wanted, LinearPart):
        uses = [use for term in wanted.terms for factor in term.factors for use in _term_uses(factor, kinds)]
    else:
        uses = [use for expression in wanted for use in _number_uses(expression, kinds)]
    return Roles(
        frozenset(name for name, as_factor in uses if not as_factor),
        frozenset(name for name, as_factor in uses if as_factor),
    )


def is_factor(name: str, kinds: Mapping[str, ColumnKind]) -> bool:
    """Whether a column that stands alone in a term is a factor.

    Raises
    ------
    DataError
        The column does not exist, or is neither number nor factor.
    """
    kind = kind_of(name, kinds)
    if kind == "date":
        raise DataError(
            f"column {name!r} holds dates, which are neither numbers nor levels; write day({name}), week({name}), "
            f"month({name}) or year({name}) for a level each, factor({name}) for one level a date, or add a column "
            "with the number you mean (such as days since a start)",
            column=name,
        )
    if kind == "other":
        raise _unusable(name)
    return kind != "number"


def require_number(name: str, kinds: Mapping[str, ColumnKind], place: Expression) -> None:
    """Refuse a column that is not a number or a boolean where arithmetic needs one.

    Raises
    ------
    DataError
    """
    kind = kind_of(name, kinds)
    if kind == "other":
        raise _unusable(name)
    if kind in ("category", "date"):
        holds, remedy = (
            ("text or categories", f"use it as a term of its own, compare it with a text ({name} == ...)")
            if kind == "category"
            else ("dates", "add a column with the number you mean (such as days since a start)")
        )
        if isinstance(place, Name):  # the response, the weights or an offset
            where, remedy = "", "" if kind == "category" else f"{remedy}, or "
        else:
            where, remedy = f" in {label(place)}", f"{remedy}, or "
        raise DataError(
            f"column {name!r} holds {holds} but stands{where} where a number is needed; {remedy}convert it to a number "
            "in the data",
            column=name,
        )


def require_levels(name: str, kinds: Mapping[str, ColumnKind]) -> None:
    """Refuse a column that cannot be read as a factor.

    Raises
    ------
    DataError
    """
    if kind_of(name, kinds) == "other":
        raise _unusable(name)


def level_test(expression: Expression, kinds: Mapping[str, ColumnKind]) -> tuple[str, str, bool] | None:
    """``a == "x"`` or ``a != "x"`` on a category as (column, level, equal); None for anything else."""
    match expression:
        case Binary("==" | "!=" as operator, Name(name), Text(level)) | Binary(
            "==" | "!=" as operator, Text(level), Name(name)
        ) if kind_of(name, kinds) == "category":
            return name, level, operator == "=="
        case _:
            return None


def kind_of(name: str, kinds: Mapping[str, ColumnKind]) -> ColumnKind:
    """The kind of a column.

    Raises
    ------
    DataError
        There is no such column.
    """
    if name not in kinds:
        close = nearest(name, kinds)
        guess = f"; did you mean {' or '.join(close)}?" if close else f"; the columns are {', '.join(kinds)}"
        raise DataError(f"the data have no column {name!r}{guess}", column=name)
    return kinds[name]


def _term_uses(expression: Expression, kinds: Mapping[str, ColumnKind]) -> Iterator[tuple[str, bool]]:
    match expression:
        case Name(name):
            yield name, is_factor(name, kinds)
        case Call("I", (inner,)):
            yield from _term_uses(inner, kinds)
        case Call(function) if function in PERIODS:
            yield period_of(expression).name, True
        case Call(function, (inner, *_)) if function in FACTOR_CALLS:
            yield from _level_uses(inner, kinds)
        case _:
            yield from _number_uses(expression, kinds)


def _level_uses(expression: Expression, kinds: Mapping[str, ColumnKind]) -> Iterator[tuple[str, bool]]:
    match expression:
        case Name(name):
            require_levels(name, kinds)
            yield name, True
        case _:
            yield from _term_uses(expression, kinds)


def _number_uses(expression: Expression, kinds: Mapping[str, ColumnKind]) -> Iterator[tuple[str, bool]]:
    pending: list[tuple[Expression, Expression]] = [(expression, expression)]
    while pending:
        part, place = pending.pop()
        match part:
            case Name(name):
                require_number(name, kinds, place)
                yield name, False
            case Unary(_, operand):
                pending.append((operand, part))
            case Binary(_, left, right):
                test = level_test(part, kinds)
                if test is None:
                    pending += [(right, part), (left, part)]
                else:
                    yield test[0], True
            case Call(function) if function in PERIODS:
                yield period_of(part).name, True
            case Call(_, (inner, *_)):
                pending.append((inner, part))


def _unusable(name: str) -> DataError:
    return DataError(
        f"column {name!r} holds neither numbers, text, booleans nor dates (but lists, say), or a mixture of them; "
        "convert it to one type, or leave it out of the formula",
        column=name,
    )
