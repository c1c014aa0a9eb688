"""Pairs of implicit feedback: two factors and a confidence from the formula and a table."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
import numpy as np
import numpy.typing as npt

from ranef.design.columns import evaluate
from ranef.design.learn import learn_expression
from ranef.design.matrix import Value
from ranef.design.roles import Roles, needed, require_levels
from ranef.design.rows import Dropped, FitRows, Missing, complete_and_weighted, numbered_as_in_the_data
from ranef.errors import DataError, FormulaError, OptionError, counted
from ranef.formula import check_columns
from ranef.formula.nodes import Formula, LatentField, Name, Number
from ranef.formula.write import response_text
from ranef.table import CodeArray, FloatArray, Levels, Source, read_table, used


class PairsSpec(msgspec.Struct, frozen=True):
    """What a row of implicit feedback says.

    Attributes
    ----------
    formula : str
        As written.
    user, item : str
        Columns: the left side of ``latent()``, whose levels are folded in, and the right one.
    confidence : Value or None
        A numeric operation; None where the left side of the formula is 1.
    label : str
        The left side as R writes it.
    """

    formula: str
    user: str
    item: str
    confidence: Value | None
    label: str


@dataclass(frozen=True, eq=False)
class PairsDesign:
    """Rows of implicit feedback.

    Attributes
    ----------
    spec : PairsSpec
    rank : int or None
        None is ``"auto"``.
    user_codes, item_codes : int32 arrays, shape (rows,)
    users, items : Levels
        Those that occur.
    confidence : float64 array, shape (rows,), or None
        Positive.
    kept : bool array, shape (rows of the data,), or None
        Which rows of the data these are; None if all.
    dropped : Dropped
    """

    spec: PairsSpec
    rank: int | None
    user_codes: CodeArray
    item_codes: CodeArray
    users: Levels
    items: Levels
    confidence: FloatArray | None
    kept: npt.NDArray[np.bool_] | None
    dropped: Dropped


def pairs_design(formula: Formula, source: Source, missing: Missing = "drop") -> PairsDesign:
    """Read the pairs that a formula names.

    Raises
    ------
    FormulaError
        It is not a confidence, or 1, explained by one ``latent()`` of two columns.
    DataError, OptionError
    """
    user, item = _columns(formula)
    check_columns(formula, source.columns)
    for name in (user, item):
        require_levels(name, source.columns)
    response = formula.response
    if response is None:
        raise FormulaError(
            "the formula has no left side; write `1 ~ ` or a column of confidences", formula.text, 0, len(formula.text)
        )
    if len(response.expressions) > 1:
        raise FormulaError(
            "cbind() is the response of the binomial family; a confidence is one column, or 1",
            formula.text,
            response.span.start,
            response.span.end,
        )
    expression = response.expressions[0]
    plain = isinstance(expression, Number)
    roles = Roles(frozenset(), frozenset()) if plain else needed([expression], source.columns)
    factors = sorted({user, item} | roles.factors)
    table = read_table(source, numbers=sorted(roles.numbers), factors=factors)
    if table.rows == 0:
        raise DataError("the data have no rows; check how they were read or filtered")
    rows = complete_and_weighted(table, None, missing)
    value, label, confidence = None, response_text(response), None
    if not plain:
        with numbered_as_in_the_data(rows):
            value = learn_expression(expression, rows.table, source.columns)
            confidence = checked_confidence(evaluate(value, rows.table), label)
        rows, confidence = _with_confidence(rows, confidence, label)
    users, items = used(rows.table.factors[user]), used(rows.table.factors[item])
    for name, factor in ((user, users), (item, items)):
        if len(factor.levels) < 2:
            raise DataError(
                f"{name!r} has one level, {factor.levels.labels[0]!r}: there is nothing to tell apart", column=name
            )
    return PairsDesign(
        spec=PairsSpec(formula.text, user, item, value, label),
        rank=formula.latent[0].rank,
        user_codes=users.codes,
        item_codes=items.codes,
        users=users.levels,
        items=items.levels,
        confidence=confidence,
        kept=rows.kept,
        dropped=rows.dropped,
    )


def checked_confidence(values: FloatArray, label: str) -> FloatArray:
    """The confidences, refused where one is negative or no finite number.

    Raises
    ------
    DataError
    """
    bad = ~np.isfinite(values) | (values < 0) | (values > np.finfo(np.float32).max)
    if bad.any():
        row, count = int(np.argmax(bad)), int(np.count_nonzero(bad))
        raise DataError(
            f"{label} has {counted(count, 'value')} that cannot be a confidence, the first in row {row} "
            f"({values[row]:g}): confidences are weights, at least 0; make them so, or write `1 ~` for equal ones",
            row=row,
            count=count,
        )
    return values


def _with_confidence(rows: FitRows, confidence: FloatArray, label: str) -> tuple[FitRows, FloatArray]:
    """Without the rows whose confidence is zero; they are counted."""
    some = confidence > 0
    none = int(np.count_nonzero(~some))
    if not none:
        return rows, confidence
    if none == len(confidence):
        raise DataError(
            f"{label} is 0 in all {counted(none, 'row')}: no pair is observed; check the column", count=none
        )
    kept = some if rows.kept is None else rows.kept.copy()
    if rows.kept is not None:
        kept[rows.kept] = some
    dropped = replace(rows.dropped, rows=rows.dropped.rows + none, zero_weight=rows.dropped.zero_weight + none)
    return FitRows(rows.table.take(some), None, kept, dropped), confidence[some]


def _columns(formula: Formula) -> tuple[str, str]:
    """The two columns of the one latent term."""
    shape = "1 ~ latent(user, item, rank = 64)"
    if formula.offsets or formula.random or formula.fixed.terms or len(formula.latent) != 1:
        raise FormulaError(
            f"family='implicit' is one latent() and nothing beside it, as {shape}", formula.text, 0, len(formula.text)
        )
    (term,) = formula.latent
    if term.kind != "latent" or any(len(side) > 1 for side in term.sides):
        raise FormulaError(
            f"family='implicit' takes one column on either side of latent(), as {shape}",
            formula.text,
            term.span.start,
            term.span.end,
        )
    user, item = (_column(side[0], formula, shape) for side in term.sides)
    if user == item:
        raise OptionError(f"{term.text} has the column {user!r} on both sides; name two")
    return user, item


def _column(field: LatentField, formula: Formula, shape: str) -> str:
    if len(field.expression) == 1 and isinstance(field.expression[0], Name):
        return field.expression[0].name
    raise FormulaError(
        f"family='implicit' takes columns as they are, as {shape}; make one that combines or bins others",
        formula.text,
        field.span.start,
        field.span.end,
    )
