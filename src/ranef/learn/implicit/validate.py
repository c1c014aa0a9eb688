"""Validation users: left out of the fit, folded in from most of their pairs and asked for the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ranef.artifact.implicit import Weights
from ranef.engine.threads import Engine
from ranef.learn.implicit.pairs import Pairs, Vectors, from_users, some_users
from ranef.learn.implicit.sweeps import user_vectors

FloatArray = npt.NDArray[np.float64]

# share of the users, most and fewest of them, share of their items that is held out, fewest items of such a user
SHARE, MOST, FEWEST, HELD, LEAST = 0.2, 1000, 20, 0.2, 5
DEPTH = 100
# scores at once
SCORES = 1 << 23


@dataclass(frozen=True, eq=False)
class Validation:
    """Strong generalization within the training rows (Liang et al. 2018).

    Attributes
    ----------
    train : Pairs
        Of all users but the validation users; every item, also where it is theirs alone.
    known : Pairs
        What the validation users are folded in from.
    start : int64 array, shape (validation users + 1,); held : int32 array
        Their held-out items: ``held[start[u]:start[u + 1]]``, at least one each.
    """

    train: Pairs
    known: Pairs
    start: npt.NDArray[np.int64]
    held: npt.NDArray[np.int32]

    @property
    def users(self) -> int:
        return len(self.start) - 1


class Score(NamedTuple):
    """NDCG@100 of each validation user, and their mean."""

    users: FloatArray
    mean: float

    @property
    def error(self) -> float:
        """Standard error of the mean over the users."""
        return float(self.users.std(ddof=1) / np.sqrt(len(self.users)))


def validation_users(pairs: Pairs, seed: int) -> Validation | None:
    """A fifth of the users, at most 1,000, of those with 5 items or more; a fifth of each one's items is held out.

    Returns
    -------
    Validation or None
        None if these are fewer than 20 users.
    """
    counts = np.diff(pairs.by_user.start)
    able = np.flatnonzero(counts >= LEAST)
    wanted = min(MOST, int(SHARE * pairs.by_user.levels), len(able))
    if wanted < FEWEST:
        return None
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    chosen = np.sort(random.choice(able, wanted, replace=False))
    asked = some_users(pairs, chosen).by_user
    keep = np.ones(len(asked.partner), np.bool_)
    for first, last in zip(asked.start[:-1], asked.start[1:], strict=True):
        n = int(last - first)
        keep[first + random.choice(n, max(1, int(HELD * n)), replace=False)] = False
    others = np.setdiff1d(np.arange(pairs.by_user.levels), chosen)
    return Validation(
        train=some_users(pairs, others),
        known=from_users(_kept(asked.start, keep), asked.partner[keep], asked.confidence[keep], pairs.by_item.levels),
        start=_kept(asked.start, ~keep),
        held=asked.partner[~keep],
    )


def ndcg(validation: Validation, weights: Weights, items: Vectors, engine: Engine) -> Score:
    """NDCG@100 of the validation users for given items; candidates are all items that they are not folded in with."""
    users = user_vectors(validation.known, weights, items, engine)
    size = max(1, SCORES // len(items))
    pieces = [(first, min(first + size, len(users))) for first in range(0, len(users), size)]
    found = engine.each(pieces, _ndcg, validation, users, items)
    values = np.concatenate(found)
    return Score(values, float(values.mean()))


def _ndcg(first: int, last: int, validation: Validation, users: Vectors, items: Vectors) -> FloatArray:
    scores = users[first:last] @ items.T
    known, start, held = validation.known.by_user, validation.start, validation.held
    rows = np.repeat(np.arange(last - first), np.diff(known.start[first : last + 1]))
    scores[rows, known.partner[known.start[first] : known.start[last]]] = -np.inf
    depth = min(DEPTH, scores.shape[1])
    counts = np.diff(start[first : last + 1])
    rows = np.repeat(np.arange(last - first), counts)
    wanted = scores[rows, held[start[first] : start[last]]]
    # the place of a hit: one more than the candidates with a higher score, looked for among the best ones only
    best = -np.sort(-np.partition(scores, scores.shape[1] - depth, axis=1)[:, -depth:], axis=1)
    place = np.count_nonzero(best[rows] > wanted[:, None], axis=1)
    gain = np.where(place < depth, 1 / np.log2(place + 2.0), 0.0)
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(depth) + 2.0))])
    values: FloatArray = np.bincount(rows, gain, last - first) / ideal[np.minimum(counts, depth)]
    return values


def _kept(start: npt.NDArray[np.int64], keep: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(keep)])[start].astype(np.int64)
