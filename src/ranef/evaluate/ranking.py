"""Recommenders on full rankings: every item that a test user has not yet is a candidate."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ranef.errors import DataError, OptionError, counted, nearest
from ranef.evaluate.baselines import Popularity
from ranef.evaluate.evaluation import Evaluation, Sampling, Subject
from ranef.evaluate.implicit import folded_in
from ranef.evaluate.interactions import RankingData
from ranef.evaluate.lists import Lists, top_lists
from ranef.evaluate.statistics import Statistic, ratio
from ranef.evaluate.units import units_of
from ranef.result.fit import Fit
from ranef.result.implicit_fit import ImplicitFit
from ranef.table import FloatArray, preferred_library

METRICS = ("recall", "precision", "ndcg", "map", "mrr", "coverage", "novelty")
DEFAULT = ("recall@20", "recall@50", "ndcg@100", "precision@10", "map@10", "mrr@10", "coverage@10", "novelty@10")
# scores of a batch of users
SCORES = 1 << 23

Rows: TypeAlias = npt.NDArray[np.int64]


class Recommender(Protocol):
    """What scores items for users whom it knows by the items they have."""

    def scores(self, seen: sparse.csr_array, /) -> npt.NDArray[Any]:
        """Scores, shape (users, items), for users who have the items ``seen``, of the same shape."""


class Baseline(Protocol):
    """A recommender to be fitted."""

    @property
    def name(self) -> str: ...

    def fit(self, train: sparse.csr_array, /) -> Recommender:
        """Learn from who has what, shape (users, items)."""


Scorer: TypeAlias = Recommender | ImplicitFit | Callable[[Rows], npt.ArrayLike] | npt.NDArray[Any]


class Metric(NamedTuple):
    """A metric of lists of length ``k``."""

    name: str
    k: int


def evaluate_ranking(
    recommenders: Scorer | Mapping[str, Scorer],
    data: RankingData,
    *,
    metrics: str | Sequence[str] = DEFAULT,
    baselines: Sequence[Baseline] = (Popularity(),),
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    library: str | None = None,
) -> Evaluation:
    """Evaluate recommenders on full rankings, beside simple ones.

    Parameters
    ----------
    recommenders : recommender, or mapping of str to recommender
        Each is a function from rows of ``data.users`` (int64 array) to scores, shape (rows, items); an object with a
        method ``scores(seen)``, such as a fitted baseline; a fit of ``family="implicit"``, which folds every user in by
        the items of ``data.seen``, each of confidence 1; or the array of all scores, shape (users, items). Items are
        in the order of ``data.items``, so that the factors of another library are
        ``lambda users: user_factors[users] @ item_factors.T``; `fit_scores` makes the function of a fit. A score of
        minus infinity means that the item is never listed.
    data : RankingData
        See `ranking_data`.
    metrics : str or sequence of str
        ``"ndcg@100"`` and the like, of recall, precision, ndcg, map, mrr, coverage and novelty.
    baselines : sequence
        Recommenders that are fitted to ``data.train`` here and evaluated too: `Popularity`, `ItemKNN`, `Ease`.
    replicates, level, seed
        Bootstrap samples of the users, coverage of the intervals, seed of the samples.
    library : {"pandas", "polars", "pyarrow", "dict"}, optional
        Of the tables; default: pandas if it is installed, else polars, else Arrow.

    Returns
    -------
    Evaluation

    Raises
    ------
    OptionError
        A metric is unknown, or scores have another shape.
    DataError
        Scores are NaN; there is nothing to find.

    Notes
    -----
    A user's candidates are all items but those of ``data.seen``, by falling score; H are the user's items to be found.
    Users without any do not count.

    - recall@k: hits among the first k over ``min(k, |H|)`` (as Liang et al. 2018; not over ``|H|``).
    - precision@k: hits among the first k over k.
    - ndcg@k: the sum over hits of ``1 / log2(place + 1)`` over the same sum for the places 1 to ``min(k, |H|)``.
    - map@k: the sum over hits of the precision at their places, over ``min(k, |H|)``.
    - mrr@k: one over the place of the first hit, 0 where it is not among the first k.
    - coverage@k: the share of all items that are in somebody's first k. It is no mean over users and has no error.
    - novelty@k: mean over the first k of ``-log2`` of the share of training users who have the item, in bits (an item
      that nobody has counts as one that one user has; Zhou et al. 2010).

    Items with equal scores are in no order: metrics are expected values over all of them (McSherry and Najork 2008,
    ECIR), so that a model that scores everything alike is worth what chance is, whatever the order of the items. Only
    coverage and novelty need one list; there equal scores are in the order of the items.

    Users are scored in batches that hold 8 million scores.

    Examples
    --------
    >>> import ranef
    >>> pairs = ranef.data.insteval().select(["s", "d"])
    >>> split = ranef.evaluate.split_strong(pairs, "s", "d", test=200)
    >>> data = ranef.evaluate.ranking_data(split.train, split.test, "s", "d", split.fold_in)
    >>> ease = ranef.evaluate.Ease(penalty=100).fit(data.train)
    >>> found = ranef.evaluate.evaluate_ranking({"EASE": ease}, data, metrics=["recall@20", "ndcg@100"])
    >>> print(found)                                                      # doctest: +SKIP
    """
    wanted = [_metric(one) for one in ([metrics] if isinstance(metrics, str) else metrics)]
    sampling = Sampling(replicates, level, seed)
    models = _models(recommenders, baselines, data)
    counts = np.diff(data.test.indptr)
    users = np.flatnonzero(counts)
    if not len(users) or not wanted:
        raise DataError("no user has an item to be found" if wanted else "no metrics were asked for")
    if not models:
        raise OptionError("there is nothing to evaluate: give a recommender or a baseline")
    statistics: dict[tuple[str, str], Statistic] = {}
    fixed: dict[tuple[str, str], float] = {}
    information, units = _information(data.train), units_of(None, len(users), seed)
    for model, scorer in models.items():
        values, listed = _evaluate(scorer, model, data, users, wanted, information)
        for one in wanted:
            key = (model, f"{one.name}@{one.k}")
            if one.name == "coverage":
                fixed[key] = len(listed[one.k]) / max(len(data.items), 1)
            else:
                sums = units.sums_of_units(values[one], np.ones(len(users)))
                statistics[key] = Statistic(sums, ratio, higher=True)
    names = [f"{one.name}@{one.k}" for one in dict.fromkeys(wanted)]
    notes = _notes(data, len(users), int(counts.sum()))
    subject = Subject("users", len(users), len(users), data.dropped, notes, library or preferred_library())
    return Evaluation(statistics, fixed, names, subject, sampling)


def _metric(text: str) -> Metric:
    found = re.fullmatch(r"([a-z]+)@([1-9][0-9]*)", str(text).lower())
    if found is None or found[1] not in METRICS:
        close = nearest(str(text).partition("@")[0], METRICS, 1)
        guess = f"; did you mean '{close[0]}@{str(text).partition('@')[2] or 20}'?" if close else ""
        raise OptionError(
            f"metrics: {text!r} is not known; write {', '.join(METRICS)} with a length, 'ndcg@100'{guess}"
        )
    return Metric(found[1], int(found[2]))


def _models(
    recommenders: Scorer | Mapping[str, Scorer], baselines: Sequence[Baseline], data: RankingData
) -> dict[str, Scorer]:
    models: dict[str, Scorer] = dict(recommenders) if isinstance(recommenders, Mapping) else {"model": recommenders}
    for name, scorer in models.items():
        if isinstance(scorer, ImplicitFit):
            models[name] = folded_in(scorer, data)
        elif isinstance(scorer, Fit):
            raise OptionError(f"model {name!r} is a fit of responses: make scores of it with fit_scores()")
    for one in baselines:
        if one.name not in models:
            models[one.name] = one.fit(data.train)
    return models


def _evaluate(
    scorer: Scorer, model: str, data: RankingData, users: Rows, wanted: Sequence[Metric], information: FloatArray
) -> tuple[dict[Metric, FloatArray], dict[int, Rows]]:
    depth = max(one.k for one in wanted)
    values: dict[Metric, list[FloatArray]] = {one: [] for one in wanted}
    listed: dict[int, Rows] = {one.k: np.empty(0, np.int64) for one in wanted if one.name == "coverage"}
    for lists in _lists(scorer, model, data, users, depth):
        for one in values:
            if one.name == "coverage":
                listed[one.k] = np.union1d(listed[one.k], lists.listed(one.k))
            elif one.name == "novelty":
                values[one].append(lists.novelty(one.k, information))
            else:
                values[one].append(getattr(lists, one.name)(one.k))
    return {one: np.concatenate(parts) for one, parts in values.items() if parts}, listed


def _lists(scorer: Scorer, model: str, data: RankingData, users: Rows, depth: int) -> Iterator[Lists]:
    size = max(1, SCORES // max(len(data.items), 1))
    for at in range(0, len(users), size):
        batch = users[at : at + size]
        seen = data.seen[batch]
        scores = np.asarray(_scores(scorer, batch, seen))
        if scores.shape != seen.shape:
            raise OptionError(
                f"model {model!r}: the scores of {counted(len(batch), 'user')} have shape {scores.shape}, and must "
                f"have {seen.shape}: one column for each of data.items"
            )
        if scores.dtype.kind != "f":
            scores = scores.astype(np.float64)
        if np.isnan(scores).any():
            user = data.users[batch[int(np.argmax(np.isnan(scores).any(axis=1)))]]
            raise DataError(
                f"model {model!r} gives scores that are no numbers, the first to user {user!r}; "
                "give minus infinity for an item that is not to be listed"
            )
        yield top_lists(scores, seen, data.test[batch], depth)


def _scores(scorer: Scorer, users: Rows, seen: sparse.csr_array) -> npt.ArrayLike:
    if isinstance(scorer, np.ndarray):
        return scorer[users]
    method = getattr(scorer, "scores", None)
    if callable(method):
        found: npt.ArrayLike = method(seen)
        return found
    if callable(scorer):
        return scorer(users)
    raise OptionError(
        f"a recommender is a function of users, an object with scores(seen), or an array; not {type(scorer).__name__}"
    )


def _information(train: sparse.csr_array) -> FloatArray:
    """Self-information of each item, bits, shape (items,)."""
    counts = np.maximum(np.asarray(train.sum(axis=0), np.float64).ravel(), 1.0)
    return np.asarray(np.log2(max(train.shape[0], 1)) - np.log2(counts))


def _notes(data: RankingData, users: int, pairs: int) -> tuple[str, ...]:
    notes = [f"Full rankings of {len(data.items):,} items for {counted(users, 'user')}; {pairs:,} to be found"]
    if data.dropped:
        notes.append(f"{counted(data.dropped, 'pair')} left out: unknown items, or known already")
    without = len(data.users) - users
    if without:
        notes.append(f"{counted(without, 'user')} without anything to be found: not counted")
    return tuple(notes)
