"""Splits: what each promises, on any kind of table, the same for a seed."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import ranef
from ranef.evaluate import split_by_time, split_folds, split_last, split_new, split_random, split_strong

random = np.random.default_rng(3)
ROWS = 400
COLUMNS = {
    "user": np.char.add("u", random.integers(0, 30, ROWS).astype(str)),
    "item": random.integers(100, 160, ROWS),
    "day": random.integers(0, 50, ROWS),
    "y": random.normal(size=ROWS),
}
FRAME = pd.DataFrame(COLUMNS)


def test_tables_come_back_in_the_callers_library(tmp_path):
    FRAME.to_parquet(tmp_path / "rows.parquet")
    for data, kind in [
        (FRAME, pd.DataFrame),
        (pl.DataFrame(COLUMNS), pl.DataFrame),
        (pl.DataFrame(COLUMNS).lazy(), pl.DataFrame),
        (pa.table(COLUMNS), pa.Table),
        (COLUMNS, dict),
        (str(tmp_path / "rows.parquet"), pd.DataFrame),
    ]:
        split = split_random(data, 0.2, seed=5)
        train, test = split
        assert isinstance(train, kind)
        assert isinstance(test, kind)
        assert np.array_equal(np.asarray(test["y"]), COLUMNS["y"][split.test_rows])
        assert np.array_equal(np.asarray(train["item"]), COLUMNS["item"][split.train_rows])
        names = test.column_names if kind is pa.Table else test.keys() if kind is dict else test.columns
        assert list(names) == list(COLUMNS)


def test_pandas_keeps_its_index():
    frame = FRAME.set_index(np.arange(ROWS) + 1000)
    split = split_random(frame)
    assert np.array_equal(split.test.index, split.test_rows + 1000)


def test_random_is_the_documented_permutation():
    split = split_random(FRAME, 0.29, seed=9)
    assert np.array_equal(split.test_rows, np.sort(np.random.default_rng(9).permutation(ROWS)[:116]))
    assert np.array_equal(np.sort(np.concatenate([split.train_rows, split.test_rows])), np.arange(ROWS))
    assert len(split_random(FRAME, 7).test_rows) == 7
    assert not np.array_equal(split.test_rows, split_random(FRAME, 0.29, seed=10).test_rows)


def test_every_row_is_in_one_fold():
    splits = split_folds(FRAME, 3, seed=7)
    fold = np.random.default_rng(7).permutation(ROWS) % 3
    for one, split in enumerate(splits):
        assert np.array_equal(split.test_rows, np.flatnonzero(fold == one))
        assert np.array_equal(split.train_rows, np.flatnonzero(fold != one))


def test_a_moment_of_declared_levels_is_in_their_order():
    frame = pl.DataFrame({"month": ["jan", "feb", "mar", "feb"]}, schema={"month": pl.Enum(["jan", "feb", "mar"])})
    assert split_by_time(frame, "month", at="feb").test_rows.tolist() == [1, 2, 3]
    with pytest.raises(ranef.OptionError, match="no level"):
        split_by_time(frame, "month", at="apr")


def test_by_time_no_training_row_is_as_late_as_a_test_row():
    split = split_by_time(FRAME, "day", 0.25)
    day = COLUMNS["day"]
    assert day[split.train_rows].max() < day[split.test_rows].min()
    assert len(split.test_rows) >= ROWS // 4
    # one moment fewer would be too few
    assert (day > day[split.test_rows].min()).sum() < ROWS // 4


def test_by_time_from_a_moment_on():
    days = [date(2024, 1, 1) + timedelta(int(day)) for day in COLUMNS["day"]]
    for at in (date(2024, 2, 1), date(2024, 1, 1) + timedelta(days=31)):
        for frame in (pl.DataFrame({"day": days}), pd.DataFrame({"day": pd.to_datetime(days)})):
            split = split_by_time(frame, "day", at=at)
            assert np.array_equal(split.test_rows, np.flatnonzero(COLUMNS["day"] >= 31))
    assert np.array_equal(split_by_time(FRAME, "day", at=31).test_rows, split.test_rows)
    with pytest.raises(ranef.OptionError, match="holds numbers"):
        split_by_time(FRAME, "day", at="soon")
    with pytest.raises(ranef.OptionError, match="cannot be compared"):
        split_by_time(pl.DataFrame({"day": days}), "day", at="soon")
    with pytest.raises(ranef.DataError, match="all rows are held out"):
        split_by_time(FRAME, "day", at=-1)


@pytest.mark.parametrize("last", [1, 3, 0.2, 40])
def test_last_of_each_user(last):
    if last == 40:
        with pytest.raises(ranef.DataError, match="smaller"):
            split_last(FRAME, "user", "day", last)
        return
    split = split_last(FRAME, "user", "day", last)
    test = np.zeros(ROWS, bool)
    test[split.test_rows] = True
    for user in np.unique(COLUMNS["user"]):
        rows = np.flatnonzero(COLUMNS["user"] == user)
        order = sorted(rows, key=lambda row: (COLUMNS["day"][row], row))
        count = int(len(rows) * last) if isinstance(last, float) else (last if len(rows) > last else 0)
        assert sorted(order[len(order) - count :]) == list(rows[test[rows]])


def test_new_levels_are_whole():
    for column in ("user", "item"):
        split = split_new(FRAME, column, 0.2, seed=2)
        train, test = COLUMNS[column][split.train_rows], COLUMNS[column][split.test_rows]
        assert not set(train) & set(test)
        assert len(set(test)) == int(0.2 * len(set(COLUMNS[column])))


def test_strong_generalization():
    pairs = FRAME.drop_duplicates(["user", "item"]).reset_index(drop=True)
    split = split_strong(pairs, "user", "item", test=5, validation=0.1, hold_out=0.3, least=4, seed=8)
    train, fold_in, test = split
    parts = [train, fold_in, test, split.validation_fold_in, split.validation]
    assert sum(map(len, parts)) + split.dropped == len(pairs)
    users = [set(part["user"]) for part in parts]
    assert len(users[1]) == 5
    assert users[2] <= users[1]
    assert not users[0] & users[1]
    assert not users[1] & users[3]
    for part in parts:
        assert set(part["item"]) <= set(train["item"])
    for user, rows in fold_in.groupby("user"):
        size = len(rows) + (test["user"] == user).sum()
        assert (test["user"] == user).sum() == (int(0.3 * size) if size >= 4 else 0)
    again = split_strong(pairs, "user", "item", test=5, validation=0.1, hold_out=0.3, least=4, seed=8)
    assert np.array_equal(split.test_rows, again.test_rows)


def test_the_order_of_strong_rows_does_not_matter():
    pairs = FRAME.drop_duplicates(["user", "item"]).reset_index(drop=True)
    mixed = pairs.sample(frac=1, random_state=1).reset_index(drop=True)
    for part in ("train", "fold_in", "test"):
        one, other = (getattr(split_strong(data, "user", "item", seed=4), part) for data in (pairs, mixed))
        columns = ["user", "item"]
        assert one.sort_values(columns)[columns].values.tolist() == other.sort_values(columns)[columns].values.tolist()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: split_random(FRAME, 0.0), "between 0 and 1"),
        (lambda: split_random(FRAME, ROWS), "would be held out"),
        (lambda: split_random(FRAME, 0.1, seed=-1), "seed"),
        (lambda: split_folds(FRAME, 1), "folds"),
        (lambda: split_folds(FRAME, ROWS + 1), "only 400 rows"),
        (lambda: split_new(FRAME, "usr"), "'user'"),
        (lambda: split_last(FRAME, "user", "day", 0), "last"),
        (lambda: split_strong(FRAME, "user", "item", hold_out=2), "hold_out"),
        (lambda: split_last({"user": ["a", None], "day": [1, 2]}, "user", "day"), "lacks 1 value, the first in row 1"),
        (lambda: split_by_time({"day": [1.0, np.nan]}, "day"), "lacks 1 value"),
    ],
)
def test_errors(call, words):
    with pytest.raises(ranef.RanefError, match=words):
        call()
