"""What holds for every formula."""

from __future__ import annotations

import contextlib

import formulaic
from hypothesis import given, settings
from hypothesis import strategies as st

from ranef.errors import FormulaError
from ranef.formula import Expression, formula_text, label, parse, term_label, update_formula, variables

names = st.sampled_from(["a", "b", "c", "d"])


def sums(leaves: st.SearchStrategy[str], operators: list[str]) -> st.SearchStrategy[str]:
    """Random formulas over ``leaves``, every operation in parentheses."""
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from(operators), inner).map(lambda parts: f"({' '.join(parts)})"),
            st.tuples(inner, st.sampled_from(["2", "3"])).map(lambda parts: f"({parts[0]})^{parts[1]}"),
        ),
        max_leaves=6,
    )


arithmetic = st.recursive(
    st.one_of(st.sampled_from(["x", "z", "`a b`"]), st.floats(0, 1e12).map(repr), st.integers(0, 10**7).map(str)),
    lambda inner: st.one_of(
        st.tuples(
            inner, st.sampled_from(["+", "-", "*", "/", "^", "%%", "%/%", "<", "==", "&", "|"]), inner, st.booleans()
        ).map(lambda parts: f"({' '.join(parts[:3])})" if parts[3] else " ".join(parts[:3])),
        st.tuples(st.sampled_from(["-", "+", "!", "log", "sqrt"]), inner).map(lambda parts: f"{parts[0]}({parts[1]})"),
        st.tuples(st.sampled_from(["-", "!"]), inner).map("".join),
    ),
    max_leaves=8,
)

FIXED = ["a", "b:a", "a*b", "(a + b)/c", "(a+b+c)^2 - a:b", "-1", "0", "`my col`", "offset(log(n))"]
VARIABLES = ["I(x^2 - 1)", "poly(x, 2)", "C(a, 'sum')", "(x > 2)", "a:(x > 2)", "(!q)"]
RANDOM = ["(x | g)", "(x || g)", "(1 | g/h)", "diag(a*x | g:h)"]
FIELDS = ["(1 | bag(t, sep = ','))", "(x | g:rw(t))", "(1 | rw(t)/g)", "(1 | bag(history(a, g), scale = 'sum'))"]
LATENT = [
    "latent(a, b, rank = 2)",
    "latent(a + b:c + bag(t), rw(h), rank = 'auto')",
    "fm(a + bag(history(b)), c, d, rank=1)",
]
pieces = st.sampled_from([*FIXED, *VARIABLES, *RANDOM, *FIELDS, *LATENT])

SIGNS = ["~", "+", "-", "*", "/", ":", "^", "%in%", "(", ")", "|", "||", "|", ",", "=", "==", ">", "!", "&"]
CALLS = ["I(", "log(", "poly(", "offset(", "diag(", "cbind(", "c(", "C(", "bag(", "history(", "rw(", "latent(", "fm("]
words = st.sampled_from(["y", "x", "g", "`b c`", "1", "0", "2", ".", "'a'", "T", "TRUE", *SIGNS, *CALLS])


@given(st.lists(pieces, min_size=1, max_size=6))
def test_the_normal_form_is_a_fixed_point(parts: list[str]) -> None:
    formula = parse("y ~ " + " + ".join(parts))
    once = parse(formula_text(formula))
    twice = parse(formula_text(once))
    assert twice.fixed == once.fixed
    assert twice.random == once.random
    assert twice.latent == once.latent == formula.latent
    assert twice.offsets == once.offsets == formula.offsets
    assert formula_text(twice) == formula_text(once)
    # the first normal form may only reorder the factors of interactions
    assert [set(term.factors) for term in once.fixed.terms] == [set(term.factors) for term in formula.fixed.terms]
    assert once.fixed.intercept == formula.fixed.intercept
    assert len(once.random) == len(formula.random)
    assert update_formula(formula.text, ". ~ .") == formula_text(formula)


@given(st.one_of(st.text(max_size=40), st.lists(words, max_size=15).map(" ".join)))
@settings(max_examples=400)
def test_any_text_is_a_formula_or_a_formula_error(text: str) -> None:
    for source in (text, f"y ~ {text}"):
        with contextlib.suppress(FormulaError):
            formula = parse(source)
            again = parse(formula_text(formula))
            assert variables(again).keys() == variables(formula).keys()
        with contextlib.suppress(FormulaError):
            update_formula("y ~ x + (1 | g)", source)


@given(arithmetic)
def test_a_label_reads_back_as_what_it_names(text: str) -> None:
    def inside(written: str) -> Expression:
        return parse(f"y ~ I({written}) + x").fixed.terms[0].factors[0]

    with contextlib.suppress(FormulaError):  # chains of comparisons, no column
        expression = inside(text)
        written = label(expression)
        again = parse(f"y ~ {written} + x").fixed.terms[0].factors[0]
        assert again == expression
        assert label(again) == written


@given(
    sums(names, ["+", "*", ":", "-"]), st.sampled_from(["", "0 + ", "1 + "]), st.sampled_from(["", " - a", " - a:b"])
)
@settings(deadline=None)
def test_expansion_is_formulaics(right: str, first: str, last: str) -> None:
    text = f"{first}{right}{last}"
    part = parse(f"y ~ {text}").fixed
    ours = {frozenset(term_label(term).split(":")) for term in part.terms}
    theirs = {frozenset(str(term).split(":")) for term in formulaic.Formula(text)}
    assert ours == {term for term in theirs if term not in ({"1"}, {"0"})}
    assert part.intercept == ({"1"} in theirs)
    degrees = [len(term.factors) for term in part.terms]
    assert degrees == sorted(degrees)


@given(st.permutations(["a", "b", "c"]))
def test_nesting_is_formulaics(columns: list[str]) -> None:
    a, b, c = columns
    for text in (f"{a}/{b}", f"({a} + {b})/{c}", f"{a}/({b} + {c})"):
        ours = {frozenset(term_label(term).split(":")) for term in parse(f"~ {text}").fixed.terms}
        theirs = {frozenset(str(term).split(":")) for term in formulaic.Formula(text)} - {frozenset({"1"})}
        assert ours == theirs
