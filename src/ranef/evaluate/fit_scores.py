"""The predictions of a fit as the scores of a recommender."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ranef.errors import OptionError
from ranef.evaluate.interactions import RankingData
from ranef.result.fit import Fit
from ranef.score import predict
from ranef.table import FloatArray, from_numpy, open_source

# pairs predicted at a time
PAIRS = 1 << 20


def fit_scores(fit: Fit, data: RankingData, user: str, item: str) -> Callable[[npt.NDArray[np.int64]], FloatArray]:
    """A recommender for `evaluate_ranking` that lists the items with the largest predictions.

    Parameters
    ----------
    fit : Fit
        Of a model whose only columns are users and items, or that keeps the attributes of both; the larger its linear
        predictor the better. Users that it does not know get what the average user gets.
    data : RankingData
    user, item : str
        The columns' names in the formula.

    Returns
    -------
    callable
        From rows of ``data.users`` to linear predictors, shape (rows, items).

    Examples
    --------
    >>> import ranef
    >>> train, test = ranef.evaluate.split_random(ranef.data.insteval(), seed=1)
    >>> fit = ranef.fit("y ~ 1 + (1 | s) + (1 | d)", train)
    >>> data = ranef.evaluate.ranking_data(train, test, "s", "d")
    >>> found = ranef.evaluate.evaluate_ranking(ranef.evaluate.fit_scores(fit, data, "s", "d"), data, metrics="ndcg@20")
    >>> found.models
    ('model', 'popularity')
    """
    if not isinstance(fit, Fit) or user == item:
        raise OptionError("fit_scores() takes a fit, the data of rankings, and the columns of users and of items")
    users, items = (pa.array(values) for values in (data.users, data.items))
    count = len(items)
    size = max(1, PAIRS // max(count, 1))

    def scores(rows: npt.NDArray[np.int64]) -> FloatArray:
        found = np.empty((len(rows), count))
        for at in range(0, len(rows), size):
            part = rows[at : at + size].astype(np.int32)
            columns = {
                user: _repeated(np.repeat(part, count), users),
                item: _repeated(np.tile(np.arange(count, dtype=np.int32), len(part)), items),
            }
            found[at : at + size] = predict(fit.model, open_source(columns), kind="link").fit.reshape(-1, count)
        return found

    return scores


def _repeated(codes: npt.NDArray[np.int32], values: Any) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(from_numpy(codes), values)
