"""A sum, product, nesting or power of terms -> the terms, as R's ``terms`` finds them.

G. N. Wilkinson and C. E. Rogers, Symbolic description of factorial models for analysis of variance, Applied Statistics
22 (1973), in the reading of R: a term is a set of variables, here the bits of an integer; the order of the variables is
that of their first appearance, also within a term; terms are ordered by degree, then by appearance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ranef.errors import FormulaError
from ranef.formula.columns import columns
from ranef.formula.nodes import Binary, Call, Expression, LinearPart, Number, Span, Term, Text, Truth, Unary
from ranef.formula.operations import LATENT, STRUCTURES, resolve
from ranef.formula.place import error_at
from ranef.formula.write import label

MOST_TERMS = 10_000
_MOST_PRODUCTS = 1_000_000

# A set of variables -> where it was written first. Dicts keep the order of appearance.
Terms = dict[int, Span]

_PRODUCTS = ("*", "/", ":", "%in%", "^")


class Expansion:
    """The variables met so far and the intercept, while one sum of terms is expanded.

    Parameters
    ----------
    text : str
        The formula, for messages.
    first : iterable of Expression
        Variables known before: R counts the response as the first one.
    special : callable
        Told of each bar, ``latent()`` and ``offset()`` with True where it is added and False where it is taken away.
    """

    def __init__(self, text: str, first: Iterable[Expression], special: Callable[[Binary | Call, bool], None]):
        self.text, self.special = text, special
        self.numbers: dict[Expression, int] = {variable: number for number, variable in enumerate(first)}
        self.intercept = True
        self.adding = True
        self.product: str | None = None

    def part(self, tree: Expression) -> LinearPart:
        """``tree`` expanded."""
        terms = self.terms(tree)
        variables = tuple(self.numbers)
        expanded = [
            Term(tuple(variables[number] for number in _bits(term)), span)
            for term, span in sorted(terms.items(), key=lambda item: item[0].bit_count())
        ]
        return LinearPart(self.intercept, tuple(expanded))

    def terms(self, tree: Expression) -> Terms:
        """The terms of a sum, whose left spine may be long."""
        rest: list[Binary] = []
        while isinstance(tree, Binary) and tree.operator in ("+", "-"):
            rest.append(tree)
            tree = tree.left
        terms = dict(self.addend(tree))
        for node in reversed(rest):
            if node.operator == "+":
                _add(terms, self.terms(node.right))
            else:
                self.take_away(terms, node.right)
        return terms

    def take_away(self, terms: Terms, tree: Expression) -> None:
        self.adding = not self.adding
        for term in self.terms(tree):
            terms.pop(term, None)
        self.adding = not self.adding

    def addend(self, node: Expression) -> Terms:
        match node:
            case Number(0.0 | 1.0):
                self.intercept = self.adding == (node.value == 1.0)
                return {}
            case Number():
                raise error_at(
                    "The only numbers that are terms are 1, the intercept, and 0, its absence; "
                    "a known part of the response is a column inside offset().",
                    self.text,
                    node,
                )
            case Text() | Truth():
                raise error_at("A constant is not a term; name a column.", self.text, node)
            case Unary("+"):
                return self.terms(node.operand)
            case Unary("-"):
                terms: Terms = {}
                self.take_away(terms, node.operand)
                return terms
            case Binary() if node.operator in _PRODUCTS:
                return self.expand_product(node)
            case Binary("|" | "||") if not node.brackets:
                raise error_at("A random term stands in parentheses: `(x | group)`.", self.text, node)
            case Binary("|" | "||"):
                return self.stands_alone(node)
            case Call("offset"):
                return self.stands_alone(node)
            case Call() if node.function in STRUCTURES or node.function in LATENT:
                return self.stands_alone(node)
            case _:
                return self.variable(node)

    def stands_alone(self, node: Binary | Call) -> Terms:
        if self.product is not None:
            kind = _kind(node)
            raise error_at(
                f"{kind} cannot be part of `{self.product}`; join it to the others with `+`.", self.text, node
            )
        self.special(node, self.adding)
        return {}

    def variable(self, node: Expression) -> Terms:
        variable = resolve(node, self.text)
        if next(columns(variable), None) is None:
            raise error_at(f"`{label(variable)}` names no column.", self.text, node)
        number = self.numbers.setdefault(variable, len(self.numbers))
        return {1 << number: node.span}

    def expand_product(self, node: Binary) -> Terms:
        outer, self.product = self.product, node.operator
        left = self.factor(node.left, node.operator)
        if node.operator == "^":
            terms = self.power(left, node)
        else:
            right = self.factor(node.right, node.operator)
            match node.operator:
                case ":":
                    terms = self.pairs(left, right, node)
                case "*":
                    terms = dict(left)
                    _add(terms, right)
                    _add(terms, self.pairs(left, right, node))
                case "/":
                    terms = dict(left)
                    _add(terms, self.pairs(_all(left), right, node))
                case _:
                    terms = self.pairs(left, _all(right), node)
        self.product = outer
        return self.limited(terms, node)

    def factor(self, node: Expression, operator: str) -> Terms:
        if isinstance(node, Number):
            raise error_at(
                f"A number cannot be part of `{operator}` between terms; arithmetic stands inside I(), as I(x/2).",
                self.text,
                node,
            )
        return self.terms(node)

    def power(self, base: Terms, node: Binary) -> Terms:
        match node.right:
            case Number(value) if value >= 1 and value == int(value):
                times = int(value)
            case _:
                raise error_at(
                    "The power of a sum of terms is a positive whole number; write a power of a column as I(x^2).",
                    self.text,
                    node.right,
                )
        terms = base
        for _ in range(times - 1):
            before, terms = terms, self.pairs(base, terms, node)
            if len(terms) == len(before):  # every further power is the same
                break
        return terms

    def pairs(self, left: Terms, right: Terms, node: Binary) -> Terms:
        """Every term of ``left`` with every term of ``right``."""
        terms: Terms = {}
        if len(left) * len(right) > _MOST_PRODUCTS:
            raise self.too_many(node)
        for one, here in left.items():
            for other, there in right.items():
                terms.setdefault(one | other, Span(min(here.start, there.start), max(here.end, there.end)))
        return self.limited(terms, node)

    def limited(self, terms: Terms, node: Binary) -> Terms:
        if len(terms) > MOST_TERMS:
            raise self.too_many(node)
        return terms

    def too_many(self, node: Binary) -> FormulaError:
        return error_at(f"This expands to more than {MOST_TERMS:,} terms; write out those you mean.", self.text, node)


def _kind(node: Binary | Call) -> str:
    function = node.function if isinstance(node, Call) else ""
    return "An offset" if function == "offset" else "A latent term" if function in LATENT else "A random term"


def _add(terms: Terms, more: Terms) -> None:
    for term, span in more.items():
        terms.setdefault(term, span)


def _all(terms: Terms) -> Terms:
    """All variables of ``terms`` as one term."""
    union = 0
    for term in terms:
        union |= term
    spans = terms.values()
    return {union: Span(min(s.start for s in spans), max(s.end for s in spans))} if terms else {0: Span(0, 0)}


def _bits(term: int) -> list[int]:
    bits = []
    while term:
        lowest = term & -term
        bits.append(lowest.bit_length() - 1)
        term ^= lowest
    return bits
