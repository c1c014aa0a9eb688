"""Text -> tokens."""

import pytest

from ranef.errors import FormulaError
from ranef.formula.nodes import Span
from ranef.formula.tokens import tokenize


def kinds(text: str) -> list[tuple[str, str]]:
    return [(token.kind, token.value) for token in tokenize(text)][:-1]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        ("a.b_c1 .x ..2", [("name", "a.b_c1"), ("name", ".x"), ("name", "..2")]),
        ("größe Δt 温度", [("name", "größe"), ("name", "Δt"), ("name", "温度")]),
        ("1 .5 2. 1e6 1E-3 2L", [("number", n) for n in ("1", ".5", "2.", "1e6", "1E-3", "2")]),
        (r""" "a'b" 'c"d' "\n\\\"" """, [("text", "a'b"), ("text", 'c"d'), ("text", '\n\\"')]),
        ("`my col` `a``b`", [("quoted", "my col"), ("quoted", "a"), ("quoted", "b")]),
        (r"`a\`b`", [("quoted", "a`b")]),
        ("x**2", [("name", "x"), ("operator", "^"), ("number", "2")]),
        (
            "a%in%b%%c%/%d",
            [
                ("name", "a"),
                ("operator", "%in%"),
                ("name", "b"),
                ("operator", "%%"),
                ("name", "c"),
                ("operator", "%/%"),
                ("name", "d"),
            ],
        ),
        ("<= < >= > == != = !", [("operator", o) for o in ("<=", "<", ">=", ">", "==", "!=", "=", "!")]),
        ("||| &&&", [("operator", o) for o in ("||", "|", "&&", "&")]),
        ("y\n~\tx", [("name", "y"), ("operator", "~"), ("name", "x")]),
    ],
)
def test_tokens(text: str, tokens: list[tuple[str, str]]) -> None:
    assert kinds(text) == tokens


def test_a_token_knows_its_place() -> None:
    text = "y ~ `a b` + 'c'"
    assert [text[t.span.start : t.span.end] for t in tokenize(text)] == ["y", "~", "`a b`", "+", "'c'", ""]
    assert tokenize(text)[-1].span == Span(len(text), len(text))


@pytest.mark.parametrize(
    ("text", "start", "end", "words"),
    [
        ("y ~ $x", 4, 5, "'$'"),
        ("y ~ x[1]", 5, 6, "'['"),
        ("y ~ 'abc", 4, 5, "quote is never closed"),
        ("y ~ `abc", 4, 5, "backquote is never closed"),
        ("y ~ ``", 4, 6, "no column name"),
        ("y ~ 2x", 4, 6, "backquotes"),
        ("y ~ 1.2.3", 4, 9, "neither a number nor a name"),
        ("y ~ _id", 4, 7, "begins with a letter"),
        ("y ~ a %o% b", 6, 7, "%in%"),
        ("y ~ 'a\\qb'", 6, 8, "escape"),
        ("y ~ I(x > 1e999)", 10, 15, "too large"),
    ],
)
def test_no_token(text: str, start: int, end: int, words: str) -> None:
    with pytest.raises(FormulaError) as caught:
        tokenize(text)
    assert (caught.value.start, caught.value.end) == (start, end)
    assert words in caught.value.problem
