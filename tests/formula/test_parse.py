"""Formula -> terms. The tables are what R 4.2's terms() and lme4 1.1's findbars() say."""

import pytest

from ranef.formula import (
    Binary,
    Call,
    LinearPart,
    Name,
    Number,
    Span,
    Term,
    Text,
    Truth,
    Unary,
    check_columns,
    formula_text,
    label,
    parse,
    term_label,
    variables,
)
from ranef.formula.expand import MOST_TERMS


def fixed(text: str) -> str:
    part = parse(text).fixed
    return " ".join([str(int(part.intercept)), *(term_label(term) for term in part.terms)])


@pytest.mark.parametrize(
    ("right", "terms"),
    [
        # the intercept: the last word wins
        ("1", "1"),
        ("0", "0"),
        ("-1", "0"),
        ("x", "1 x"),
        ("0 + x", "0 x"),
        ("x - 1", "0 x"),
        ("x + -1", "0 x"),
        ("0 + 1", "1"),
        ("-1 + 1", "1"),
        ("1 - 1", "0"),
        ("x - 0", "1 x"),
        ("x - -1", "1 x"),
        ("1 + 0 + x", "0 x"),
        ("x - (z + 1)", "0 x"),
        ("(1 + a) * b", "1 a b a:b"),
        # products
        ("a:b", "1 a:b"),
        ("a*b", "1 a b a:b"),
        ("a*b*c", "1 a b c a:b a:c b:c a:b:c"),
        ("a:a", "1 a"),
        ("a*a", "1 a"),
        ("a + a", "1 a"),
        ("a:b + b:a", "1 a:b"),
        ("a/b", "1 a a:b"),
        ("a/b/c", "1 a a:b a:b:c"),
        ("a/(b + c)", "1 a a:b a:c"),
        ("(a + b)/c", "1 a b a:b:c"),
        ("a %in% b", "1 a:b"),
        ("a + b %in% a", "1 a a:b"),
        ("a %in% (b + c)", "1 a:b:c"),
        ("(a + b) %in% c", "1 a:c b:c"),
        ("b %in% a:c", "1 b:a:c"),
        ("(a + b)^2", "1 a b a:b"),
        ("(a + b)**2", "1 a b a:b"),
        ("(a + b)^1", "1 a b"),
        ("(a + b + c)^2", "1 a b c a:b a:c b:c"),
        ("(a + b + c)^9", "1 a b c a:b a:c b:c a:b:c"),
        ("(a*b)^2", "1 a b a:b"),
        ("a^2", "1 a"),
        # taking away
        ("a*b - a", "1 b a:b"),
        ("a*b - a:b", "1 a b"),
        ("a*b - b:a", "1 a b"),
        ("a*b*c - a:b:c", "1 a b c a:b a:c b:c"),
        ("(a + b + c)^2 - a:b", "1 a b c a:c b:c"),
        ("a - z", "1 a"),
        ("a*b - 1 - a:b + a:b", "0 a b a:b"),
        ("(a - a) + b", "1 b"),
        ("-a:b + b", "1 b"),
        # order: by degree, then by appearance; within a term by the first appearance of the variable
        ("a:b + a", "1 a a:b"),
        ("a + b:a", "1 a a:b"),
        ("b:a + a", "1 a b:a"),
        ("a + b + c + c:a + b:a", "1 a b c a:c a:b"),
        ("c:(b + a)", "1 c:b c:a"),
        ("a + b - b + c:b:a", "1 a a:b:c"),
        ("log(a):b + b", "1 b log(a):b"),
        ("x:y", "1 y:x"),
        # expressions as variables
        ("x > 2", "1 x > 2"),
        ("a:(x > 2)", "1 a:x > 2"),
        ("!x", "1 !x"),
        ("x %% 2", "1 x%%2"),
        ("x %/% 2", "1 x%/%2"),
        ("x & z", "1 x & z"),
        ("I(x^2) + I(x ^ 2)", "1 I(x^2)"),
        ("((x))", "1 x"),
        ("log(x) + log( x )", "1 log(x)"),
        ("`my col` + a.b_c + .d", "1 `my col` a.b_c .d"),
        ("`x`", "1 x"),
        ("größe*温度", "1 größe 温度 größe:温度"),
        ("T + F", "1 T F"),
        ("\n x\n + z\t", "1 x z"),
    ],
)
def test_fixed_part_is_r(right: str, terms: str) -> None:
    assert fixed(f"y ~ {right}") == terms


