"""A change to a formula, in which ``.`` stands for what was there."""

from __future__ import annotations

from ranef.errors import FormulaError
from ranef.formula.nodes import Span
from ranef.formula.parsing import parse
from ranef.formula.tokens import Token, tokenize
from ranef.formula.write import formula_text


def update_formula(old: str, change: str) -> str:
    """``old`` after ``change``, as R's ``update``.

    Parameters
    ----------
    old : str
        A formula.
    change : str
        A formula in which ``.`` stands for the same side of ``old``: ``". ~ . + x - z - (1 | g)"``. Without a left side
        it keeps the response.

    Returns
    -------
    str
        The new formula in its normal form.

    Raises
    ------
    FormulaError
        One of the two, or what comes of them, is no formula.
    """
    parse(old)
    if not isinstance(change, str):
        raise FormulaError(f"A change is a text such as '. ~ . + x', not {type(change).__name__}.")
    tokens = tokenize(change)
    tilde = next((token.span for token in tokens if token.is_operator("~")), None)
    if tilde is None:
        raise FormulaError("The change has no `~`; write one such as `. ~ . + x`.", change, 0, len(change))
    middle = next(token.span for token in tokenize(old) if token.is_operator("~"))
    left, right = old[: middle.start].strip(), old[middle.end :].strip()
    parts: list[str] = []
    done = 0
    for index, token in enumerate(tokens):
        if token.kind != "name" or token.value != ".":
            continue
        side = left if token.span.start < tilde.start else right
        if not side:
            raise FormulaError("The old formula has no response.", change, token.span.start, token.span.end)
        parts += [change[done : token.span.start], side if _alone(tokens, index) else f"({side})"]
        done = token.span.end
    parts.append(change[done:])
    kept = left if _starts(tokens, tilde) else ""
    return formula_text(parse(" ".join([kept, "".join(parts)]).strip()))


def _starts(tokens: tuple[Token, ...], tilde: Span) -> bool:
    return tokens[0].span == tilde


def _alone(tokens: tuple[Token, ...], index: int) -> bool:
    """Nothing but a parenthesis, a comma, ``~`` or an end stands on either side."""
    before = index == 0 or tokens[index - 1].is_operator("(", ",", "~")
    after = tokens[index + 1]
    return before and (after.kind == "end" or after.is_operator(")", ",", "~"))
