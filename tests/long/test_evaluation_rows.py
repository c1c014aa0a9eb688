"""Published splits made again, and simple models on them: their errors to the digits that were printed elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ranef.evaluate import (
    Biases,
    Ease,
    GlobalMean,
    Popularity,
    RankingData,
    evaluate_predictions,
    evaluate_ranking,
    ranking_data,
    split_folds,
    split_last,
    split_random,
    split_strong,
)

pytestmark = pytest.mark.long


def table(*path: str) -> pa.Table:
    """A table in the folder of data, or a skip."""
    root = os.environ.get("RANEF_TEST_DATA")
    if root is None:
        pytest.skip("RANEF_TEST_DATA does not name a folder of data")
    file = Path(root).joinpath(*path)
    if not file.is_file():
        pytest.skip(f"no {'/'.join(path)} in the folder of data")
    return pq.read_table(file)


def test_random_split_of_movielens():
    ratings, made = table("ml-1m", "ratings.parquet"), table("splits", "ml-1m-random.parquet")
    split = split_random(ratings, 0.1, seed=42)
    assert np.array_equal(split.test_rows, np.flatnonzero(made["is_test"]))
    for one, fold in enumerate(split_folds(ratings, 5, seed=7)):
        assert np.array_equal(fold.test_rows, np.flatnonzero(pc.equal(made["fold5"], one)))


def test_last_ratings_of_movielens():
    ratings, made = table("ml-1m", "ratings.parquet"), table("splits", "ml-1m-time.parquet")
    used = pc.is_valid(made["is_test"])
    split = split_last(ratings.filter(used), "user_id", "timestamp", 0.2)
    assert np.array_equal(split.test_rows, np.flatnonzero(made["is_test"].filter(used)))


def likes(name: str) -> tuple[pa.Table, int]:
    """The pairs of a user and an item, and how many users are held out twice."""
    if name == "citeulike-a":
        return table("citeulike-a", "pairs.parquet"), 500
    ratings = table("ml-1m", "ratings.parquet")
    liked = ratings.filter(pc.greater_equal(ratings["rating"], 4))
    often = np.bincount(liked["user_id"]) >= 5
    return liked.filter(pa.array(often[np.asarray(liked["user_id"])])), 1000


def pairs(part: pa.Table) -> list[tuple[int, int]]:
    return sorted(zip(part["user_id"].to_pylist(), part["item_id"].to_pylist(), strict=True))


@pytest.mark.parametrize("name", ["ml-1m", "citeulike-a"])
def test_strong_generalization(name):
    made = table("splits", f"{name}-implicit.parquet")
    data, users = likes(name)
    split = split_strong(data, "user_id", "item_id", users, users, seed=98765)
    names = ("train", "test_in", "test_out", "val_in", "val_out")
    parts = (split.train, split.fold_in, split.test, split.validation_fold_in, split.validation)
    for label, part in zip(names, parts, strict=True):
        assert pairs(part) == pairs(made.filter(pc.equal(made["part"], label))), label


def rankings(name: str) -> RankingData:
    made = table("splits", f"{name}-implicit.parquet")
    train, seen, test = (made.filter(pc.equal(made["part"], part)) for part in ("train", "test_in", "test_out"))
    return ranking_data(train, test, "user_id", "item_id", seen)


METRICS = ("recall@20", "recall@50", "ndcg@100")


@pytest.mark.parametrize(
    ("name", "penalty", "expected"),
    [("ml-1m", 700, (0.3560, 0.4717, 0.4174)), ("citeulike-a", 20, (0.3899, 0.4848, 0.3749))],
)
def test_ease(name, penalty, expected):
    found = evaluate_ranking({}, rankings(name), metrics=METRICS, baselines=[Ease(penalty)])
    assert [round(found.estimate(metric).value, 4) for metric in METRICS] == list(expected)


@pytest.mark.parametrize(
    ("name", "expected"), [("ml-1m", (0.1756, 0.2425, 0.2155)), ("citeulike-a", (0.0210, 0.0375, 0.0262))]
)
def test_popularity(name, expected):
    data = rankings(name)
    found = evaluate_ranking({}, data, metrics=METRICS)
    # many items are equally popular: the printed numbers are those of one order of these, ours the mean over all
    assert [found.estimate(metric).value for metric in METRICS] == pytest.approx(list(expected), abs=6e-4)
    scores = Popularity().fit(data.train).scores(data.seen).copy()
    scores[data.seen.nonzero()] = -np.inf
    order = np.argsort(-scores, axis=1)
    one_order = np.empty(scores.shape)
    np.put_along_axis(one_order, order, -np.arange(scores.shape[1], dtype=float)[None], axis=1)
    found = evaluate_ranking(one_order, data, metrics=METRICS, baselines=())
    assert [round(found.estimate(metric).value, 4) for metric in METRICS] == list(expected)


def test_biases_on_movielens():
    ratings, made = table("ml-1m", "ratings.parquet"), table("splits", "ml-1m-random.parquet")
    train, test = (ratings.filter(pc.equal(made["is_test"], side)) for side in (False, True))
    factors = ["user_id", "item_id"]
    models = {
        "mean": GlobalMean("rating"),
        "ridge": Biases("rating", factors, {"user_id": 4, "item_id": 2}),
        "estimated": Biases("rating", factors),
    }
    expected = {
        "mean": (1.1185, 1.1185, 0.9355, 0.9355),
        "ridge": (0.9104, 0.9101, 0.7195, 0.7190),
        "estimated": (0.9104, 0.9101, 0.7197, 0.7192),
    }
    predicted = {name: model.fit(train).predict(test) for name, model in models.items()}
    y, user = np.asarray(test["rating"]), np.asarray(test["user_id"])
    plain, clipped = (evaluate_predictions(predicted, y, by=user, clip=clip) for clip in (None, (1, 5)))
    for name, digits in expected.items():
        found = [one.estimate(metric, name).value for metric in ("RMSE", "MAE") for one in (plain, clipped)]
        assert [round(value, 4) for value in found] == list(digits), name
    # the two pairs of penalties differ by far less than either is sure of
    difference = clipped.difference("RMSE", "estimated", "ridge")
    assert abs(difference.value) < 1e-4 < clipped.estimate("RMSE", "ridge").se
    assert difference.se < clipped.estimate("RMSE", "ridge").se / 10
