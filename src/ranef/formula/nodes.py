"""The nouns of a parsed formula. They know no data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Covariance: TypeAlias = Literal["full", "diagonal", "identity"]


@dataclass(frozen=True)
class Span:
    """Characters ``[start, end)`` of the formula's text."""

    start: int
    end: int


# Spans are for messages only: two expressions that read the same are the same.
_NOWHERE = Span(0, 0)


@dataclass(frozen=True)
class Name:
    """A column."""

    name: str
    span: Span = field(default=_NOWHERE, compare=False)


@dataclass(frozen=True)
class Number:
    value: float
    span: Span = field(default=_NOWHERE, compare=False)


@dataclass(frozen=True)
class Text:
    value: str
    span: Span = field(default=_NOWHERE, compare=False)


@dataclass(frozen=True)
class Truth:
    value: bool
    span: Span = field(default=_NOWHERE, compare=False)


@dataclass(frozen=True)
class Unary:
    """``-x``, ``+x`` or ``!x``."""

    operator: str
    operand: Expression
    span: Span = field(default=_NOWHERE, compare=False)
    brackets: bool = field(default=False, compare=False)  # written in parentheses: R keeps them in names


@dataclass(frozen=True)
class Binary:
    """Arithmetic (``+ - * / ^ %% %/%``), comparison (``== != < <= > >=``) or logic (``& |``)."""

    operator: str
    left: Expression
    right: Expression
    span: Span = field(default=_NOWHERE, compare=False)
    brackets: bool = field(default=False, compare=False)  # as in Unary


@dataclass(frozen=True)
class Call:
    """A column operation: ``log(x)``, ``poly(x, 2)``, ``I(x^2)``, ``C(g, "sum")``; ``c(1, 2)`` as an argument."""

    function: str
    arguments: tuple[Expression, ...] = ()
    keywords: tuple[tuple[str, Expression], ...] = ()
    span: Span = field(default=_NOWHERE, compare=False)


Expression: TypeAlias = Name | Number | Text | Truth | Unary | Binary | Call


@dataclass(frozen=True)
class Term:
    """A product of factors, ``a:b:c``; its order and theirs is R's. The intercept is not a term."""

    factors: tuple[Expression, ...]
    span: Span = field(default=_NOWHERE, compare=False)


@dataclass(frozen=True)
class LinearPart:
    """A sum of terms with or without the intercept: the fixed part, or what stands left of a bar."""

    intercept: bool
    terms: tuple[Term, ...] = ()


@dataclass(frozen=True)
class RandomTerm:
    """``(effects | group)``.

    Attributes
    ----------
    effects : LinearPart
        What varies between the levels of the group.
    group : tuple of Expression
        The grouping factor, a product of columns: ``(Name("batch"),)``, or two for ``a:b``. A column may be a call:
        ``bag(genres)`` stands alone, one of a product may be ``rw(week)``.
    covariance : {"full", "diagonal", "identity"}
        Structure of the covariance among the coefficients of one level.
    text : str
        The term as written, for messages and for ``include=`` / ``exclude=``.
    """

    effects: LinearPart
    group: tuple[Expression, ...]
    covariance: Covariance = "full"
    text: str = ""
    span: Span = field(default=_NOWHERE, compare=False)


@dataclass(frozen=True)
class LatentField:
    """One summand of a latent term's side: levels that each have a vector.

    Attributes
    ----------
    expression : tuple of Expression
        As the group of a `RandomTerm`.
    """

    expression: tuple[Expression, ...]
    span: Span = field(default=_NOWHERE, compare=False)


@dataclass(frozen=True)
class LatentTerm:
    """``latent(a + b, c, rank = k)``, or ``fm(a, b, c, rank = k)``: the inner products of all pairs of sides.

    Attributes
    ----------
    kind : {"latent", "fm"}
        As it was written; ``latent`` has two sides.
    sides : tuple of tuples of LatentField
        Each side is the sum of its fields' vectors.
    rank : int or None
        Numbers in a vector; None is ``"auto"``.
    text : str
        The term in its normal form, for messages and for ``include=`` / ``exclude=``.
    """

    kind: Literal["latent", "fm"]
    sides: tuple[tuple[LatentField, ...], ...]
    rank: int | None
    text: str = ""
    span: Span = field(default=_NOWHERE, compare=False)


@dataclass(frozen=True)
class Response:
    """The left side: one expression, or ``cbind(successes, failures)`` as two."""

    expressions: tuple[Expression, ...]
    span: Span = field(default=_NOWHERE, compare=False)


@dataclass(frozen=True)
class Formula:
    """A whole formula, expanded: every product, nesting and power is written out.

    Attributes
    ----------
    text : str
        As the caller wrote it.
    response : Response or None
        None for a one-sided formula.
    fixed : LinearPart
    random : tuple of RandomTerm
        In the order written; ``||`` and ``a/b`` are already split into several.
    offsets : tuple of Expression
        The arguments of ``offset()``.
    latent : tuple of LatentTerm
    """

    text: str
    response: Response | None
    fixed: LinearPart
    random: tuple[RandomTerm, ...] = ()
    offsets: tuple[Expression, ...] = ()
    latent: tuple[LatentTerm, ...] = ()
