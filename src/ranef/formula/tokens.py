"""Text -> tokens with positions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ranef.errors import FormulaError
from ranef.formula.nodes import Span

Kind: TypeAlias = Literal["name", "quoted", "number", "text", "operator", "end"]


@dataclass(frozen=True)
class Token:
    """A word of the formula.

    Attributes
    ----------
    kind : {"name", "quoted", "number", "text", "operator", "end"}
        ``quoted`` is a name in backquotes.
    value : str
        What it says: without quotes, escapes resolved; ``**`` is ``^``.
    span : Span
    """

    kind: Kind
    value: str
    span: Span

    def is_operator(self, *values: str) -> bool:
        """It is one of these operators."""
        return self.kind == "operator" and self.value in values


# R's rule for names: a letter, or a dot that no digit follows; then letters, digits, dots and underscores.
NAME = re.compile(r"(?:[^\W\d_]|\.(?![0-9]))[\w.]*")

_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?L?)
    | (?P<name>(?:[^\W\d_]|\.(?![0-9]))[\w.]*)
    | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<quoted>`(?:[^`\\]|\\.)*`)
    | (?P<operator>%in%|%/%|%%|\*\*|\|\||&&|<=|>=|==|!=|[-+*/^:()|,=<>&!~])
    """,
    re.VERBOSE | re.DOTALL,
)
_WORD_GOES_ON = re.compile(r"[\w.]+")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "`": "`"}


def tokenize(text: str) -> tuple[Token, ...]:
    """The tokens of ``text``; the last has kind ``end`` and no width.

    Raises
    ------
    FormulaError
        At a character that no formula holds, an unterminated quote, or a number that runs into a name.
    """
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _unknown(text, position)
        if match.lastgroup != "space":
            tokens.append(_token(text, match))
        position = match.end()
    tokens.append(Token("end", "", Span(len(text), len(text))))
    return tuple(tokens)


def _token(text: str, match: re.Match[str]) -> Token:
    word, span = match.group(), Span(match.start(), match.end())
    match match.lastgroup:
        case "number":
            rest = _WORD_GOES_ON.match(text, span.end)
            if rest is not None:
                whole = text[span.start : rest.end()]
                raise FormulaError(
                    f"`{whole}` is neither a number nor a name; write a column of that name in backquotes.",
                    text,
                    span.start,
                    rest.end(),
                )
            number = word.removesuffix("L")
            if float(number) == float("inf"):
                raise FormulaError("This number is too large.", text, span.start, span.end)
            return Token("number", number, span)
        case "name":
            return Token("name", word, span)
        case "text":
            return Token("text", _unescaped(text, word, span), span)
        case "quoted":
            if len(word) == 2:
                raise FormulaError("There is no column name between these backquotes.", text, span.start, span.end)
            return Token("quoted", _unescaped(text, word, span), span)
        case _:
            return Token("operator", "^" if word == "**" else word, span)


def _unescaped(text: str, word: str, span: Span) -> str:
    def character(match: re.Match[str]) -> str:
        if match.group(1) not in _ESCAPES:
            start = span.start + 1 + match.start()
            raise FormulaError(
                r"Unknown escape; a backslash inside quotes is written `\\`.", text, start, start + len(match.group())
            )
        return _ESCAPES[match.group(1)]

    return _ESCAPE.sub(character, word[1:-1])


def _unknown(text: str, position: int) -> FormulaError:
    character = text[position]
    if character in "\"'`":
        kind = "backquote" if character == "`" else "quote"
        return FormulaError(f"This {kind} is never closed.", text, position, position + 1)
    if character == "_":
        word = _WORD_GOES_ON.match(text, position)
        end = position + 1 if word is None else word.end()
        return FormulaError(
            f"A name begins with a letter or a dot; write `{text[position:end]}` in backquotes.", text, position, end
        )
    if character == "%":
        return FormulaError(
            "Unknown operator; those with percent signs are %in%, %% and %/%.", text, position, position + 1
        )
    return FormulaError(
        f"A formula has no place for the character {character!r}; write a column whose name holds it in backquotes.",
        text,
        position,
        position + 1,
    )
