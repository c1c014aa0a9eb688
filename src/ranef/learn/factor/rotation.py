"""Coordinates of the vectors that the data do not choose: turned so that both sides have one diagonal covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.learn.factor.priors import main_member, pack, unpack
from ranef.solve.sides import Term
from ranef.solve.sweeps import Parameters, State

FloatArray = npt.NDArray[np.float64]

LEVELS_A_PIECE = 1 << 12


@dataclass(frozen=True, eq=False)
class Turned:
    """One member's vectors in the new coordinates.

    Attributes
    ----------
    vectors : float64 array, shape (levels, k)
    spread : float32 array, shape (levels, width)
    covariance : float64 array, shape (k, k)
    """

    vectors: FloatArray
    spread: npt.NDArray[np.float32]
    covariance: FloatArray


def turns(state: State, parameters: Parameters, term: Term) -> list[FloatArray]:
    """For each side, the matrix that its vectors are multiplied by; products stay what they are.

    Two sides get the same diagonal covariance, descending. The products among more sides allow rotations only: these
    make the sum of all sides' covariances diagonal.
    """
    covariances = []
    for place in term.sides:
        main = main_member(state.sides.sides[place], term.rank)
        covariances.append(parameters.covariances[place][main][: term.rank, : term.rank])
    if len(term.sides) > 2:
        _, vectors = np.linalg.eigh(np.sum(covariances, axis=0))
        return [np.ascontiguousarray(vectors[:, ::-1].T)] * len(term.sides)
    root = np.linalg.cholesky(covariances[0])
    values, vectors = np.linalg.eigh(root.T @ covariances[1] @ root)
    values, vectors = np.sqrt(values[::-1].clip(1e-300)), vectors[:, ::-1]
    # covariance of one side: the roots of the eigenvalues; of the other, by the inverse, the same
    first = np.sqrt(values)[:, None] * np.linalg.solve(root.T, vectors).T
    second = (root @ vectors / np.sqrt(values)).T
    return [first, second]


def rotations(state: State, parameters: Parameters, term: Term) -> list[FloatArray]:
    """As `turns`, by one rotation: the sum of the squares of all sides' vectors becomes diagonal, descending."""
    squares = np.zeros((term.rank, term.rank))
    for place in term.sides:
        own = state.coefficients[place][main_member(state.sides.sides[place], term.rank)]
        vectors = own.vectors.astype(np.float64)
        squares += vectors.T @ vectors / len(vectors)
    _, directions = np.linalg.eigh(squares)
    return [np.ascontiguousarray(directions[:, ::-1].T)] * len(term.sides)


def turned(state: State, parameters: Parameters, place: int, member: int, turn: FloatArray, scale: float) -> Turned:
    """A member's vectors, spreads and covariance in the new coordinates, all times ``scale``."""
    of = state.coefficients[place][member]
    k, width = of.vectors.shape[1], of.spread.shape[1]
    spread = np.empty((len(of.spread), width), np.float32)
    for start in range(0, len(spread) if width else 0, LEVELS_A_PIECE):
        piece = slice(start, start + LEVELS_A_PIECE)
        covariance = turn @ unpack(of.spread[piece].astype(np.float64), k) @ turn.T
        spread[piece] = pack(scale**2 * covariance, width)
    own = parameters.covariances[place][member][:k, :k]
    return Turned(scale * of.vectors.astype(np.float64) @ turn.T, spread, scale**2 * turn @ own @ turn.T)
