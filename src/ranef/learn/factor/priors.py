"""Covariances of vectors and effects, in closed form from the moments of a variational posterior."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ranef.prior import Layout, Structure
from ranef.solve.sides import Side, Sides
from ranef.solve.sweeps import Coefficients, Parameters, State

FloatArray = npt.NDArray[np.float64]

# a factor with fewer levels for each number of a vector has the covariance of the side's largest factor, scaled
LEVELS_A_NUMBER = 4


def unpack(spread: npt.NDArray[np.floating], k: int) -> FloatArray:
    """Covariances (..., k, k) from packed or diagonal ones."""
    out = np.zeros((*spread.shape[:-1], k, k))
    if spread.shape[-1] == k:
        out[..., np.arange(k), np.arange(k)] = spread
    elif spread.shape[-1]:
        i, j = np.tril_indices(k)
        out[..., i, j] = spread
        out[..., j, i] = spread
    return out


def pack(covariance: FloatArray, width: int) -> npt.NDArray[np.float32]:
    """The diagonals of covariances (..., k, k) if ``width`` is k, else their lower triangles by rows."""
    k = covariance.shape[-1]
    i, j = (np.arange(k), np.arange(k)) if width == k else np.tril_indices(k)
    return np.ascontiguousarray(covariance[..., i, j], np.float32)


def second_moments(of: Coefficients) -> FloatArray:
    """Sum over the levels of the expected squares of their vectors, shape (k, k)."""
    k = of.vectors.shape[1]
    vectors = of.vectors.astype(np.float64)
    return np.asarray(vectors.T @ vectors + unpack(of.spread.sum(axis=0, dtype=np.float64), k))


def main_member(side: Side, rank: int) -> int:
    """The member whose levels tell most of the side's covariance."""
    single = [m for m, member in enumerate(side.members) if np.all(np.diff(member.start) == 1)]
    return max(single or range(len(side.members)), key=lambda m: side.members[m].levels)


def is_scaled(side: Side, m: int, rank: int) -> bool:
    """Whether a member's vectors have the covariance of the main member's times a number."""
    return m != main_member(side, rank) and side.members[m].levels < LEVELS_A_NUMBER * rank


def closed_form(state: State, layout: Layout, before: Parameters, squares: float) -> Parameters:
    """The parameters that raise the bound most, given the posterior's moments.

    Parameters
    ----------
    layout : Layout
        Structures of the design's grouping factors.
    before : Parameters
    squares : float
        Expected weighted squares of the residuals.
    """
    covariances = tuple(
        _side_covariances(side, of, old, layout, state.sides)
        for side, of, old in zip(state.sides.sides, state.coefficients, before.covariances, strict=True)
    )
    return Parameters(squares / len(state.residual), covariances)


def _side_covariances(
    side: Side, of: Sequence[Coefficients], old: Sequence[FloatArray], layout: Layout, sides: Sides
) -> tuple[FloatArray, ...]:
    rank = 0 if side.term is None else sides.terms[side.term].rank
    vectors = _vector_covariances(side, of, [one[:rank, :rank] for one in old], rank)
    out = []
    for member, own, vector in zip(side.members, of, vectors, strict=True):
        covariance = np.zeros((len(member.columns),) * 2)
        covariance[:rank, :rank] = vector
        if member.group is not None:
            mean = (own.effects.T @ own.effects + own.extra.sum(axis=0)) / member.levels
            covariance[rank:, rank:] = structured(mean, layout.blocks[member.group])
        out.append(covariance)
    return tuple(out)


def _vector_covariances(
    side: Side, of: Sequence[Coefficients], old: Sequence[FloatArray], rank: int
) -> list[FloatArray]:
    if rank == 0:
        return [np.zeros((0, 0)) for _ in side.members]
    main = main_member(side, rank)
    sums = [second_moments(own) for own in of]
    levels = [member.levels for member in side.members]
    scaled = [m for m in range(len(levels)) if is_scaled(side, m, rank)]
    out = [total / count for total, count in zip(sums, levels, strict=True)]
    # a scale given the shape, then the shape given the scales: each raises the bound
    shape = old[main]
    scales = {m: float(np.trace(np.linalg.solve(shape, sums[m]))) / (levels[m] * rank) for m in scaled}
    total = sums[main] + sum((sums[m] / scales[m] for m in scaled), np.zeros((rank, rank)))
    out[main] = total / (levels[main] + sum(levels[m] for m in scaled))
    for m in scaled:
        out[m] = scales[m] * out[main]
    return out


def structured(mean: FloatArray, structures: Sequence[Structure]) -> FloatArray:
    """The covariance of the terms' structures that a mean of squares, shape (kx, kx), gives."""
    out = np.zeros_like(mean)
    at = 0
    for structure in structures:
        own = slice(at, at + structure.size)
        block = mean[own, own]
        if structure.kind == "diagonal":
            block = np.diag(np.diag(block))
        elif structure.kind == "identity":
            block = np.eye(structure.size) * np.mean(np.diag(block))
        out[own, own] = block
        at += structure.size
    return out


def log_prior_gap(state: State, parameters: Parameters) -> float:
    """Minus the divergence of all levels' posteriors from their priors: the bound's part besides the rows'."""
    total = 0.0
    for side, of, covariances in zip(state.sides.sides, state.coefficients, parameters.covariances, strict=True):
        rank = 0 if side.term is None else state.sides.terms[side.term].rank
        for member, own, covariance in zip(side.members, of, covariances, strict=True):
            d = len(member.columns)
            squares = np.zeros((d, d))
            squares[:rank, :rank] = second_moments(own)
            squares[rank:, rank:] = own.effects.T @ own.effects + own.extra.sum(axis=0)
            _, logdet = np.linalg.slogdet(covariance)
            total += 0.5 * (
                float(own.moments[:, 0].sum())
                - member.levels * logdet
                - float(np.trace(np.linalg.solve(covariance, squares)))
                + member.levels * d
            )
    return total
