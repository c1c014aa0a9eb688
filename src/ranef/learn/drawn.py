"""What chains leave: every draw of the parameters, some of the random effects, and the moments of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Drawn:
    """What the chains left.

    Attributes
    ----------
    beta : float64 array, shape (chains, draws, p)
        Raw units.
    phi : float64 array, shape (chains, draws, parameters of the family)
        Raw units.
    covariances : tuple of float64 arrays (chains, draws, k, k)
    log_posterior : float64 array, shape (chains, draws)
    kept : int64 array
        Draws whose random effects are kept, chain after chain.
    effects : tuple of float64 arrays (levels, k, kept)
    mean : tuple of float64 arrays (levels, k)
        Of all draws.
    covariance : tuple of float64 arrays (levels, k, k)
    """

    beta: FloatArray
    phi: FloatArray
    covariances: tuple[FloatArray, ...]
    log_posterior: FloatArray
    kept: npt.NDArray[np.int64]
    effects: tuple[FloatArray, ...]
    mean: tuple[FloatArray, ...]
    covariance: tuple[FloatArray, ...]


def kept_draws(total: int, numbers: int, most: int, least: int) -> npt.NDArray[np.int64]:
    """Draws to keep of ``total``, evenly spaced: at least ``least``, and not more than ``most`` of their numbers."""
    count = min(total, max(least, most // max(1, numbers)))
    return np.unique(np.linspace(0, total - 1, count).round().astype(np.int64))


def empty_drawn(
    shape: tuple[int, int], p: int, parameters: int, groups: Sequence[tuple[int, int]], kept: npt.NDArray[np.int64]
) -> Drawn:
    """Room for (chains, draws) of ``p`` fixed effects, the family's parameters, and groups of (levels, k)."""
    return Drawn(
        beta=np.empty((*shape, p)),
        phi=np.empty((*shape, parameters)),
        covariances=tuple(np.empty((*shape, k, k)) for _, k in groups),
        log_posterior=np.empty(shape),
        kept=kept,
        effects=tuple(np.empty((n, k, len(kept))) for n, k in groups),
        mean=tuple(np.zeros((n, k)) for n, k in groups),
        covariance=tuple(np.zeros((n, k, k)) for n, k in groups),
    )


@dataclass(frozen=True, eq=False)
class Moments:
    """Of the random effects in the draws of one chain.

    Attributes
    ----------
    mean : tuple of float64 arrays (levels, k)
    square : tuple of float64 arrays (levels, k, k)
        Sums of the squares around it.
    """

    mean: tuple[FloatArray, ...]
    square: tuple[FloatArray, ...]


def empty_moments(out: Drawn) -> Moments:
    """Of no draw."""
    return Moments(tuple(np.zeros_like(one) for one in out.mean), tuple(np.zeros_like(one) for one in out.covariance))


def note_effects(out: Drawn, number: int, effects: Sequence[FloatArray], place: Mapping[int, int]) -> None:
    """Write the random effects of one draw of chains that run one after the other.

    Parameters
    ----------
    number : int
        Of the draw, chain after chain.
    effects : sequence of float64 arrays (levels, k)
    place : mapping
        Of kept draws, where they stand.
    """
    add_effects(Moments(out.mean, out.covariance), number, effects)
    keep_effects(out, number, effects, place)


def add_effects(moments: Moments, number: int, effects: Iterable[FloatArray]) -> None:
    """Add draw ``number`` of those that are added, 0 first, by Welford's recursion."""
    for b, mean, square in zip(effects, moments.mean, moments.square, strict=True):
        before = b - mean
        mean += before / (number + 1)
        square += before[:, :, None] * (b - mean)[:, None, :]


def keep_effects(out: Drawn, number: int, effects: Iterable[FloatArray], place: Mapping[int, int]) -> None:
    """Write the random effects of one draw, if it is one that is kept; parameters as of `note_effects`."""
    if number in place:
        for b, kept in zip(effects, out.effects, strict=True):
            kept[:, :, place[number]] = b


def join(out: Drawn, chains: Sequence[Moments]) -> None:
    """Bring the moments of chains of equal length together, in their order (Chan, Golub and LeVeque 1979)."""
    draws = out.log_posterior.shape[1]
    for chain, own in enumerate(chains):
        share = 1 / (chain + 1)
        for mean, square, its_mean, its_square in zip(out.mean, out.covariance, own.mean, own.square, strict=True):
            gap = its_mean - mean
            mean += share * gap
            square += its_square + draws * chain * share * gap[:, :, None] * gap[:, None, :]


def finish(out: Drawn) -> None:
    """Make covariances of the sums of squares."""
    for square in out.covariance:
        square /= max(out.log_posterior.size - 1, 1)
