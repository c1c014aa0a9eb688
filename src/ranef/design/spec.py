"""What a design has learned, as plain data: enough to compute the same columns on any rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from ranef.design.matrix import INTERCEPT, ModelMatrixSpec, Value
from ranef.design.periods import Period

ResponseKind: TypeAlias = Literal["number", "binary", "proportion", "count", "positive", "ordered", "rating"]


class ResponseSpec(msgspec.Struct, frozen=True):
    """What the model explains.

    Attributes
    ----------
    kind : {"number", "binary", "proportion", "count", "positive", "ordered"}
        What the family takes.
    label : str
        As R writes it: ``log(y)``, ``cbind(a, n - a)``.
    value : Value
        A numeric operation, or the categories of a column; of ``cbind()`` the successes.
    failures : Value or None
        A numeric operation, of ``cbind()`` only.
    levels : tuple of str
        Categories in order, the response's codes: all of an ordered response, failure and success of a column with two
        levels; else empty.
    """

    kind: ResponseKind
    label: str
    value: Value
    failures: Value | None
    levels: tuple[str, ...]


class FieldSpec(msgspec.Struct, frozen=True):
    """A factor: what a row's levels are.

    Attributes
    ----------
    name : str
        ``g``, ``a:b``, ``bag(genres)``, ``rw(week(t))``, ``user:rw(month)``.
    columns : tuple of str
        What is read as factors. Of a bag one column, made from ``source``; of a history the column of its levels and
        that of their owner, whose levels are the units.
    kind : {"factor", "bag", "history", "walk"}
        One level a row; the levels of a list; those that an owner has in the rows of the fit; levels with a place in
        time.
    source : str or None
        Of a bag: the column of lists or of text.
    separator : str
        Between the parts of a text.
    scale : {"sqrt", "mean", "sum"}
        What each of a bag's or history's ``n`` distinct levels weighs: ``1/sqrt(n)``, ``1/n`` or 1; with weights of
        its own, these over the root of the sum of their squares, over their sum, or as they are.
    time : int
        Of a walk: which of the columns is the time.
    weights : str
        Of a bag: what stands between a level and its weight; empty where all levels have the weight one.
    """

    name: str
    columns: tuple[str, ...]
    kind: Literal["factor", "bag", "history", "walk"] = "factor"
    source: str | None = None
    separator: str = "|"
    scale: Literal["sqrt", "mean", "sum"] = "sqrt"
    time: int = -1
    weights: str = ""


class LatentSpec(msgspec.Struct, frozen=True):
    """A latent term: the inner products of all pairs of sides.

    Attributes
    ----------
    text : str
        As in the formula, ``latent(user + bag(genres), item, rank = 8)``.
    sides : tuple of tuples of FieldSpec
    rank : int or None
        None is ``"auto"``.
    """

    text: str
    sides: tuple[tuple[FieldSpec, ...], ...]
    rank: int | None


class TermSpec(msgspec.Struct, frozen=True):
    """One random term of a grouping factor.

    Attributes
    ----------
    text : str
        As in the formula, ``(1 + x | g)``.
    covariance : {"full", "diagonal", "identity"}
    effects : ModelMatrixSpec
        The columns that vary between levels.
    start : int
        Where its coefficients begin among those of the factor.
    """

    text: str
    covariance: Literal["full", "diagonal", "identity"]
    effects: ModelMatrixSpec
    start: int

    @property
    def size(self) -> int:
        return len(self.effects.names)


class GroupSpec(msgspec.Struct, frozen=True):
    """One grouping factor with all its random terms.

    Attributes
    ----------
    name : str
        ``g``, or ``a:b``.
    columns : tuple of str
        The columns whose combinations are its levels.
    terms : tuple of TermSpec
    field : FieldSpec or None
        None for a factor without more structure.
    """

    name: str
    columns: tuple[str, ...]
    terms: tuple[TermSpec, ...]
    field: FieldSpec | None = None

    @property
    def kind(self) -> Literal["factor", "bag", "history", "walk"]:
        return "factor" if self.field is None else self.field.kind

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Names of the coefficients of one level, in order."""
        return tuple(name for term in self.terms for name in term.effects.names)

    @property
    def intercept_only(self) -> bool:
        return self.coefficients == (INTERCEPT,)


class DesignSpec(msgspec.Struct, frozen=True):
    """A compiled formula.

    Attributes
    ----------
    formula : str
        As written; another form could name the columns otherwise.
    response : ResponseSpec
    fixed : ModelMatrixSpec
        All columns, those that were dropped as aliased too; without the intercept where the response is ordered, since
        thresholds take its place.
    groups : tuple of GroupSpec
        By number of levels, largest first, as lme4 orders them.
    offsets : tuple of Value
        Numeric operations, added to the linear predictor.
    weights : str or None
        The column of weights, or a note that they were an array.
    periods : tuple of Period
        Columns that are made from dates; they are read as if they were the data's.
    latent : tuple of LatentSpec
    """

    formula: str
    response: ResponseSpec
    fixed: ModelMatrixSpec
    groups: tuple[GroupSpec, ...]
    offsets: tuple[Value, ...]
    weights: str | None
    periods: tuple[Period, ...] = ()
    latent: tuple[LatentSpec, ...] = ()

    @property
    def kind(self) -> ResponseKind:
        return self.response.kind

    @property
    def response_label(self) -> str:
        return self.response.label

    @property
    def response_levels(self) -> tuple[str, ...]:
        return self.response.levels


def distinct(names: Sequence[str]) -> list[str]:
    """Names with ``.1``, ``.2``, ... added to repetitions."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        again = seen.get(name, 0)
        out.append(f"{name}.{again}" if again else name)
        seen[name] = again + 1
    return out
