"""Rankings against naive loops over users, and over every order of items that tie."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import ndcg_score

import ranef
from ranef.evaluate import (
    Ease,
    ItemKNN,
    Popularity,
    RankingData,
    evaluate_ranking,
    fit_scores,
    ranking_data,
    split_random,
)
from ranef.evaluate.lists import top_lists

NAMES = ("recall", "precision", "ndcg", "map", "mrr")


def naive(order: list[int], wanted: set[int], k: int) -> dict[str, float]:
    """One user's metrics for one order of the candidates."""
    top = order[:k]
    hits = [place for place, item in enumerate(top, 1) if item in wanted]
    most = min(k, len(wanted))
    return {
        "recall": len(hits) / most,
        "precision": len(hits) / k,
        "ndcg": sum(1 / math.log2(p + 1) for p in hits) / sum(1 / math.log2(p + 1) for p in range(1, most + 1)),
        "map": sum((n + 1) / p for n, p in enumerate(hits)) / most,
        "mrr": 1 / hits[0] if hits else 0.0,
    }


def all_orders(scores: np.ndarray, seen: set[int]) -> list[list[int]]:
    """Every order of the candidates that falling scores allow."""
    candidates = [item for item in range(len(scores)) if item not in seen and scores[item] > -np.inf]
    groups = [
        list(itertools.permutations([item for item in candidates if scores[item] == value]))
        for value in sorted({scores[item] for item in candidates}, reverse=True)
    ]
    return [list(itertools.chain(*parts)) for parts in itertools.product(*groups)]


def rows_of(matrix: np.ndarray) -> sparse.csr_array:
    return sparse.csr_array(matrix.astype(float))


@st.composite
def problems(draw):
    items = draw(st.integers(1, 6))
    scores = draw(st.lists(st.sampled_from([0.0, 1.0, 2.0, -np.inf]), min_size=items, max_size=items))
    role = draw(st.lists(st.sampled_from(["seen", "test", "none"]), min_size=items, max_size=items))
    return np.array([scores]), np.array(role), draw(st.integers(1, 7))


@settings(max_examples=150, deadline=None)
@given(problems())
def test_ties_are_expected_values_over_every_order(problem):
    scores, role, k = problem
    if not (role == "test").any():
        return
    lists = top_lists(scores, rows_of((role == "seen")[None]), rows_of((role == "test")[None]), k)
    seen, wanted = set(np.flatnonzero(role == "seen")), set(np.flatnonzero(role == "test"))
    each = [naive(order, wanted, k) for order in all_orders(scores[0], seen)]
    for name in NAMES:
        assert getattr(lists, name)(k)[0] == pytest.approx(np.mean([one[name] for one in each]), abs=1e-12), name


@pytest.mark.parametrize(("dtype", "items", "depth"), [(np.float64, 90, 30), (np.float32, 90, 30), (float, 700, 40)])
def test_many_users_without_ties_are_a_naive_loop(dtype, items, depth):
    random = np.random.default_rng(1)
    users = 40
    scores = random.permuted(np.arange(users * items, dtype=dtype).reshape(users, items), axis=1)
    role = random.choice(3, (users, items), p=[0.7, 0.2, 0.1])
    lists = top_lists(scores, rows_of(role == 1), rows_of(role == 2), depth)
    for k in (1, 7, 30):
        found = {name: getattr(lists, name)(k) for name in NAMES}
        for user in range(users):
            order = [item for item in np.argsort(-scores[user]) if role[user, item] != 1]
            assert lists.items[user].tolist() == order[:depth]
            said = naive(order, set(np.flatnonzero(role[user] == 2)), k)
            for name in NAMES:
                assert found[name][user] == pytest.approx(said[name], abs=1e-12)


def test_many_items_with_ties_are_a_sort_of_all():
    random = np.random.default_rng(3)
    scores = random.integers(0, 60, (30, 900)).astype(float)
    role = random.choice(3, scores.shape, p=[0.8, 0.1, 0.1])
    lists = top_lists(scores, rows_of(role == 1), rows_of(role == 2), 50)
    for user in range(30):
        order = [item for item in np.argsort(-scores[user], kind="stable") if role[user, item] != 1]
        assert lists.items[user].tolist() == order[:50]
        for place in (0, 20, 49):
            group = (scores[user] == scores[user, order[place]]) & (role[user] != 1)
            assert lists.size[user, place] == group.sum()
            assert lists.hits[user, place] == (group & (role[user] == 2)).sum()


