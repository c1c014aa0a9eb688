"""Splits, metrics with their uncertainty, simple baselines, and the evaluation of fits and recommenders."""

from ranef.evaluate.baselines import Biases, Ease, GlobalMean, ItemKNN, Popularity
from ranef.evaluate.curve import Calibration, calibration
from ranef.evaluate.evaluation import Evaluation
from ranef.evaluate.fit_scores import fit_scores
from ranef.evaluate.fits import evaluate_fit
from ranef.evaluate.interactions import RankingData, ranking_data
from ranef.evaluate.metrics import auc, group_auc, log_loss, mae, rmse
from ranef.evaluate.predictions import evaluate_predictions
from ranef.evaluate.ranking import evaluate_ranking
from ranef.evaluate.splits import (
    Split,
    StrongSplit,
    split_by_time,
    split_folds,
    split_last,
    split_new,
    split_random,
    split_strong,
)
from ranef.evaluate.statistics import Estimate

__all__ = [
    "Biases",
    "Calibration",
    "Ease",
    "Estimate",
    "Evaluation",
    "GlobalMean",
    "ItemKNN",
    "Popularity",
    "RankingData",
    "Split",
    "StrongSplit",
    "auc",
    "calibration",
    "evaluate_fit",
    "evaluate_predictions",
    "evaluate_ranking",
    "fit_scores",
    "group_auc",
    "log_loss",
    "mae",
    "ranking_data",
    "rmse",
    "split_by_time",
    "split_folds",
    "split_last",
    "split_new",
    "split_random",
    "split_strong",
]


def __dir__() -> list[str]:
    return __all__
