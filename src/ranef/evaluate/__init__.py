"""Splits, metrics with their uncertainty, simple baselines, and the evaluation of fits and recommenders."""

from ranef.evaluate.baselines import Ease, ItemKNN, Popularity
from ranef.evaluate.evaluation import Evaluation
from ranef.evaluate.interactions import RankingData, ranking_data
from ranef.evaluate.ranking import evaluate_ranking
from ranef.evaluate.splits import (
    Split,
    StrongSplit,
    split_by_time,
    split_last,
    split_new,
    split_random,
    split_strong,
)

__all__ = [
    "Ease",
    "Evaluation",
    "ItemKNN",
    "Popularity",
    "RankingData",
    "Split",
    "StrongSplit",
    "evaluate_ranking",
    "ranking_data",
    "split_by_time",
    "split_last",
    "split_new",
    "split_random",
    "split_strong",
]