def test_ndcg_is_that_of_scikit_learn():
    random = np.random.default_rng(2)
    scores, test = random.normal(size=(20, 50)), random.random((20, 50)) < 0.3
    found = top_lists(scores, rows_of(np.zeros_like(test)), rows_of(test), 10).ndcg(10)
    for user in range(20):
        assert found[user] == pytest.approx(ndcg_score(test[user : user + 1], scores[user : user + 1], k=10))


def data_of(train: np.ndarray, seen: np.ndarray, test: np.ndarray) -> RankingData:
    return RankingData(rows_of(train), rows_of(seen), rows_of(test), np.arange(len(test)), np.arange(test.shape[1]), 0)


@pytest.fixture(scope="module")
def problem() -> RankingData:
    random = np.random.default_rng(4)
    taste = random.random((60, 3)) @ random.random((3, 25))
    has = random.random((60, 25)) < taste / taste.max()
    held = has & (random.random(has.shape) < 0.3)
    return data_of(has & ~held, has & ~held, held)


def test_a_perfect_ranking_is_worth_one(problem):
    found = evaluate_ranking(problem.test.toarray(), problem, metrics=["recall@3", "ndcg@10", "map@5", "mrr@2"])
    for metric in found.metrics:
        assert found.estimate(metric).value == pytest.approx(1)
        assert found.estimate(metric).se == pytest.approx(0, abs=1e-12)
        assert found.estimate(metric, "popularity").value < 1


def test_users_without_anything_to_find_do_not_count(problem):
    counts = np.diff(problem.test.indptr)
    assert (counts == 0).any()
    some = np.flatnonzero(counts)
    fewer = RankingData(problem.train, problem.seen[some], problem.test[some], problem.users[some], problem.items, 0)
    one, other = (evaluate_ranking(Popularity().fit(problem.train), data, baselines=()) for data in (problem, fewer))
    assert one.records() == other.records()
    assert "not counted" in str(one)
    with pytest.raises(ranef.DataError, match="no user"):
        evaluate_ranking({}, data_of(np.eye(3), np.eye(3), np.zeros((3, 3))))


def test_a_constant_score_is_worth_chance_whatever_the_order_of_the_items(problem):
    found = evaluate_ranking(np.zeros(problem.test.shape), problem, metrics=["precision@5"], baselines=())
    counts = np.diff(problem.test.indptr)
    left = len(problem.items) - np.diff(problem.seen.indptr)
    assert found.estimate("precision@5").value == pytest.approx((counts / left)[counts > 0].mean())


def test_permutations_of_users_and_items_change_nothing(problem):
    random = np.random.default_rng(5)
    users, items = random.permutation(60), random.permutation(25)
    train = problem.train[:, items]
    mixed = RankingData(train, problem.seen[users][:, items], problem.test[users][:, items], users, items, 0)
    metrics = ["recall@5", "ndcg@5", "map@5", "mrr@5", "precision@5"]
    for baseline in (Popularity(), ItemKNN(5, 1.0), Ease(3.0)):
        values = [
            [row["estimate"] for row in evaluate_ranking({}, data, metrics=metrics, baselines=[baseline]).records()]
            for data in (problem, mixed)
        ]
        assert values[0] == pytest.approx(values[1])


def test_batches_do_not_matter(problem, monkeypatch):
    def values():
        return [row["estimate"] for row in evaluate_ranking({}, problem, baselines=[Ease(3.0)]).records()]

    whole = values()
    monkeypatch.setattr("ranef.evaluate.ranking.SCORES", 100)
    assert values() == pytest.approx(whole)


def test_ways_to_give_scores(problem):
    ease = Ease(3.0).fit(problem.train)
    scores = ease.scores(problem.seen)
    found = evaluate_ranking(
        {"object": ease, "function": lambda users: scores[users], "array": scores}, problem, metrics="ndcg@5"
    )
    values = [row["estimate"] for row in found.records()]
    assert values[0] == values[1] == values[2]
    assert found.difference("ndcg@5", "function", "object").se == 0


def test_coverage_and_novelty(problem):
    found = evaluate_ranking({}, problem, metrics=["coverage@4", "novelty@4"])
    counts = np.asarray(problem.train.sum(axis=0)).ravel()
    listed, bits = set(), []
    for user in np.flatnonzero(np.diff(problem.test.indptr)):
        seen = set(problem.seen[[user]].indices)
        order = [item for item in np.argsort(-counts, kind="stable") if item not in seen][:4]
        listed |= set(order)
        bits.append(np.mean(-np.log2(counts[order] / 60)))
    assert found.estimate("coverage@4").value == pytest.approx(len(listed) / 25)
    assert np.isnan(found.estimate("coverage@4").se)
    assert found.estimate("novelty@4").value == pytest.approx(np.mean(bits))


