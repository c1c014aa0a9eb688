"""Tokens -> one expression tree for each side of ``~``.

An operator-precedence parser (V. Pratt, Top down operator precedence, 1973) with R's table of operators. The trees use
the expression nodes for everything, also ``|``, ``||``, ``:`` and ``%in%``, which mean nothing to a column.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ranef.errors import FormulaError
from ranef.formula.nodes import Binary, Call, Expression, Name, Number, Span, Text, Truth, Unary
from ranef.formula.operations import LATENT, STRUCTURES
from ranef.formula.tokens import Token, tokenize

COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")

# How tightly an operator binds, as in R: `-a^2` is -(a^2), `-a:b` is (-a):b, `!a == b` is !(a == b).
BINDING = {
    "|": 10,
    "||": 10,
    "&": 20,
    "&&": 20,
    **dict.fromkeys(COMPARISONS, 40),
    "+": 50,
    "-": 50,
    "*": 60,
    "/": 60,
    "%in%": 70,
    "%%": 70,
    "%/%": 70,
    ":": 80,
    "^": 100,
}
PREFIX_BINDING = {"!": 30, "-": 90, "+": 90}

_OF_TERMS = frozenset({"+", "-", "*", "/", ":", "^", "%in%", "|", "||"})

# Deeper than anyone writes, and well inside Python's stack.
_DEEPEST = 100


@dataclass(frozen=True)
class Sides:
    """The two sides of ``~``; ``left`` is None in a one-sided formula."""

    left: Expression | None
    right: Expression


def read(text: str) -> Sides:
    """The trees of a formula's two sides.

    Raises
    ------
    FormulaError
        With the place, wherever the text is not a formula.
    """
    tokens = tokenize(text)
    if len(tokens) == 1:
        raise FormulaError("The formula is empty; write one such as `y ~ x + (1 | group)`.", text)
    tildes = [token.span for token in tokens if token.is_operator("~")]
    if not tildes:
        raise FormulaError("The formula has no `~`; write `response ~ terms`.", text, 0, len(text))
    if len(tildes) > 1:
        raise FormulaError("A formula has one `~`; this is the second.", text, tildes[1].start, tildes[1].end)
    reader = _Reader(text, tokens)
    left = None if reader.next.is_operator("~") else reader.side("~")
    reader.advance()
    return Sides(left, reader.side(None))


class _Reader:
    """The position in the tokens."""

    def __init__(self, text: str, tokens: tuple[Token, ...]):
        self.text, self.tokens = text, tokens
        self.position, self.depth = 0, 0

    @property
    def next(self) -> Token:
        return self.tokens[self.position]

    def advance(self) -> Token:
        token = self.next
        self.position += 1
        return token

    def error(self, problem: str, span: Span) -> FormulaError:
        return FormulaError(problem, self.text, span.start, span.end)

    def side(self, end: str | None) -> Expression:
        """An expression up to ``~`` or, with None, up to the end."""
        tree = self.expression(0)
        if self.next.kind != "end" if end is None else not self.next.is_operator(end):
            raise self.unexpected(None)
        _check_height(tree, self.text, of_terms=end is None)
        return tree

    def expression(self, tightness: int) -> Expression:
        """What binds tighter than ``tightness``."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self.error("The formula is nested too deeply.", self.next.span)
        left = self.operand()
        while self.next.kind == "operator":
            operator = self.next
            binding = BINDING.get(operator.value, 0)
            if binding <= tightness:
                break
            if operator.value in COMPARISONS and _compares(left):
                raise self.error("Comparisons do not chain; join two with `&`.", operator.span)
            self.advance()
            right = self.expression(binding - 1 if operator.value == "^" else binding)
            left = Binary(operator.value, left, right, Span(left.span.start, right.span.end))
        self.depth -= 1
        return left

    def operand(self) -> Expression:
        token = self.next
        if token.is_operator(*PREFIX_BINDING):
            self.advance()
            operand = self.expression(PREFIX_BINDING[token.value])
            return Unary(token.value, operand, Span(token.span.start, operand.span.end))
        if token.is_operator("("):
            return self.parenthesis()
        if token.kind in ("operator", "end"):
            raise self.missing()
        self.advance()
        match token.kind:
            case "number":
                return Number(float(token.value), token.span)
            case "text":
                return Text(token.value, token.span)
            case "quoted":
                return Name(token.value, token.span)
        if self.next.is_operator("("):
            return self.call(token)
        if token.value in ("TRUE", "FALSE"):
            return Truth(token.value == "TRUE", token.span)
        if token.value == ".":
            raise self.error("`.` stands for an old formula, in an update only; name the columns.", token.span)
        return Name(token.value, token.span)

    def parenthesis(self) -> Expression:
        opening = self.advance()
        if self.next.is_operator(")"):
            raise self.error("These parentheses are empty.", Span(opening.span.start, self.next.span.end))
        inner = self.expression(0)
        if not self.next.is_operator(")"):
            raise self.unexpected(opening)
        span = Span(opening.span.start, self.advance().span.end)
        if isinstance(inner, Unary | Binary):
            return replace(inner, span=span, brackets=True)
        return inner

    def call(self, function: Token) -> Call:
        opening = self.advance()
        arguments: list[Expression] = []
        keywords: list[tuple[str, Expression]] = []
        while not self.next.is_operator(")") or arguments or keywords:
            if self.next.kind == "name" and self.tokens[self.position + 1].is_operator("="):
                keyword = self.advance().value
                self.advance()
                keywords.append((keyword, self.expression(0)))
            else:
                arguments.append(self.expression(0))
            if not self.next.is_operator(","):
                break
            self.advance()
        if not self.next.is_operator(")"):
            raise self.unexpected(opening)
        end = self.advance().span.end
        return Call(function.value, tuple(arguments), tuple(keywords), Span(function.span.start, end))

    def missing(self) -> FormulaError:
        """An operand should stand here and does not."""
        before = self.tokens[self.position - 1] if self.position else None
        here = self.next
        if before is None:
            return self.error(f"Nothing stands left of `{here.value}`.", here.span)
        if before.is_operator("~"):
            return self.error("The right side is missing; write `~ 1` for an intercept alone.", before.span)
        if before.is_operator("|", "||"):
            return self.error("The group is missing after the bar; write `(1 | group)`.", before.span)
        if here.is_operator("|", "||") and before.is_operator("("):
            return self.error("Nothing stands left of the bar; write `(1 | group)`.", here.span)
        if before.is_operator(","):
            return self.error("An argument is missing after this comma.", before.span)
        if before.is_operator("(") and here.kind == "end":
            return self.error("This parenthesis is never closed.", before.span)
        if before.is_operator("("):
            return self.error(f"Nothing stands left of `{here.value}`.", here.span)
        return self.error(f"Something is missing after `{before.value}`.", before.span)

    def unexpected(self, opening: Token | None) -> FormulaError:
        """An expression has ended, and what follows does not fit; ``opening`` is the parenthesis around it."""
        here = self.next
        if here.kind == "end" or here.is_operator("~"):
            return self.error("This parenthesis is never closed.", here.span if opening is None else opening.span)
        if here.is_operator(")"):
            return self.error("This parenthesis closes nothing.", here.span)
        if here.is_operator(","):
            return self.error("A comma stands only between the arguments of a call.", here.span)
        if here.is_operator("="):
            return self.error("`=` names an option inside a call; write `==` to compare.", here.span)
        word = self.text[here.span.start : here.span.end]
        return self.error(f"An operator is missing before `{word}`.", here.span)


def _compares(node: Expression) -> bool:
    return isinstance(node, Binary) and node.operator in COMPARISONS and not node.brackets


def _check_height(tree: Expression, text: str, of_terms: bool) -> None:
    """Only a sum of terms may be long: whoever walks it does so without recursion."""
    waiting = [(tree, 0, of_terms)]
    while waiting:
        node, height, of_terms = waiting.pop()
        if height > _DEEPEST:
            raise FormulaError(
                "This expression is too long; make parts of it columns of the data.",
                text,
                node.span.start,
                node.span.end,
            )
        match node:
            case Unary():
                waiting.append((node.operand, height + 1, of_terms and node.operator != "!"))
            case Binary():
                of_terms = of_terms and node.operator in _OF_TERMS
                flat = of_terms and node.operator in ("+", "-")
                waiting.append((node.left, height if flat else height + 1, of_terms))
                waiting.append((node.right, height + 1, of_terms and node.operator not in ("|", "||")))
            case Call():
                of_terms = of_terms and (node.function in STRUCTURES or node.function in LATENT)
                below = (*node.arguments, *(value for _, value in node.keywords))
                waiting.extend((one, height + 1, of_terms) for one in below)
            case _:
                pass