@pytest.mark.parametrize(
    ("term", "split"),
    [
        ("(1|g)", "(1 | g)"),
        ("(x|g)", "(1 + x | g)"),
        ("(1+x|g)", "(1 + x | g)"),
        ("(0+x|g)", "(0 + x | g)"),
        ("(x-1|g)", "(0 + x | g)"),
        ("((x|g))", "(1 + x | g)"),
        ("(a*b|g)", "(1 + a + b + a:b | g)"),
        ("(log(x) + I(x^2) | g)", "(1 + log(x) + I(x^2) | g)"),
        ("(x > 2 | g)", "(1 + (x > 2) | g)"),
        ("(1|`my g`)", "(1 | `my g`)"),
        # independent terms
        ("(1||g)", "(1 | g)"),
        ("(x||g)", "(1 | g) (0 + x | g)"),
        ("(0+x||g)", "(0 + x | g)"),
        ("(x*z||g)", "(1 | g) (0 + x | g) (0 + z | g) (0 + x:z | g)"),
        ("(1+x||a/b)", "(1 | b:a) (1 | a) (0 + x | b:a) (0 + x | a)"),
        # groups
        ("(1|a:b)", "(1 | a:b)"),
        ("(1|b:a)", "(1 | b:a)"),
        ("(1|a/b)", "(1 | b:a) (1 | a)"),
        ("(1|a/b/c)", "(1 | c:b:a) (1 | b:a) (1 | a)"),
        ("(1|a/(b+c))", "(1 | b:a) (1 | c:a) (1 | a)"),
        ("(1|(a+b)/c)", "(1 | c:a:b) (1 | a) (1 | b)"),
        ("(1|a:b/c)", "(1 | c:a:b) (1 | a:b)"),
        ("(1|a*b)", "(1 | a) (1 | b) (1 | a:b)"),
        ("(x|a+b)", "(1 + x | a) (1 + x | b)"),
        ("(1|a+a)", "(1 | a)"),
        # structures
        ("us(x|g)", "(1 + x | g)"),
        ("diag(x|g)", "diag(1 + x | g)"),
        ("homdiag(0+f|a/b)", "homdiag(0 + f | b:a) homdiag(0 + f | a)"),
        # several
        ("(1|g) + (0+x|g)", "(1 | g) (0 + x | g)"),
        ("(1|g) + (1|g)", "(1 | g)"),
        ("((1|g) + (1|h))", "(1 | g) (1 | h)"),
        ("(1|g) + (1|h) - (1|g)", "(1 | h)"),
    ],
)
def test_random_terms_are_lme4(term: str, split: str) -> None:
    formula = parse(f"y ~ x + {term}")
    assert " ".join(one.text for one in formula.random) == split
    assert [term_label(one) for one in formula.fixed.terms] == ["x"]
    # a term's text is a term
    again = [parse(f"y ~ {one.text}").random for one in formula.random]
    assert again == [(one,) for one in formula.random]


def test_structures() -> None:
    random = parse("y ~ us(x | g) + diag(x | g) + homdiag(x | g) + (x || g)").random
    assert [term.covariance for term in random] == ["full", "diagonal", "identity", "full", "full"]
    assert random[1].group == (Name("g"),)
    assert random[1].effects == LinearPart(True, (Term((Name("x"),)),))


