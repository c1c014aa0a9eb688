"""Wrong formula -> the place and the words of the error."""

import pytest

from ranef.errors import FormulaError
from ranef.formula import check_columns, parse

# The mark ‹ › is around the characters that the carets show.
WRONG = [
    # nothing there
    ("‹y + x›", "no `~`"),
    ("y ‹~›", "right side is missing"),
    ("y ~ x ‹~› z", "one `~`"),
    # parentheses
    ("y ~ x + ‹(›1 | g", "never closed"),
    ("y ~ ‹(›x + z", "never closed"),
    ("y ~ log‹(›x", "never closed"),
    ("y ~ log‹(›(x) + z", "never closed"),
    ("y ~ x + ‹(›", "never closed"),
    ("‹(›y ~ x)", "never closed"),
    ("y ~ x‹)›", "closes nothing"),
    ("y‹)› ~ x", "closes nothing"),
    ("y ~ ‹()›", "empty"),
    # operands and operators
    ("y ~ x ‹+›", "missing after `+`"),
    ("y ~ x ‹+› * z", "missing after `+`"),
    ("y ~ x:‹(›", "never closed"),
    ("‹+› ~ x", "missing after `+`"),
    ("‹*› y ~ x", "left of `*`"),
    ("y ~ x ‹z›", "operator is missing before `z`"),
    ("y ~ x ‹`a b`›", "operator is missing before ``a b``"),
    ("y ~ x‹,› z", "comma"),
    ("y ~ log(x‹,›)", "argument is missing"),
    ("y ~ x ‹=› 2", "`==`"),
    ("y ‹=› x ~ 1", "`==`"),
    ("y ~ I(x < 2 ‹<› 3)", "do not chain"),
    # bars
    ("y ~ (1 ‹|›)", "group is missing"),
    ("y ~ (1 ‹||›)", "group is missing"),
    ("y ~ (‹|› g)", "left of the bar"),
    ("y ~ ‹x + 1 | g›", "stands in parentheses"),
    ("y ~ ‹x || g›", "stands in parentheses"),
    ("y ~ (‹1 | g› | h)", "second bar"),
    ("y ~ (1 | ‹(g | h)›)", "second bar"),
    ("y ~ (x + ‹(1 | h)› | g)", "second bar"),
    ("y ~ (‹offset(n)› | g)", "offset cannot stand inside"),
    ("y ~ x * ‹(1 | g)›", "cannot be part of `*`"),
    ("y ~ x:(z + ‹(1 | g)›)", "cannot be part of `:`"),
    ("y ~ (x + ‹(1 | g)›)^2", "cannot be part of `^`"),
    ("y ~ ‹(0 | g)›", "Nothing varies"),
    ("y ~ (1 | ‹log(g)›)", "add a column to the table"),
    ("y ~ (1 | ‹1›)", "add a column to the table"),
    ("y ~ (1 | ‹'g'›)", "add a column to the table"),
    ("y ~ (1 | a:‹factor(b)›)", "add a column to the table"),
    ("y ~ (1 | ‹a - b›)", "add a column to the table"),
    ("y ~ (1 | ‹a*b*c*d*e*f*h›*i)", "more than 100 grouping factors"),
    ("y ~ ‹diag(x || g)›", "both choose"),
    ("y ~ ‹us(x)›", "one random term"),
    ("y ~ I(‹diag(x | g)›)", "stands alone"),
    ("y ~ x - ‹(1 | g)›", "there is none"),
    ("y ~ (1 | g) - ‹(x | g)›", "there are (1 | g)"),
    ("y ~ ‹x (1 | g)›", "put `+` between"),
    ("‹(1 | g)› ~ x", "right side"),
    # constants
    ("y ~ ‹2›", "only numbers that are terms"),
    ("y ~ x + ‹3›", "only numbers that are terms"),
    ("y ~ x/‹10›", "inside I()"),
    ("y ~ x*‹2›", "inside I()"),
    ("y ~ ‹1›:x", "inside I()"),
    ("y ~ (a + b)^‹0›", "positive whole number"),
    ("y ~ (a + b)^‹1.5›", "positive whole number"),
    ("y ~ (a + b)^‹-1›", "positive whole number"),
    ("y ~ (a + b)^‹k›", "positive whole number"),
    ("y ~ ‹'x'›", "not a term"),
    ("y ~ ‹TRUE›", "not a term"),
    ("y ~ ‹log(2)›", "names no column"),
    ("y ~ ‹offset(2)›", "names no column"),
    ("‹1› ~ x", "names no column"),
    ("y ~ x + ‹y›", "also a term of the right side"),
    # functions
    ("y ~ ‹lgo(x)›", "Did you mean log"),
    ("y ~ ‹sin(x)›", "The operations are I, log"),
    # bags, walks and latent terms
    ("y ~ ‹rw(week)›", "stands right of a bar"),
    ("y ~ x:‹bag(genres)›", "stands right of a bar"),
    ("y ~ ‹history(item, user)›", "inside bag()"),
    ("y ~ log(‹latent(a, b, rank = 2)›)", "stands alone"),
    ("y ~ x * ‹latent(a, b, rank = 2)›", "latent term cannot be part of `*`"),
    ("y ~ (‹fm(a, b, rank = 2)› | g)", "latent term cannot stand inside"),
    ("y ~ (1 | ‹history(item, user)›)", "inside bag(): bag(history(item, user))"),
    ("y ~ (1 | a:‹bag(g)›)", "part of a product"),
    ("y ~ (1 | ‹bag(g)›/a)", "part of a product"),
    ("y ~ (1 | rw(a):‹rw(b)›)", "one time"),
    ("y ~ (1 | rw(‹log(t)›))", "place in time"),
    ("y ~ (1 | rw(t, ‹2›))", "one column and nothing else"),
    ("y ~ (1 | ‹rw()›)", "needs a column"),
    ("y ~ (1 | bag(‹a + b›))", "lists or of delimited text"),
    ("y ~ (1 | bag(g, ‹','›))", "its options are named: sep, scale, weights"),
    ("y ~ (1 | bag(g, sep = ‹''›))", "text between two levels"),
    ("y ~ (1 | bag(g, scale = ‹'root'›))", "1/sqrt(n)"),
    ("y ~ (1 | bag(g, weights = ‹2›))", "between a level and its weight"),
    ("y ~ (1 | bag(history(item, user), sep = ‹'|'›))", "no text to separate"),
    ("y ~ (1 | bag(‹history(item)›))", "Whose history"),
    ("y ~ latent(user + job, bag(‹history(item)›), rank = 2)", "Whose history"),
    ("y ~ latent(user, item + bag(‹history(item)›), rank = 2)", "one column for another"),
    ("y ~ (1 | bag(‹history(item, item)›))", "one column for another"),
    ("y ~ (1 | bag(history(‹f(item)›, user)))", "history() holds columns"),
    ("y ~ ‹latent(a, rank = 2)›", "two sides or more"),
    ("y ~ latent(a, b, ‹d›, rank = 2)", "write fm()"),
    ("y ~ ‹latent(a, b)›", "needs a rank"),
    ("y ~ (1 | g) + ‹fm(a, b)›", "fm() needs a rank"),
    ("y ~ latent(a, b, rank = ‹0›)", "from 1 to 1,024"),
    ("y ~ latent(a, b, rank = ‹2.5›)", "from 1 to 1,024"),
    ("y ~ latent(a, b, rank = ‹k›)", '"auto"'),
    ("y ~ latent(a, b, size = ‹2›)", "no option `size`; its options are rank"),
    ("y ~ latent(a + ‹1›, b, rank = 2)", "have no vectors"),
    ("y ~ latent(‹a*b›, c, rank = 2)", "have no vectors"),
    ("y ~ latent(a + b, c + ‹a›, rank = 2)", "on another side of this term too"),
    ("y ~ latent(a:b + ‹b:a›, c, rank = 2)", "twice on this side"),
    ("y ~ latent(a, ‹y›, rank = 2)", "also a term of the right side"),
    ("y ~ ‹(1 | rw(y))›", "also a term of the right side"),
    ("y ~ x - ‹latent(a, b, rank = 2)›", "No latent term latent(a, b, rank = 2) stands before this; there is none"),
    ("‹latent(a, b, rank = 2)› ~ x", "stands alone"),
    ("y ~ ‹cbind(a, b)›", "left side only"),
    ("‹cbind(a)› ~ x", "two parts"),
    ("‹cbind(a, b, d)› ~ x", "two parts"),
    ("‹offset(y)› ~ x", "right side"),
    ("y ~ x:‹offset(n)›", "cannot be part of `:`"),
    ("y ~ log(‹offset(n)›)", "stands alone"),
    ("y ~ ‹offset(a, b)›", "one column"),
    ("y ~ ‹c(a, b)›", "list of constants"),
    ("y ~ ‹log()›", "needs a column"),
    ("y ~ ‹poly(degree = 2)›", "comes first"),
    ("y ~ I(x, ‹2›)", "one column and nothing else"),
    ("y ~ poly(x, 2, TRUE, ‹3›)", "at most degree, raw"),
    ("y ~ poly(x, deg = ‹2›)", "no option `deg`; its options are degree, raw"),
    ("y ~ sqrt(x, base = ‹2›)", "it has none"),
    ("y ~ poly(x, 2, degree = ‹3›)", "twice"),
    ("y ~ poly(x, ‹z›)", "must be a constant"),
    ("y ~ bs(x, knots = c(1, ‹k›))", "must be a constant"),
    ("y ~ C(x, ‹wrong›)", "contrasts of C() are treatment"),
    ("y ~ C(x, ‹treatment(1, 2)›)", "base level only"),
    ("y ~ I(‹a:b›)", "makes interactions"),
    ("y ~ I(‹x %in% c(1, 2)›)", "compare with `==`"),
    ("y ~ I(‹a || b›)", "logical or"),
    ("y ~ I(‹a && b›)", "logical and"),
    # the dot, depth and size
    ("y ~ ‹.›", "name the columns"),
    ("‹.› ~ x", "name the columns"),
    ("y ~ ‹" + "*".join(f"x{number}" for number in range(14)) + "›", "more than 10,000 terms"),
    ("y ~ ‹(" + "+".join(f"x{number}" for number in range(200)) + ")^2›", "more than 10,000 terms"),
]


