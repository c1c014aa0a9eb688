"""Which columns of the data a formula names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from ranef.errors import FormulaError, nearest
from ranef.formula.nodes import Binary, Call, Expression, Formula, LinearPart, Name, Span, Unary
from ranef.formula.operations import column_arguments

_FEW = 12


def columns(expression: Expression) -> Iterator[Name]:
    """Every column that ``expression`` names, left to right, as often as it does."""
    match expression:
        case Name():
            yield expression
        case Unary():
            yield from columns(expression.operand)
        case Binary():
            yield from columns(expression.left)
            yield from columns(expression.right)
        case Call():
            for argument in column_arguments(expression):
                yield from columns(argument)
        case _:
            return


def calls(formula: Formula) -> Iterator[Call]:
    """Every column operation that a formula names, the outer before the inner, wherever it stands."""
    pending = [*_expressions(formula)][::-1]
    while pending:
        match pending.pop():
            case Unary(_, operand):
                pending.append(operand)
            case Binary(_, left, right):
                pending += [right, left]
            case Call() as call:
                yield call
                pending += column_arguments(call)[::-1]


def variables(source: Formula | Expression) -> dict[str, Span]:
    """Every column that a formula or an expression names.

    Parameters
    ----------
    source : Formula or Expression
        Of a formula: response, fixed part, offsets, random effects and groups, latent terms. Terms that were taken away
        do not count.

    Returns
    -------
    dict of str to Span
        Column -> its first place in the text, in the order of the places.
    """
    expressions = _expressions(source) if isinstance(source, Formula) else (source,)
    names = sorted((name for one in expressions for name in columns(one)), key=lambda name: name.span.start)
    found: dict[str, Span] = {}
    for name in names:
        found.setdefault(name.name, name.span)
    return found


def check_columns(formula: Formula, known: Collection[str]) -> None:
    """Every column of ``formula`` is in the data.

    Parameters
    ----------
    formula : Formula
    known : collection of str
        The columns of the data.

    Raises
    ------
    FormulaError
        With carets under the first unknown column, the names nearest to it and, where they are few, all there are.
    """
    for name, span in variables(formula).items():
        if name in known:
            continue
        problem = " ".join([f"The data have no column `{name}`.", *_advice(name, known)])
        raise FormulaError(problem, formula.text, span.start, span.end)


def _advice(name: str, known: Collection[str]) -> Iterator[str]:
    spaced = next((one for one in known if one.strip() == name.strip()), None)
    close = nearest(name, known)
    if spaced is not None:
        yield f"There is '{spaced}': spaces are part of a name; rename the column."
    elif close:
        yield f"Did you mean {' or '.join(f'`{one}`' for one in close)}?"
    # a key is a column of the data and of a table of attributes
    known = list(dict.fromkeys(known))
    if not known:
        yield "There are none."
    elif len(known) <= _FEW:
        yield f"The columns are {', '.join(map(_shown, known))}."
    elif not close:
        yield f"There are {len(known):,} columns, such as {', '.join(map(_shown, list(known)[:_FEW]))}."


def _shown(name: str) -> str:
    return name if name == name.strip() else repr(name)


def _expressions(formula: Formula) -> Iterator[Expression]:
    if formula.response is not None:
        yield from formula.response.expressions
    yield from _factors(formula.fixed)
    yield from formula.offsets
    for term in formula.random:
        yield from _factors(term.effects)
        yield from term.group
    for latent in formula.latent:
        for side in latent.sides:
            for one in side:
                yield from one.expression


def _factors(part: LinearPart) -> Iterable[Expression]:
    return (factor for term in part.terms for factor in term.factors)