def test_response() -> None:
    def responses(text: str) -> tuple[str, ...] | None:
        response = parse(text).response
        return None if response is None else tuple(label(one) for one in response.expressions)

    assert responses("~ x") is None
    assert responses("y ~ x") == ("y",)
    assert responses("(y) ~ x") == ("y",)
    assert responses("log(y / 2) ~ x") == ("log(y/2)",)
    assert responses("y1 - y2 ~ x") == ("y1 - y2",)
    assert responses("cbind(y, n - y) ~ x") == ("y", "n - y")
    assert responses("y > 3 ~ x") == ("y > 3",)
    assert responses("log(y) ~ y") == ("log(y)",)


def test_offsets() -> None:
    formula = parse("y ~ x + offset(log(n)) + offset(a - b)")
    assert [label(offset) for offset in formula.offsets] == ["log(n)", "a - b"]
    assert fixed(formula.text) == "1 x"
    assert parse("y ~ x + offset(n) - offset(n)").offsets == ()


def test_nodes() -> None:
    x = Name("x")
    term = parse("y ~ bs(x, df = 4, knots = c(1, -2), intercept = T) + C(g, contr.sum) + I(x == 'a')").fixed.terms
    knots = Call("c", (Number(1.0), Unary("-", Number(2.0))))
    assert term[0].factors == (Call("bs", (x,), (("df", Number(4.0)), ("knots", knots), ("intercept", Truth(True)))),)
    assert term[1].factors == (Call("C", (Name("g"), Name("contr.sum"))),)
    assert term[2].factors == (Call("I", (Binary("==", x, Text("a")),)),)


@pytest.mark.parametrize(
    "written",
    [
        "I(x^2)",
        "I(-x)",
        "I(x/2)",
        "I((x/2) * 3)",
        "I((x + 1)/(x - 1))",
        "I(x - (z - 1))",
        "I(-(x * 2))",
        "I((-x)^2)",
        "I(2^-x)",
        "I(x - -z)",
        "I(week > 2)",
        "I(x > 1e+05)",
        "I(x > 123456)",
        "I(x * 1e-05)",
        "I(x * 0.001)",
        "I((x > 2) * z)",
        "I(!(a & b) | a)",
        "I((!a) == b)",
        "I(x%%2 + x%/%2)",
        'I(g == "a\\"b\\\\c\\n")',
        "log(x + 1)",
        "log(x, base = 2)",
        "log(`a b`)",
        "poly(x, 2)",
        "poly(x, 2, raw = TRUE)",
        "bs(x, df = 4)",
        "ns(log(x), knots = c(1, 2.5), intercept = FALSE)",
        "scale(x, center = TRUE, scale = FALSE)",
        'C(x, "sum")',
        "C(x, contr.helmert)",
        'C(x, treatment("b"))',
        "C(x, contr.treatment(base = 2))",
        'C(x, "treatment", base = "b")',
        "as.factor(x)",
        "`if`",
        "`.`",
        "`a\\`b`",
    ],
)
def test_label_is_as_r_writes_it(written: str) -> None:
    (term,) = parse(f"y ~ {written}").fixed.terms
    assert term_label(term) == written
    assert label(term.factors[0]) == written


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (Binary("*", Binary("+", Name("a"), Name("b")), Name("c")), "(a + b) * c"),
        (Binary("-", Name("a"), Binary("-", Name("b"), Name("c"))), "a - (b - c)"),
        (Binary("^", Binary("^", Name("a"), Name("b")), Name("c")), "(a^b)^c"),
        (Binary("^", Name("a"), Binary("^", Name("b"), Name("c"))), "a^b^c"),
        (Binary("<", Binary("<", Name("a"), Name("b")), Name("c")), "(a < b) < c"),
        (Binary("%in%", Name("a"), Name("b")), "a %in% b"),
        (Unary("-", Unary("-", Name("a"))), "--a"),
        (Number(0.0), "0"),
        (Number(0.1), "0.1"),
        (Number(1e15), "1e+15"),
        (Number(1e300), "1e+300"),
        (Truth(False), "FALSE"),
    ],
)
def test_label_puts_the_parentheses_that_are_needed(expression: Binary, text: str) -> None:
    assert label(expression) == text


