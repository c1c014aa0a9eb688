"""Bootstrap errors against formulas, against resampling by hand, and against the truth."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import ranef
from ranef.evaluate import evaluate_predictions
from ranef.evaluate.auc import placements
from ranef.evaluate.statistics import Statistic, bootstrap, ratio
from ranef.evaluate.units import units_of


def mean_of(values):
    units = units_of(None, len(values), 0)
    return Statistic(units.sums_of_units(values, np.ones(len(values))), ratio, higher=True)


def test_the_error_of_a_mean_is_its_formula():
    values = np.random.default_rng(1).exponential(size=400)
    found = bootstrap({("m", "mean"): mean_of(values)}, replicates=4000).estimate("m", "mean")
    assert found.value == pytest.approx(values.mean())
    se = values.std() / 20
    assert found.se == pytest.approx(se, rel=4 / np.sqrt(2 * 4000))
    assert found.lower == pytest.approx(values.mean() - 1.96 * se, abs=0.2 * se)


def test_more_units_than_are_drawn_keep_their_variance():
    values = np.random.default_rng(2).normal(size=30_000)
    found = bootstrap({("m", "mean"): mean_of(values)}, replicates=2000).estimate("m", "mean")
    assert found.se == pytest.approx(values.std() / np.sqrt(30_000), rel=4 / np.sqrt(2 * 2000) + 0.02)


def test_users_are_drawn_with_all_their_rows():
    random = np.random.default_rng(3)
    user = np.repeat(np.arange(80), random.integers(1, 9, 80))
    y = random.normal(size=80)[user] + 0.2 * random.normal(size=len(user))
    model = {"zero": np.zeros(len(y)), "half": 0.5 * y}
    found = evaluate_predictions(model, y, by=user, replicates=3000)
    draws = np.random.default_rng(4).integers(0, 80, (3000, 80))
    rows = [np.flatnonzero(user == one) for one in range(80)]
    for name, guess in model.items():
        by_hand = [np.sqrt(np.mean((y - guess)[np.concatenate([rows[u] for u in draw])] ** 2)) for draw in draws]
        assert found.estimate("RMSE", name).se == pytest.approx(np.std(by_hand), rel=0.08)
    # rows alone would seem to know twice as much
    assert evaluate_predictions(model, y).estimate("RMSE", "zero").se < 0.7 * found.estimate("RMSE", "zero").se
    assert found.difference("RMSE", "half", "zero").se == pytest.approx(
        0.5 * found.estimate("RMSE", "zero").se, rel=1e-9
    )


@pytest.mark.parametrize("by_user", [True, False])
def test_the_error_of_an_area_is_that_of_drawing_again(by_user):
    random = np.random.default_rng(5)
    user = np.repeat(np.arange(60), 10)
    effect = random.normal(size=60)[user]
    p = 1 / (1 + np.exp(-effect - 0.5 * random.normal(size=600)))
    y = (random.uniform(size=600) < p).astype(float)
    found = evaluate_predictions(p, y, kind="binary", by=user if by_user else None, replicates=2000)
    areas = []
    for _ in range(2000):
        drawn = random.integers(0, 60, 60)[:, None] * 10 + np.arange(10)
        rows = drawn.ravel() if by_user else random.integers(0, 600, 600)
        areas.append(placements(p[rows], y[rows], 1 - y[rows]).area)
    assert found.estimate("AUC").value == pytest.approx(roc_auc_score(y, p))
    assert found.estimate("AUC").se == pytest.approx(np.std(areas), rel=0.08)


def test_paired_differences_know_that_the_rows_are_the_same():
    random = np.random.default_rng(6)
    y = random.normal(size=2000)
    one, other = y + random.normal(size=2000), y + random.normal(size=2000)
    other = 0.99 * one + 0.01 * other
    found = evaluate_predictions({"one": one, "other": other}, y)
    alone = found.estimate("RMSE", "one").se
    assert found.difference("RMSE", "other", "one").se < 0.05 * alone
    assert found.difference("RMSE", "one", "other").value == -found.difference("RMSE", "other", "one").value
    table = found.comparison().set_index(["metric", "model"])
    assert table.loc[("RMSE", "other"), "difference"] == found.difference("RMSE", "other", "one").value


def test_intervals_cover():
    random = np.random.default_rng(7)
    inside = 0
    for seed in range(200):
        error = random.normal(size=150)
        found = evaluate_predictions(np.zeros(150), error, replicates=300, seed=seed).estimate("RMSE")
        inside += found.lower <= 1 <= found.upper
    assert inside >= 180


def test_the_same_seed_gives_the_same_numbers():
    y, guess = np.random.default_rng(8).normal(size=(2, 50))
    one, again, other = (evaluate_predictions(guess, y, seed=seed).records() for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert np.isnan(evaluate_predictions(guess, y, replicates=0).estimate("MAE").se)


@pytest.mark.parametrize(
    ("kind", "y", "guess", "expected"),
    [
        ("count", [0, 2, 5], [0.5, 2, 4], {"deviance": 2 * (0.5 + 5 * np.log(5 / 4) - 1) / 3}),
        ("positive", [1, 2], [2, 2], {"deviance": 2 * (-0.5 - np.log(0.5)) / 2}),
        ("ordered", [0, 1], [[0.5, 0.5], [0.2, 0.8]], {"accuracy": 1.0, "MAE": (0.5 + 0.2) / 2}),
        ("binary", [0, 1], [0.2, 0.6], {"Brier score": (0.04 + 0.16) / 2, "calibration error": 0.3}),
    ],
)
def test_kinds_of_responses(kind, y, guess, expected):
    found = evaluate_predictions(guess, y, kind=kind)
    for metric, value in expected.items():
        assert found.estimate(metric).value == pytest.approx(value), metric


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "counts"}, "did you mean 'count'"),
        ({"kind": "count"}, "above 0"),
        ({"kind": "binary", "clip": (0, 1)}, "clip"),
        ({"by": [1]}, "by"),
        ({"replicates": -1}, "replicates"),
        ({"level": 95}, "level"),
    ],
)
def test_errors(options, words):
    with pytest.raises(ranef.RanefError, match=words):
        evaluate_predictions([0.0, 1.0], [0, 1], **options)


def test_asking_for_what_is_not_there():
    found = evaluate_predictions({"a": [1, 2]}, [1, 2])
    with pytest.raises(ranef.OptionError, match="metric='AUC'"):
        found.estimate("AUC")
    with pytest.raises(ranef.OptionError, match="model='b'"):
        found.difference("RMSE", "a", "b")
    with pytest.raises(ranef.OptionError, match="has none"):
        found.calibration()
