"""Text -> Formula."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

from ranef.errors import FormulaError
from ranef.formula.columns import columns
from ranef.formula.expand import Expansion
from ranef.formula.grammar import read
from ranef.formula.latent import latent_term
from ranef.formula.nodes import (
    Binary,
    Call,
    Expression,
    Formula,
    LatentTerm,
    LinearPart,
    Number,
    RandomTerm,
    Response,
)
from ranef.formula.operations import LATENT, resolve
from ranef.formula.place import error_at
from ranef.formula.random import random_terms
from ranef.formula.write import label

Bars = TypeVar("Bars", RandomTerm, LatentTerm)


def parse(text: str) -> Formula:
    """The formula that ``text`` says, in the language of lme4.

    Parameters
    ----------
    text : str
        Such as ``"y ~ 1 + x + (1 + x | g)"``; ``"~ x"`` has no response. Line breaks and spaces are free.

    Returns
    -------
    Formula
        Expanded: products, nestings, powers and ``||`` are written out and what is named twice stands once.

    Raises
    ------
    FormulaError
        Whatever is wrong, with its place in the text.

    Notes
    -----
    The fixed part and the effects left of a bar are expanded as by R's ``terms``; ``||`` and nested groups as by lme4;
    ``us()``, ``diag()`` and ``homdiag()`` around a random term are glmmTMB's. ``latent()`` and ``fm()`` are ranef's.
    """
    if not isinstance(text, str):
        raise FormulaError(f"A formula is a text such as 'y ~ x + (1 | group)', not {type(text).__name__}.")
    sides = read(text)
    response = None if sides.left is None else _response(sides.left, text)
    # Dicts, because an added term can be taken away again and one that is named twice stands once.
    random: dict[RandomTerm, None] = {}
    latent: dict[LatentTerm, None] = {}
    offsets: dict[Expression, None] = {}

    def special(node: Binary | Call, adding: bool) -> None:
        if isinstance(node, Call) and node.function == "offset":
            _change_offsets(offsets, node, adding, text)
        elif isinstance(node, Call) and node.function in LATENT:
            _change_terms(latent, (latent_term(node, text),), node, adding, text)
        else:
            _change_terms(random, random_terms(node, text), node, adding, text)

    known = response.expressions if response is not None and len(response.expressions) == 1 else ()
    fixed = Expansion(text, known, special).part(sides.right)
    if response is not None:
        _refuse_constant(response, latent, text)
    _refuse_response(fixed, tuple(random), tuple(latent), known, text)
    return Formula(text, response, fixed, tuple(random), tuple(offsets), tuple(latent))


def _response(node: Expression, text: str) -> Response:
    expressions: tuple[Expression, ...]
    match node:
        case Call("cbind", (successes, failures), ()):
            expressions = (resolve(successes, text), resolve(failures, text))
        case Call("cbind"):
            raise error_at("The left side cbind() has two parts: cbind(successes, failures).", text, node)
        case Call("offset"):
            raise error_at("offset() belongs to the right side.", text, node)
        case Binary("|" | "||"):
            raise error_at("A random term belongs to the right side.", text, node)
        case _:
            expressions = (resolve(node, text),)
    return Response(expressions, node.span)


def _refuse_constant(response: Response, latent: Collection[LatentTerm], text: str) -> None:
    """A left side names a column; but beside latent() it may be 1, for pairs that are observed or not."""
    for expression in response.expressions:
        if next(columns(expression), None) is None and not (latent and expression == Number(1.0)):
            raise error_at(f"The response `{label(expression)}` names no column.", text, expression)


def _refuse_response(
    fixed: LinearPart,
    random: tuple[RandomTerm, ...],
    latent: tuple[LatentTerm, ...],
    known: tuple[Expression, ...],
    text: str,
) -> None:
    if not known:
        return
    problem = f"The response `{label(known[0])}` is also a term of the right side; a response does not explain itself."
    for part in (fixed, *(one.effects for one in random)):
        for term in part.terms:
            if term.factors == known:
                raise FormulaError(problem, text, term.span.start, term.span.end)
    for one in random:
        if known[0] in _inside(one.group):
            raise FormulaError(problem, text, one.span.start, one.span.end)
    for summand in (summand for term in latent for side in term.sides for summand in side):
        if known[0] in _inside(summand.expression):
            raise FormulaError(problem, text, summand.span.start, summand.span.end)


def _inside(factors: tuple[Expression, ...]) -> tuple[Expression, ...]:
    """The factors, and the columns that they name."""
    return (*factors, *(column for factor in factors for column in columns(factor)))


def _change_offsets(offsets: dict[Expression, None], node: Call, adding: bool, text: str) -> None:
    if len(node.arguments) != 1 or node.keywords:
        raise error_at("offset() takes one column or one expression of columns.", text, node)
    offset = resolve(node.arguments[0], text)
    if next(columns(offset), None) is None:
        raise error_at("This offset names no column.", text, node)
    if adding:
        offsets.setdefault(offset)
    else:
        offsets.pop(offset, None)


def _change_terms(
    terms: dict[Bars, None], changed: tuple[Bars, ...], node: Binary | Call, adding: bool, text: str
) -> None:
    for term in changed:
        if adding:
            terms.setdefault(term)
        elif term in terms:
            del terms[term]
        else:
            kind = "latent" if isinstance(term, LatentTerm) else "random"
            there = f"there are {', '.join(one.text for one in terms)}" if terms else "there is none"
            raise error_at(f"No {kind} term {term.text} stands before this; {there}.", text, node)
