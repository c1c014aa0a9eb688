"""Implicit feedback against the same objective written densely."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ranef.artifact.implicit import Weights
from ranef.engine.threads import engine
from ranef.learn.implicit.choose import choose
from ranef.learn.implicit.pairs import ordered_pairs, some_users
from ranef.learn.implicit.sweeps import finished, minimise, start_factors, user_vectors
from ranef.learn.implicit.validate import ndcg, validation_users

USERS, ITEMS, RANK = 37, 23, 5


@pytest.fixture(scope="module")
def rows():
    """Users, items and confidences; some pairs stand in several rows, and one user has all items."""
    rng = np.random.default_rng(1)
    user, item = np.nonzero((rng.random((USERS, ITEMS)) < 0.3) | (np.arange(USERS) == 5)[:, None])
    again = rng.integers(0, len(user), 20)
    user, item = np.append(user, user[again]), np.append(item, item[again])
    return user.astype(np.int32), item.astype(np.int32), rng.gamma(2.0, 1.0, len(user))


def dense(rows):
    confidence = np.zeros((USERS, ITEMS))
    np.add.at(confidence, rows[:2], rows[2])
    return confidence


def penalties(confidence, weights, axis):
    total = confidence.sum(axis) + weights.unobserved * confidence.shape[axis]
    return weights.penalty * total**weights.exponent


def objective(confidence, weights, p, q):
    p, q = p.astype(float), q.astype(float)
    scores, seen = p @ q.T, confidence > 0
    squares = np.where(seen, (weights.unobserved + confidence) * (1 - scores) ** 2, weights.unobserved * scores**2)
    users = penalties(confidence, weights, 1) @ (p**2).sum(1)
    return squares.sum() + users + penalties(confidence, weights, 0) @ (q**2).sum(1)


def closed_form(confidence, weights, q):
    """Every user's minimum by Hu, Koren and Volinsky's normal equations."""
    q = q.astype(float)
    out = []
    for c, penalty in zip(confidence, penalties(confidence, weights, 1), strict=True):
        matrix = q.T @ ((weights.unobserved + c)[:, None] * q) + penalty * np.eye(q.shape[1])
        out.append(np.linalg.solve(matrix, q.T @ np.where(c > 0, weights.unobserved + c, 0)))
    return np.array(out)


def fitted(rows, weights, threads=1, sweeps=12):
    with engine(threads) as pool:
        pairs = ordered_pairs(*rows, (USERS, ITEMS))
        factors, history = minimise(pairs, weights, start_factors(pairs, RANK, 0), pool, sweeps=sweeps)
        return pairs, factors, history, *finished(pairs, weights, factors, pool)


@pytest.mark.parametrize("exponent", [0.0, 0.6, 1.0])
def test_the_objective_of_every_sweep_is_the_dense_one_and_falls(rows, exponent):
    weights = Weights(0.2, 0.05, exponent)
    confidence = dense(rows)
    _, factors, history, last, value = fitted(rows, weights)
    assert_allclose(history[-1].objective, objective(confidence, weights, factors.users, factors.items), rtol=1e-6)
    assert_allclose(value, objective(confidence, weights, last.users, last.items), rtol=1e-6)
    values = np.array([one.objective for one in history] + [value])
    assert (np.diff(values) < 1e-6 * values[0]).all()
    assert [one.number for one in history] == list(range(1, 13))


def test_users_end_where_the_normal_equations_say_and_the_gradient_is_zero(rows):
    weights = Weights(0.3, 0.02, 1.0)
    confidence = dense(rows)
    pairs, _, _, last, _ = fitted(rows, weights)
    assert_allclose(last.users, closed_form(confidence, weights, last.items), atol=2e-5)
    with engine(1) as pool:
        assert_allclose(user_vectors(pairs, weights, last.items, pool), last.users, atol=2e-5)
    p, step = last.users.astype(float), 1e-4
    curvature = objective(confidence, weights, p + 1, last.items) / p.size
    for place in [(0, 0), (5, 3), (36, 4)]:
        move = np.zeros_like(p)
        move[place] = step
        up, down = (objective(confidence, weights, p + sign * move, last.items) for sign in (1, -1))
        assert abs(up - down) / (2 * step) < 1e-4 * curvature


def test_sweeps_reach_the_minimum_that_exact_alternation_reaches(rows):
    weights = Weights(0.5, 0.1, 1.0)
    confidence = dense(rows)
    *_, last, value = fitted(rows, weights, sweeps=400)
    q = last.items.astype(float)
    for _ in range(200):
        p = closed_form(confidence, weights, q)
        q = closed_form(confidence.T, weights, p)
    assert_allclose(value, objective(confidence, weights, p, q), rtol=1e-5)


def test_items_are_in_principal_axes_largest_first(rows):
    *_, last, _ = fitted(rows, Weights(0.3, 0.02, 1.0))
    gram = last.items.astype(float).T @ last.items
    assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=1e-4 * gram.max())
    assert (np.diff(np.diag(gram)) < 0).all()
    assert (last.items[np.abs(last.items).argmax(0), np.arange(RANK)] > 0).all()


def test_threads_change_no_bit(rows):
    weights = Weights(0.3, 0.02, 1.0)
    one, many = fitted(rows, weights, 1), fitted(rows, weights, 3)
    assert_array_equal(one[3].users, many[3].users)
    assert_array_equal(one[3].items, many[3].items)
    assert [a.objective for a in one[2]] == [b.objective for b in many[2]]


def test_rows_of_one_pair_add_their_confidences(rows):
    pairs = ordered_pairs(*rows, (USERS, ITEMS))
    confidence = dense(rows)
    assert pairs.count == np.count_nonzero(confidence)
    for side, matrix in ((pairs.by_user, confidence), (pairs.by_item, confidence.T)):
        for level, row in enumerate(matrix):
            own = slice(side.start[level], side.start[level + 1])
            assert_array_equal(side.partner[own], np.flatnonzero(row))
            assert_allclose(side.confidence[own], row[row > 0], rtol=1e-6)
        assert_allclose(side.total, matrix.sum(1))
    some = some_users(pairs, np.array([5, 0]))
    assert_array_equal(np.diff(some.by_user.start), np.count_nonzero(confidence[[5, 0]], axis=1))
    assert_allclose(some.by_item.total, confidence[[5, 0]].sum(0), rtol=1e-6)


def planted(seed):
    """Two groups of users who like items of their own group."""
    rng = np.random.default_rng(seed)
    user_group, item_group = rng.integers(0, 2, 300), rng.integers(0, 2, 60)
    chance = np.where(user_group[:, None] == item_group, 0.35, 0.02)
    user, item = np.nonzero(rng.random(chance.shape) < chance)
    return ordered_pairs(user.astype(np.int32), item.astype(np.int32), None, chance.shape)


def test_validation_users_are_apart_and_their_score_is_ndcg():
    pairs = planted(0)
    found = validation_users(pairs, seed=3)
    assert found.users == 60
    assert found.train.by_user.levels == 240
    assert found.train.count + found.known.count + len(found.held) == pairs.count
    assert (np.diff(found.start) >= 1).all()
    weights = Weights(0.1, 0.01, 1.0)
    with engine(2) as pool:
        factors, _ = minimise(found.train, weights, start_factors(found.train, 2, 0), pool, sweeps=8)
        score = ndcg(found, weights, factors.items, pool)
        vectors = user_vectors(found.known, weights, factors.items, pool)
    expected = []
    for u in range(found.users):
        values = vectors[u] @ factors.items.T
        values[found.known.by_user.partner[slice(*found.known.by_user.start[u : u + 2])]] = -np.inf
        order = np.argsort(-values)[:100]
        held = found.held[found.start[u] : found.start[u + 1]]
        gain = np.isin(order, held) / np.log2(np.arange(len(order)) + 2)
        expected.append(gain.sum() / (1 / np.log2(np.arange(len(held)) + 2)).sum())
    assert_allclose(score.users, expected, rtol=1e-6)
    assert_allclose(score.mean, np.mean(expected))


def test_the_search_is_the_same_for_a_seed_and_betters_its_start():
    found = validation_users(planted(0), seed=3)
    results = []
    for threads in (1, 2):
        with engine(threads) as pool:
            results.append(choose(found, pool, rank=2, unobserved=None, penalty=None, exponent=1.0, seed=0))
    (best, trials), (again, others) = results
    assert best.setting == again.setting
    assert [one.score.mean for one in trials] == [one.score.mean for one in others]
    assert best.score.mean == max(one.score.mean for one in trials) >= trials[0].score.mean
    *others, last = trials
    assert len({one.setting for one in others}) == len(others)
    assert last is best


def test_what_is_given_is_not_searched():
    found = validation_users(planted(1), seed=0)
    with engine(1) as pool:
        best, trials = choose(found, pool, rank=None, unobserved=0.3, penalty=0.02, exponent=0.5, seed=0)
    assert {one.setting.weights for one in trials} == {Weights(0.3, 0.02, 0.5)}
    assert best.setting.rank in {one.setting.rank for one in trials} == {32, 60}


def test_a_high_rank_begins_with_the_weights_of_a_middle_one():
    rng = np.random.default_rng(2)
    user, item = np.nonzero(rng.random((140, 90)) < 0.15)
    pairs = ordered_pairs(user.astype(np.int32), item.astype(np.int32), None, (140, 90))
    found = validation_users(pairs, seed=0)
    with engine(1) as pool:
        best, trials = choose(found, pool, rank=80, unobserved=None, penalty=0.02, exponent=1.0, seed=0)
    middle = [one for one in trials if one.setting.rank == 64]
    high = [one for one in trials if one.setting.rank == 80]
    assert len(middle) + len(high) == len(trials)
    assert high[0].setting.weights == max(middle, key=lambda one: one.score.mean).setting.weights
    assert best.setting.rank == 80


def test_too_few_users_to_choose_on():
    assert validation_users(some_users(planted(0), np.arange(80)), seed=0) is None
