"""Scores of implicit feedback: pairs, whole rankings, and vectors of users who were not there in fitting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ranef.artifact.implicit import FloatArray, ImplicitModel, Vectors
from ranef.design.columns import Column, Operation, evaluate, leaves
from ranef.design.pairs import checked_confidence
from ranef.errors import DataError
from ranef.score.rows import Unknown, match
from ranef.table import MISSING, UNKNOWN, CodeArray, Factor, Levels, Source, read_table, used

IntArray = npt.NDArray[np.int64]

# scores, and numbers of gathered vectors, that are held at once
SCORES = 1 << 23
NUMBERS = 1 << 22


@dataclass(frozen=True, eq=False)
class PairScores:
    """Scores of pairs, shape (rows,): NaN where a value is missing, 0 for a user or item that is not in the model."""

    scores: FloatArray
    missing: int
    unknown: dict[str, Unknown]


@dataclass(frozen=True, eq=False)
class Known:
    """What users are folded in from.

    Attributes
    ----------
    users : Levels
    start : int64 array, shape (users + 1,)
    item : int32 array, shape (pairs,)
        Codes of the model's items.
    confidence : float64 array, shape (pairs,)
    left_out : int
        Rows with an item that is not in the model, a missing value or no confidence.
    """

    users: Levels
    start: IntArray
    item: CodeArray
    confidence: FloatArray
    left_out: int


def pair_scores(model: ImplicitModel, source: Source) -> PairScores:
    """The score of every row's pair.

    Raises
    ------
    OptionError, DataError
        A column is not in the data, or of another type than in the fit.
    """
    spec = model.spec
    table = read_table(source, numbers=(), factors=sorted({spec.user, spec.item}))
    codes, unknown = {}, {}
    for name, levels in ((spec.user, model.users), (spec.item, model.items)):
        codes[name] = match(name, table.factors[name], levels)
        new = codes[name] == UNKNOWN
        if new.any():
            row = int(np.argmax(new))
            factor = table.factors[name]
            unknown[name] = Unknown(int(new.sum()), row, factor.levels.labels[factor.codes[row]])
    user, item = codes[spec.user], codes[spec.item]
    scores = np.zeros(table.rows)
    scores[(user == MISSING) | (item == MISSING)] = np.nan
    both = np.flatnonzero((user >= 0) & (item >= 0))
    size = max(1, NUMBERS // model.rank)
    for first in range(0, len(both), size):
        rows = both[first : first + size]
        p, q = model.user_vectors[user[rows]], model.item_vectors[item[rows]]
        scores[rows] = np.einsum("nk,nk->n", p, q, dtype=np.float64)
    return PairScores(scores, int(np.isnan(scores).sum()), unknown)


def read_known(model: ImplicitModel, source: Source) -> Known:
    """The pairs of users to be folded in; rows of the same pair add their confidences.

    Raises
    ------
    OptionError, DataError
    """
    spec = model.spec
    confidence = spec.confidence
    found = [] if confidence is None else leaves(confidence)
    numbers = sorted({leaf.name for leaf in found if isinstance(leaf, Column)})
    extra = {leaf.column for leaf in found if not isinstance(leaf, Column)}
    table = read_table(source, numbers=numbers, factors=sorted({spec.user, spec.item} | extra))
    size = np.ones(table.rows) if confidence is None else evaluate(cast(Operation, confidence), table)
    item = match(spec.item, table.factors[spec.item], model.items)
    users = table.factors[spec.user]
    whole = (item >= 0) & (users.codes >= 0) & ~np.isnan(size)
    checked_confidence(np.where(whole, size, 0.0), spec.label)
    kept = whole & (size > 0)
    chosen = used(Factor(users.codes[users.codes >= 0], users.levels))
    place = np.full(len(users.levels) + 2, -1, np.int64)
    place[users.codes[users.codes >= 0]] = chosen.codes
    start, item, size = sums_of_pairs(place[users.codes[kept]], item[kept], size[kept], len(chosen.levels))
    return Known(chosen.levels, start, item, size, int(np.count_nonzero(~kept)))


def sums_of_pairs(
    user: npt.NDArray[np.integer], item: CodeArray, confidence: FloatArray, users: int
) -> tuple[IntArray, CodeArray, FloatArray]:
    """Pairs in the order of the users, then of the items, each once with the sum of its confidences."""
    order = np.lexsort((item, user))
    user, item, confidence = user[order], item[order], confidence[order]
    first = np.ones(len(user), np.bool_)
    first[1:] = (np.diff(user) != 0) | (np.diff(item) != 0)
    if len(user):
        confidence = np.add.reduceat(confidence, np.flatnonzero(first))
    user, item = user[first], item[first]
    start = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=users))]).astype(np.int64)
    return start, item, confidence


def folded_vectors(model: ImplicitModel, start: IntArray, item: CodeArray, confidence: FloatArray) -> FloatArray:
    """The vectors of users that minimise the fit's objective for its items, shape (users, rank); exact, float64.

    Parameters
    ----------
    start : int64 array, shape (users + 1,); item : int32 array, shape (pairs,); confidence : float64 array
        As in `Known`.
    """
    weights, rank = model.info.weights, model.rank
    totals = np.array([confidence[a:b].sum() for a, b in pairwise(start)])
    penalty = weights.penalties(totals, len(model.items))
    # in these columns the part of a user's system that is not of his own pairs is diagonal
    values, rotation = np.linalg.eigh(weights.unobserved * model.gram)
    values = np.maximum(values, 0.0)
    out = np.zeros((len(start) - 1, rank))
    for u, (first, last) in enumerate(pairwise(start)):
        c = confidence[first:last]
        q = model.item_vectors[item[first:last]].astype(np.float64) @ rotation
        own = values + penalty[u]
        right = q.T @ (c + weights.unobserved)
        if len(c) < rank:
            # few pairs: a system of their number (Woodbury)
            scaled = q / own
            inner = np.linalg.solve(np.diag(1 / c) + scaled @ q.T, scaled @ right)
            out[u] = right / own - scaled.T @ inner
        else:
            out[u] = np.linalg.solve(np.diag(own) + q.T @ (c[:, None] * q), right)
    back: FloatArray = out @ rotation.T
    return back


def with_users(model: ImplicitModel, known: Known) -> ImplicitModel:
    """The model with these users' vectors, which replace those of users that it has.

    Raises
    ------
    DataError
        A new user is no value of the type of the fit's users.
    """
    vectors = folded_vectors(model, known.start, known.item, known.confidence).astype(np.float32)
    place = match(model.spec.user, Factor(np.arange(len(known.users), dtype=np.int32), known.users), model.users)
    old, new = place >= 0, place == UNKNOWN
    kept = model.user_vectors.copy()
    kept[place[old]] = vectors[old]
    kind = model.users.values.type
    try:
        values = known.users.values.filter(pa.array(new)).cast(kind)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"column {model.spec.user!r} has new values that are no {kind}, the type of the fit's ({error}); give them "
            "as the fit has them",
            column=model.spec.user,
        ) from error
    levels = Levels(pa.concat_arrays([model.users.values, values]), model.users.ordered, model.users.declared)
    return replace(model, users=levels, user_vectors=np.concatenate([kept, vectors[new]]))


def score_batches(users: Vectors | FloatArray, items: Vectors) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Scores of all items for some users at a time, shape (some users, items), and the first one's place."""
    size = max(1, SCORES // len(items))
    for first in range(0, len(users), size):
        yield first, users[first : first + size].astype(np.float32, copy=False) @ items.T