@pytest.mark.parametrize(("marked", "words"), WRONG)
def test_wrong_formula(marked: str, words: str) -> None:
    start, end = marked.index("‹"), marked.index("›") - 1
    text = marked.replace("‹", "").replace("›", "")
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert words in caught.value.problem
    assert (caught.value.start, caught.value.end) == (start, end)
    assert caught.value.formula == text
    assert text in str(caught.value)
    assert "^" in str(caught.value)


@pytest.mark.parametrize("text", ["", "  \n ", None, 3, b"y ~ x", ["y ~ x"]])
def test_no_text(text: object) -> None:
    with pytest.raises(FormulaError, match=r"y ~ x \+ \(1 \| group\)|y ~ x"):
        parse(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "y ~ " + "(" * 5000 + "x" + ")" * 5000,
        "y ~ " + "(" * 5000,
        "y ~ " + "-" * 5000 + "x",
        "y ~ " + "log(" * 5000 + "x" + ")" * 5000,
        "y ~ x" + "^x" * 5000,
        "y ~ x" + ":x" * 5000,
        "y ~ I(x" + " + x" * 5000 + ")",
        "y" + " + y" * 5000 + " ~ x",
        "y ~ (1 | g" + "/g" * 5000 + ")",
        "y ~ (1 | g" + "+g" * 5000 + ")",
        "y ~ (x" + " + x" * 5000 + ") > 2",
        "y ~ !(x" + " + x" * 5000 + ")",
        "y ~ offset(x" + " + x" * 5000 + ")",
    ],
)
def test_too_deep(text: str) -> None:
    with pytest.raises(FormulaError, match=r"too deeply|too long"):
        parse(text)


def test_carets_point_into_the_right_line() -> None:
    with pytest.raises(FormulaError) as caught:
        parse("y ~ x +\n  lgo(z) +\n  (1 | g)")
    assert str(caught.value).splitlines()[-2:] == ["      lgo(z) +", "      ^^^^^^"]


def test_unknown_column() -> None:
    formula = parse("rating ~ agee + (1 + genre | user)")
    with pytest.raises(FormulaError, match=r"no column `agee`\. Did you mean `age`") as caught:
        check_columns(formula, ["rating", "age", "genre", "user"])
    assert (caught.value.start, caught.value.end) == (9, 13)
    with pytest.raises(FormulaError, match=r"no column `genre`.* The columns are rating, agee, user, q\."):
        check_columns(formula, ["rating", "agee", "user", "q"])
    with pytest.raises(FormulaError, match=r"There are 30 columns, such as c0, c1, .*, c11\."):
        check_columns(formula, [f"c{number}" for number in range(30)])
    with pytest.raises(FormulaError, match="There are none"):
        check_columns(formula, [])