@pytest.mark.parametrize("shape", [(30, 12), (12, 30)])
def test_ease_is_its_definition(shape):
    random = np.random.default_rng(6)
    dense = (random.random(shape) < 0.3).astype(float)
    dense[:, 3] = 0  # nobody has it
    train, penalty = rows_of(dense), 2.5
    # column by column: ridge regression on the other items
    weights = np.zeros((shape[1], shape[1]))
    for item in range(shape[1]):
        others = np.delete(np.arange(shape[1]), item)
        x = dense[:, others]
        weights[others, item] = np.linalg.solve(x.T @ x + penalty * np.eye(len(others)), x.T @ dense[:, item])
    seen = (random.random((5, shape[1])) < 0.4).astype(float)
    assert Ease(penalty).fit(train).scores(rows_of(seen)) == pytest.approx(seen @ weights, abs=1e-10)


def test_item_neighbours_are_their_definition():
    random = np.random.default_rng(7)
    dense = (random.random((40, 15)) < 0.35).astype(float)
    shared, norm = dense.T @ dense, np.sqrt(dense.sum(axis=0))
    similarity = shared / (np.outer(norm, norm) + 4.0)
    np.fill_diagonal(similarity, 0)
    for item in range(15):
        least = np.sort(similarity[:, item])[-5]
        similarity[similarity[:, item] < least, item] = 0
    seen = (random.random((6, 15)) < 0.4).astype(float)
    assert ItemKNN(5, 4.0).fit(rows_of(dense)).scores(rows_of(seen)) == pytest.approx(seen @ similarity)


def test_tables_of_pairs_are_aligned():
    train = pd.DataFrame({"u": ["a", "a", "b", "b", "c"], "i": [1, 2, 2, 2, 3]})
    test = pd.DataFrame({"u": ["b", "b", "d", "a", "a"], "i": [1, 9, 3, 2, 3]})
    data = ranking_data(train, test, "u", "i")
    assert data.items.tolist() == [1, 2, 3]
    assert data.users.tolist() == ["a", "b", "d"]
    assert data.train.toarray().tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert data.seen.toarray().tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    # 9 is unknown, and (a, 2) was seen
    assert data.test.toarray().tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1]]
    assert data.dropped == 2
    folded = ranking_data(train, test, "u", "i", fold_in=pd.DataFrame({"u": ["d"], "i": [1]}))
    assert folded.seen.toarray().tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_predictions_of_a_fit_are_scores():
    table = ranef.data.simulate(3000, {"user": 60, "item": 30}, ids="text", library="pandas", seed=1).data
    train, test = split_random(table, 0.3, seed=1)
    fit = ranef.fit("y ~ 1 + (1 | user) + (1 | item)", train)
    data = ranking_data(train, test, "user", "item")
    scores = fit_scores(fit, data, "user", "item")(np.array([5, 0]))
    for row, user in zip(scores, data.users[[5, 0]], strict=True):
        assert row == pytest.approx(fit.predict(pd.DataFrame({"user": user, "item": data.items})))
    with pytest.raises(ranef.OptionError, match="takes a fit"):
        fit_scores("model", data, "user", "item")


def test_errors(problem):
    with pytest.raises(ranef.OptionError, match="nothing to evaluate"):
        evaluate_ranking({}, problem, baselines=())
    for metrics in ("ndcg", "ndgc@10", "ndcg@0", ["recall@x"]):
        with pytest.raises(ranef.OptionError, match="metrics"):
            evaluate_ranking({}, problem, metrics=metrics)
    with pytest.raises(ranef.OptionError, match="one column for each of"):
        evaluate_ranking({"short": lambda users: np.zeros((len(users), 3))}, problem)
    with pytest.raises(ranef.DataError, match="no numbers"):
        evaluate_ranking(np.full(problem.test.shape, np.nan), problem)
    with pytest.raises(ranef.OptionError, match="a recommender is"):
        evaluate_ranking({"text": "popularity"}, problem)
    with pytest.raises(ranef.OptionError, match="penalty"):
        Ease(0)
    with pytest.raises(ranef.OptionError, match="neighbours"):
        ItemKNN(0)
