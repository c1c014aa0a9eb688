"""The fitted model of implicit feedback: vectors of users and items, and how they were found."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ranef.artifact.seen import Seen
from ranef.design.pairs import PairsSpec
from ranef.table import Levels

FloatArray = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]


class Weights(msgspec.Struct, frozen=True):
    """What weighs how much: unobserved pairs, and the penalties ``penalty * (total weight of the row) ** exponent``."""

    unobserved: float
    penalty: float
    exponent: float

    def penalties(self, total: npt.NDArray[Any], partners: int) -> FloatArray:
        """The penalty of each level's vector, shape (levels,).

        Parameters
        ----------
        total : array, shape (levels,)
            Sum of the confidences of each level's pairs.
        partners : int
            Levels of the other side: with all of them it has at least the unobserved weight.
        """
        penalty: FloatArray = self.penalty * (total + self.unobserved * partners) ** self.exponent
        return penalty


class SweepRecord(msgspec.Struct, frozen=True):
    """A sweep over both sides: its number, the objective after it, seconds since the first began."""

    iteration: int
    objective: float
    seconds: float


class TrialRecord(msgspec.Struct, frozen=True):
    """A setting tried on the validation users: NDCG@100 after the best number of sweeps, its error, seconds."""

    rank: int
    unobserved: float
    penalty: float
    exponent: float
    iterations: int
    ndcg: float
    se: float
    seconds: float


class ImplicitInfo(msgspec.Struct, frozen=True):
    """How the fit went.

    Attributes
    ----------
    nobs : int
        Rows used; ``pairs`` without repetitions.
    dropped, dropped_missing, dropped_zero : int, mapping of str to int, int
        Rows left out; by column that lacks a value; with confidence zero.
    weights : Weights
    objective : float
        With every user's vector at its minimum.
    converged : bool
        The sweeps ended because the objective hardly fell, or after as many as were asked for or as the validation
        users wanted; few sweeps are a choice too, that of less of a fit.
    history : tuple of SweepRecord
    chosen : tuple of str
        What of ``unobserved``, ``penalty`` and ``rank`` was chosen on validation users; ``trials`` are all settings.
    validation_users : int
        0 if nothing was chosen.
    """

    nobs: int
    pairs: int
    dropped: int
    dropped_missing: dict[str, int]
    dropped_zero: int
    weights: Weights
    objective: float
    converged: bool
    seconds: float
    history: tuple[SweepRecord, ...]
    chosen: tuple[str, ...]
    trials: tuple[TrialRecord, ...]
    validation_users: int
    versions: dict[str, str]


@dataclass(frozen=True, eq=False)
class ImplicitModel:
    """A fitted model of implicit feedback; the score of a pair is the inner product of its vectors.

    Attributes
    ----------
    spec : PairsSpec
    info : ImplicitInfo
    users, items : Levels
    user_vectors, item_vectors : float32 arrays, shapes (users, rank) and (items, rank)
        In principal axes of the items, largest first. Users are at the minimum of the objective for these items.
    seen : Seen or None
        The pairs of the fit, where they are kept.
    """

    spec: PairsSpec
    info: ImplicitInfo
    users: Levels
    items: Levels
    user_vectors: Vectors
    item_vectors: Vectors
    seen: Seen | None = None

    @property
    def rank(self) -> int:
        return int(self.item_vectors.shape[1])

    @cached_property
    def gram(self) -> FloatArray:
        """``item_vectors' item_vectors`` in float64, shape (rank, rank)."""
        total = np.zeros((self.rank, self.rank))
        for first in range(0, len(self.item_vectors), 4096):
            block = self.item_vectors[first : first + 4096].astype(np.float64)
            total += block.T @ block
        return total
