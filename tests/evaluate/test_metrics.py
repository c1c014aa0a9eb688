"""Metrics of predictions against scikit-learn and against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import mean_absolute_error, roc_auc_score, root_mean_squared_error

import ranef
from ranef.evaluate import auc, calibration, group_auc, log_loss, mae, rmse
from ranef.evaluate.auc import areas_within, placements

random = np.random.default_rng(11)
P = random.uniform(size=500).round(2)  # with ties
Y = (random.uniform(size=500) < P).astype(float)
GROUPS = random.integers(0, 40, 500)


def test_beside_scikit_learn():
    y, guess = random.normal(size=(2, 300))
    assert rmse(y, guess) == pytest.approx(root_mean_squared_error(y, guess))
    assert mae(y, guess) == pytest.approx(mean_absolute_error(y, guess))
    assert rmse(y, guess, clip=(-1, 0.5)) == pytest.approx(root_mean_squared_error(y, guess.clip(-1, 0.5)))
    assert auc(Y, P) == pytest.approx(roc_auc_score(Y, P))
    assert log_loss(Y, P) == pytest.approx(sklearn_log_loss(Y, P))
    three = random.dirichlet([1, 1, 1], 300)
    codes = random.integers(0, 3, 300)
    assert log_loss(codes, three) == pytest.approx(sklearn_log_loss(codes, three))


def test_a_certain_mistake_is_finite():
    assert log_loss([1, 0], [0.0, 1.0]) == pytest.approx(sklearn_log_loss([1, 0], [0.0, 1.0]))


@pytest.mark.parametrize("weight", ["rows", "equal"])
def test_group_auc_is_a_loop_over_groups(weight):
    areas, sizes = [], []
    for group in range(40):
        mine = group == GROUPS
        if len(set(Y[mine])) == 2:
            areas.append(roc_auc_score(Y[mine], P[mine]))
            sizes.append(mine.sum() if weight == "rows" else 1)
    assert group_auc(Y, P, GROUPS, weight) == pytest.approx(np.average(areas, weights=sizes))
    names = np.char.add("g", GROUPS.astype(str))
    assert group_auc(Y, P, names, weight) == pytest.approx(group_auc(Y, P, GROUPS, weight))


ROW = st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 3), st.integers(0, 2))


@settings(max_examples=100, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=12))
def test_weights_are_rows_that_come_again(rows):
    score, up, down, group = (np.array(column, float) for column in zip(*rows, strict=True))
    pairs = [
        (a > b) + (a == b) / 2
        for a, n in zip(score, up, strict=True)
        for b, m in zip(score, down, strict=True)
        for _ in range(int(n * m))
    ]
    found = placements(score, up, down)
    if not pairs:
        assert np.isnan(found.area)
        return
    assert found.area == pytest.approx(np.mean(pairs))
    assert (up @ found.positive) / up.sum() == pytest.approx(found.area)
    assert (down @ found.negative) / down.sum() == pytest.approx(found.area)
    within = areas_within(score, up, down, group.astype(int), 3)
    for one in range(3):
        mine = group == one
        assert within[one] == pytest.approx(placements(score[mine], up[mine], down[mine]).area, nan_ok=True)


def test_one_outcome_has_no_area():
    assert np.isnan(auc([1, 1], [0.2, 0.3]))
    assert np.isnan(group_auc([1, 0], [0.2, 0.3], [1, 2]))


@pytest.mark.parametrize("kind", ["quantile", "uniform"])
def test_calibration_is_that_of_scikit_learn(kind):
    p = random.uniform(size=480)
    y = (random.uniform(size=480) < p**2).astype(float)
    observed, predicted = calibration_curve(y, p, n_bins=8, strategy=kind)
    found = calibration(y, p, 8, kind)
    assert found.observed == pytest.approx(observed)
    assert found.predicted == pytest.approx(predicted)
    assert found.rows.sum() == 480
    assert found.expected_error == pytest.approx(np.average(abs(observed - predicted), weights=found.rows))
    assert found.maximum_error == pytest.approx(max(abs(observed - predicted)))
    assert found.expected_error > 3 * found.chance
    assert list(found.table("pandas").columns) == ["lower", "upper", "rows", "predicted", "observed", "se"]


def test_chance_is_the_error_of_right_probabilities():
    p = np.tile(random.uniform(size=400), 50)
    errors = [calibration(random.uniform(size=len(p)) < p, p).expected_error for _ in range(30)]
    assert np.mean(errors) == pytest.approx(calibration(p > 0.5, p).chance, rel=0.1)


def test_equal_probabilities_stay_in_one_bin():
    found = calibration(Y, np.where(P > 0.5, 0.7, 0.3))
    assert found.predicted.tolist() == pytest.approx([0.3, 0.7])
    constant = calibration(Y, np.full(500, 0.25))
    assert constant.expected_error == pytest.approx(abs(Y.mean() - 0.25))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: rmse([1, 2], [1]), "give the same rows"),
        (lambda: rmse([1, np.nan], [1, 2]), "y is missing or infinite in 1 row, the first is row 1"),
        (lambda: rmse([], []), "at least one row"),
        (lambda: rmse([1], ["a"]), "must be numbers"),
        (lambda: rmse([1], [1], clip=(5, 1)), "below the second"),
        (lambda: rmse([1], [1], clip=3), "two numbers"),
        (lambda: log_loss([0, 2], [0.1, 0.2]), "y must be 0 or 1"),
        (lambda: log_loss([0, 1], [0.1, 1.2]), "from 0 to 1"),
        (lambda: log_loss([0, 3], [[0.5, 0.5], [0.1, 0.9]]), "code from 0 to 1"),
        (lambda: group_auc([0, 1], [0.1, 0.2], [1]), "one for each row"),
        (lambda: calibration([0, 1], [0.1, 0.2], bins=0), "bins"),
        (lambda: calibration([0, 1], [0.1, 0.2], kind="equal"), "kind"),
    ],
)
def test_errors(call, words):
    with pytest.raises(ranef.RanefError, match=words):
        call()
