"""Bags, histories and walks on the rows of a table, and the sides of latent terms."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from ranef.design.build import Design, build_design
from ranef.design.fields import bag_membership
from ranef.errors import DataError, FormulaError
from ranef.formula import parse
from ranef.table import Levels, open_source

DATA = {
    "y": [1.0, 2.5, 0.3, 4.0, 2.2, 1.7],
    "user": ["u", "v", "u", "w", "v", "u"],
    "item": [7, 7, 5, 5, 9, 7],
    "genres": ["drama|comedy", "comedy", "crime | drama", "", "comedy|drama", "drama|drama|crime"],
    "week": [3.0, 1.0, 1.0, 4.0, 8.0, 3.0],
    "text": ["a", "b", "a", "b", "a", "b"],
}


def design(formula: str, data: object = DATA) -> Design:
    return build_design(parse(formula), open_source(data))


def weights(membership, levels: int) -> np.ndarray:
    """The sparse matrix, dense."""
    out = np.zeros((membership.units, levels))
    for unit in range(membership.units):
        members = slice(membership.start[unit], membership.start[unit + 1])
        np.add.at(out[unit], membership.level[members], membership.weight[members])
    return out


@pytest.mark.parametrize(("scale", "power"), [("sqrt", 0.5), ("mean", 1.0), ("sum", 0.0)])
def test_bag_of_delimited_text(scale: str, power: float) -> None:
    made = design(f"y ~ (1 | bag(genres, scale = '{scale}'))")
    (group,), (spec,) = made.groups, made.spec.groups
    assert (spec.name, spec.kind, spec.field.source) == ("bag(genres)", "bag", "genres")
    assert group.levels.labels == ("comedy", "crime", "drama")
    assert group.membership.units == 5  # comedy|drama is drama|comedy
    counts = np.array([[1, 0, 1], [1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 0, 1], [0, 1, 2]], float)
    total = np.linalg.norm(counts, axis=1) if scale == "sqrt" else counts.sum(axis=1) ** power
    expected = np.divide(counts, total[:, None], out=np.zeros_like(counts), where=total[:, None] > 0)
    np.testing.assert_allclose(weights(group.membership, 3)[group.codes], expected)
    assert "bag(genres)" not in made.column_levels


@pytest.mark.parametrize(("scale", "norm"), [("sqrt", 2), ("mean", 1), ("sum", None)])
def test_bags_with_weights_of_their_own(scale: str, norm: int | None) -> None:
    bags = ["drama:2|comedy:0.5", "comedy", "crime : 3| drama", "", "drama:1|drama:1", "drama:2|comedy:0.5"]
    made = design(f"y ~ (1 | bag(genres, scale = '{scale}', weights = ':'))", {**DATA, "genres": bags})
    (group,) = made.groups
    assert group.levels.labels == ("comedy", "crime", "drama")
    own = np.array([[0.5, 0, 2], [1, 0, 0], [0, 3, 1], [0, 0, 0], [0, 0, 2], [0.5, 0, 2]])
    size = np.ones(6) if norm is None else np.maximum(np.linalg.norm(own, norm, axis=1), 1e-300)
    np.testing.assert_allclose(weights(group.membership, 3)[group.codes], own / size[:, None])
    # a level is known by its name, whatever its weight
    made = design("y ~ (1 | bag(genres, weights = ':'))", {**DATA, "genres": bags})
    _, membership = bag_membership(made.spec.groups[0].field, Levels(pa.array(["drama:7", "opera:2"])), group.levels)
    assert membership.level.tolist() == [2, -2]
    for wrong in ("drama:x", "drama:-1", "drama:0", ":2"):
        with pytest.raises(DataError, match="a positive number, such as drama:2"):
            design("y ~ (1 | bag(genres, weights = ':'))", {**DATA, "genres": [wrong, *bags[1:]]})


def test_bags_of_lists_are_those_of_text() -> None:
    text = design("y ~ (1 | bag(genres))").groups[0]
    lists = [[part.strip() for part in one.split("|") if part] for one in DATA["genres"]]
    for values in (lists, pa.array(lists), pl.Series(lists), pa.array(lists, pa.large_list(pa.string()))):
        data = pa.table({**DATA, "genres": values}) if isinstance(values, pa.Array) else {**DATA, "genres": values}
        data = pl.DataFrame(data) if isinstance(values, pl.Series) else pa.table(data)
        group = design("y ~ (1 | bag(genres))", data).groups[0]
        assert group.levels.labels == text.levels.labels
        np.testing.assert_allclose(
            weights(group.membership, 3)[group.codes], weights(text.membership, 3)[text.codes], rtol=1e-15
        )


def test_missing_lists_are_dropped_and_missing_parts_left_out() -> None:
    data = pa.table({**DATA, "genres": [["a"], None, ["a", None], [None], ["b"], []]})
    made = design("y ~ (1 | bag(genres))", data)
    assert made.dropped.missing == {"bag(genres)": 1}
    (group,) = made.groups
    np.testing.assert_array_equal(weights(group.membership, 2)[group.codes], [[1, 0], [1, 0], [0, 0], [0, 1], [0, 0]])


def test_history() -> None:
    (group,) = design("y ~ (1 | bag(history(item, user)))").groups
    assert group.levels.labels == ("5", "7", "9")
    root = np.sqrt(0.5)
    u, v, w = [root, root, 0], [0, root, root], [1, 0, 0]
    np.testing.assert_allclose(weights(group.membership, 3)[group.codes], [u, v, u, w, v, u])


def test_walk_along_numbers() -> None:
    (group,) = design("y ~ (1 | rw(week))").groups
    np.testing.assert_array_equal(group.walk.time, [1, 3, 4, 8])
    np.testing.assert_allclose(group.walk.gap, [7 / 3, 2, 1, 4])
    increments = weights(group.walk.membership, 4)
    np.testing.assert_allclose(increments @ increments.T, np.minimum.outer(t := np.array([0, 2, 3, 7]) + 7 / 3, t))


def test_walks_within_a_factor() -> None:
    (group,) = design("y ~ (1 | user:rw(week))").groups
    assert group.levels.labels == ("u:1", "u:3", "v:1", "v:8", "w:4")
    np.testing.assert_array_equal(group.walk.series, [0, 0, 1, 1, 2])
    step = (2 + 7) / 2
    covariance = weights(group.walk.membership, 5) @ weights(group.walk.membership, 5).T
    expected = np.zeros((5, 5))
    expected[:2, :2], expected[2:4, 2:4], expected[4, 4] = step, step, step
    expected[1, 1] += 2
    expected[3, 3] += 7
    np.testing.assert_allclose(covariance, expected)


def test_walks_along_dates_periods_and_declared_levels() -> None:
    days = [dt.date(2020, 1, day) for day in (1, 8, 8, 29, 1, 8)]
    data = pa.table({**DATA, "t": days, "size": pa.array(["s", "m", "m", "l", "s", "l"]).dictionary_encode()})
    assert design("y ~ (1 | rw(t))", data).groups[0].walk.time.tolist() == [18262.0, 18269.0, 18290.0]
    weeks = design("y ~ (1 | rw(week(t)))", data)
    assert weeks.spec.groups[0].name == "rw(week(t))"
    assert np.diff(weeks.groups[0].walk.time).tolist() == [1, 3]
    assert design("y ~ (1 | rw(size))", data).groups[0].walk.time.tolist() == [0, 1, 2]
    assert len(design("y ~ (1 | rw(week(t))) + (1 | week(t))", data).groups) == 2


def test_latent_sides() -> None:
    made = design("y ~ latent(user + bag(history(item)), item + bag(genres) + rw(week), rank = 3)")
    (term,), (spec,) = made.latent, made.spec.latent
    assert (term.rank, spec.text) == (3, "latent(user + bag(history(item)), item + bag(genres) + rw(week), rank = 3)")
    kinds = [[one.spec.kind for one in side] for side in term.sides]
    assert kinds == [["factor", "history"], ["factor", "bag", "walk"]]
    user, history = term.sides[0]
    assert user.levels.labels == ("u", "v", "w")
    assert user.membership is None
    assert user.codes.tolist() == history.codes.tolist() == [0, 1, 0, 2, 1, 0]
    assert (history.units, len(history.levels)) == (3, 3)
    assert term.piece(slice(2, 4)).sides[1][0].codes.tolist() == [0, 0]
    assert made.piece(slice(0, 2)).latent[0].sides[0][0].codes.tolist() == [0, 1]
    assert design("y ~ fm(user, item, text, rank = 'auto')").latent[0].rank is None


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ (1 | bag(week))", "holds numbers, and bag(week) takes lists"),
        ("y ~ (1 | rw(text))", "text without an order, such as 'a'"),
        ("y ~ latent(user, one, rank = 2)", "fewer than two levels"),
        ("y ~ (1 | bag(one))", "has one level, 'k'"),
    ],
)
def test_columns_that_do_not_fit(formula: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        design(formula, {**DATA, "one": ["k"] * 6})
    assert words in str(caught.value)


def test_lists_of_other_values() -> None:
    with pytest.raises(DataError, match="lists of floating-point values"):
        design("y ~ (1 | bag(genres))", pa.table({**DATA, "genres": [[1.5]] * 6}))
    with pytest.raises(DataError, match=r"row 2 of column 'genres' holds the control character"):
        design("y ~ (1 | bag(genres))", pa.table({**DATA, "genres": [["a"], ["b"], ["a\x1fb"], [], [], []]}))


def test_one_column_is_one_bag() -> None:
    with pytest.raises(FormulaError, match="two separators, scales or weights"):
        design("y ~ (1 | bag(genres)) + latent(user, bag(genres, sep = ','), rank = 2)")
