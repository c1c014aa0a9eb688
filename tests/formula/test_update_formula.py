"""Old formula and change -> new formula."""

import pytest

from ranef.errors import FormulaError
from ranef.formula import update_formula


@pytest.mark.parametrize(
    ("old", "change", "new"),
    [
        ("y ~ x", ". ~ .", "y ~ x"),
        ("y ~ x", ". ~ . + z", "y ~ x + z"),
        ("y ~ x + z", ". ~ . - z", "y ~ x"),
        ("y ~ x + z", ". ~ . - x - z", "y ~ 1"),
        ("y ~ x", "~ . + z", "y ~ x + z"),
        ("y ~ x", ". ~ . - 1", "y ~ 0 + x"),
        ("y ~ 0 + x", ". ~ . + 1", "y ~ x"),
        ("y ~ x + z", ". ~ .^2", "y ~ x + z + x:z"),
        ("y ~ x + z", ". ~ .:w", "y ~ x:w + z:w"),
        ("y ~ x", "w ~ .", "w ~ x"),
        ("y ~ x", "log(.) ~ .", "log(y) ~ x"),
        ("y/2 ~ x", "log(.) ~ .", "log(y/2) ~ x"),
        ("y + 1 ~ x", ". * 2 ~ .", "(y + 1) * 2 ~ x"),
        ("cbind(s, f) ~ x", ". ~ 1", "cbind(s, f) ~ 1"),
        ("~ x", "~ . + z", "~ x + z"),
        ("~ x", "y ~ . + z", "y ~ x + z"),
        ("y ~ x + (1 | g)", ". ~ . + z", "y ~ x + z + (1 | g)"),
        ("y ~ x", ". ~ . + (x || g)", "y ~ x + (1 | g) + (0 + x | g)"),
        ("y ~ x + (1|g) + (1|h)", ". ~ . - (1 | g)", "y ~ x + (1 | h)"),
        ("y ~ x + (1|a/b)", ". ~ . - (1|a/b) + (1|b)", "y ~ x + (1 | b)"),
        ("y ~ x + (x||g)", ". ~ . - (0 + x | g)", "y ~ x + (1 | g)"),
        ("y ~ x + offset(n)", ". ~ . - offset(n)", "y ~ x"),
        ("y ~ `.`", ". ~ . + `.`", "y ~ `.`"),
    ],
)
def test_update(old: str, change: str, new: str) -> None:
    assert update_formula(old, change) == new


@pytest.mark.parametrize(
    ("old", "change", "words"),
    [
        ("y ~ x + (1 | g)", ". ~ . - (1 | h)", r"No random term \(1 \| h\).*there are \(1 \| g\)"),
        ("~ x", ". ~ z", "no response"),
        ("y ~ x", ". + z", "no `~`"),
        ("y ~ .", ". ~ z", "name the columns"),
        ("y ~ x", ". ~ . + lgo(z)", "not a column operation"),
        ("y ~ x", None, "NoneType"),
        ("y ~ x", "", "no `~`"),
    ],
)
def test_wrong_update(old: str, change: str, words: str) -> None:
    with pytest.raises(FormulaError, match=words):
        update_formula(old, change)