def test_formula_text() -> None:
    assert formula_text(parse("y~a*b+(x||g)-1+offset(n)")) == "y ~ 0 + a + b + a:b + offset(n) + (1 | g) + (0 + x | g)"
    assert formula_text(parse("y~(1|g)")) == "y ~ 1 + (1 | g)"
    assert formula_text(parse("cbind(s,f)~a:(x>2)")) == "cbind(s, f) ~ a:(x > 2)"
    assert formula_text(parse("~x")) == "~ x"


def test_variables() -> None:
    text = 'log(y) ~ poly(x, 2) + C(f, contr.sum) + x + offset(n) + (z + I(z > w) | `g 1`/h) + C(q, treatment("b"))'
    found = variables(parse(text))
    assert list(found) == ["y", "x", "f", "n", "z", "w", "g 1", "h", "q"]
    assert all(text[span.start : span.end].strip("`") == name for name, span in found.items())
    assert variables(Binary("+", Name("a", Span(2, 3)), Name("a", Span(6, 7)))) == {"a": Span(2, 3)}
    assert "a" not in variables(parse("y ~ a + b - a"))


def test_check_columns_is_silent_when_all_are_there() -> None:
    check_columns(parse("y ~ x + (1 | g)"), {"y": 0, "x": 1, "g": 2, "other": 3})


def test_long_sums_and_many_terms() -> None:
    columns = [f"x{number}" for number in range(5000)]
    formula = parse(f"y ~ {' + '.join(columns)} + ({' + '.join(columns)} | g)")
    assert len(formula.fixed.terms) == len(formula.random[0].effects.terms) == 5000
    assert list(variables(formula))[1:-1] == columns
    assert parse(formula_text(formula)).fixed == formula.fixed
    most = parse(f"y ~ {'*'.join(f'x{number}' for number in range(13))}").fixed.terms
    assert len(most) == 2**13 - 1 <= MOST_TERMS


def test_latent_terms() -> None:
    formula = parse(
        "y ~ latent(user + job, (item + bag(genres, sep=',')) + rw(t), rank=32) + fm(a, b:c, d, rank='auto')"
    )
    first, second = formula.latent
    assert (first.kind, first.rank, second.kind, second.rank) == ("latent", 32, "fm", None)
    assert [len(side) for side in first.sides] == [2, 3]
    bag = Call("bag", (Name("genres"),), (("sep", Text(",")),))
    assert [one.expression for one in first.sides[1]] == [(Name("item"),), (bag,), (Call("rw", (Name("t"),)),)]
    assert [one.expression for side in second.sides for one in side] == [
        (Name("a"),),
        (Name("b"), Name("c")),
        (Name("d"),),
    ]
    assert formula_text(formula) == (
        'y ~ 1 + latent(user + job, item + bag(genres, sep = ",") + rw(t), rank = 32) + fm(a, b:c, d, rank = "auto")'
    )
    assert list(variables(formula)) == ["y", "user", "job", "item", "genres", "t", "a", "b", "c", "d"]
    assert parse("y ~ latent(a, b, rank = 2) + x - latent(a, b, rank=2)").latent == ()


def test_groups_of_bags_and_walks() -> None:
    formula = parse("y ~ (1 | user/rw(month(t))) + (x | bag(genres)) + (1 | bag(history(item, user), scale = 'mean'))")
    assert [term.text for term in formula.random] == [
        "(1 | rw(month(t)):user)",
        "(1 | user)",
        "(1 + x | bag(genres))",
        '(1 | bag(history(item, user), scale = "mean"))',
    ]
    assert list(variables(formula)) == ["y", "user", "t", "x", "genres", "item"]
