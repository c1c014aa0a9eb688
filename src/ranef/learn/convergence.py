"""Whether chains of draws have come together, and how many independent draws they are worth.

Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Rank-normalization, folding, and localization: an improved R-hat
for assessing convergence of MCMC, Bayesian Analysis 16. Every function takes draws of one quantity, shape (chains,
draws); all give NaN where these do not move or are not finite.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

FloatArray = npt.NDArray[np.float64]

# half a chain needs some draws to have a variance and autocorrelations
LEAST_DRAWS = 4


def rhat(draws: FloatArray) -> float:
    """Potential scale reduction: near 1 where every half of every chain says the same of location and spread."""
    halves = _split(draws)
    if not _moves(halves):
        return float("nan")
    folded = np.abs(halves - np.median(halves))
    return max(_scale_reduction(_normal_scores(halves)), _scale_reduction(_normal_scores(folded)))


def ess_bulk(draws: FloatArray) -> float:
    """Independent draws that would tell the centre of the distribution as well."""
    halves = _split(draws)
    return _effective(_normal_scores(halves)) if _moves(halves) else float("nan")


def ess_tail(draws: FloatArray) -> float:
    """Independent draws that would tell the quantiles at 5 % and 95 % as well, the worse of both."""
    halves = _split(draws)
    if not _moves(halves):
        return float("nan")
    low, high = np.quantile(halves, [0.05, 0.95])
    return min(_effective((halves <= low).astype(np.float64)), _effective((halves >= high).astype(np.float64)))


def mean_error(draws: FloatArray) -> float:
    """Monte-Carlo standard error of the mean of all draws."""
    halves = _split(draws)
    return float(np.std(halves, ddof=1) / np.sqrt(_effective(halves))) if _moves(halves) else float("nan")


def _split(draws: FloatArray) -> FloatArray:
    """Each chain's halves as chains of their own; of an odd number the middle draw is left out."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, draws.shape[1] - half :]])


def _moves(halves: FloatArray) -> bool:
    return halves.shape[1] >= LEAST_DRAWS and bool(np.all(np.isfinite(halves))) and bool(np.ptp(halves) > 0)


def _normal_scores(draws: FloatArray) -> FloatArray:
    # ties share the mean of their ranks; scipy.stats has this too, and takes half a second to import
    _, place, counts = np.unique(draws, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place].reshape(draws.shape)
    return np.asarray(ndtri((ranks - 0.375) / (draws.size + 0.25)))


def _scale_reduction(draws: FloatArray) -> float:
    length = draws.shape[1]
    within = float(np.mean(np.var(draws, axis=1, ddof=1)))
    between = float(np.var(np.mean(draws, axis=1), ddof=1))
    if within == 0.0:
        return float("nan")
    return float(np.sqrt((length - 1) / length + between / within))


def _effective(draws: FloatArray) -> float:
    """Effective sample size by Geyer's initial monotone sequence over all chains."""
    chains, length = draws.shape
    covariance = _autocovariances(draws).mean(axis=0)
    within = covariance[0] * length / (length - 1)
    total = covariance[0] + float(np.var(np.mean(draws, axis=1), ddof=1))
    if total == 0.0:
        return float("nan")
    correlation = 1.0 - (within - covariance) / total
    correlation[0] = 1.0
    # sums of neighbours are positive and fall for a reversible chain: where they do not is noise
    pairs = correlation[: length - length % 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs < 0.0)
    pairs = np.minimum.accumulate(pairs[: negative[0]] if len(negative) else pairs)
    time = -1.0 + 2.0 * float(pairs.sum())
    # antithetic chains may be worth more than their draws, but not more than this
    return float(chains * length / max(time, 1.0 / np.log10(chains * length)))


def _autocovariances(draws: FloatArray) -> FloatArray:
    """Of each chain, shape (chains, draws); divided by the number of draws."""
    length = draws.shape[1]
    centred = draws - draws.mean(axis=1, keepdims=True)
    spectrum = np.abs(np.fft.rfft(centred, 2 * length, axis=1)) ** 2
    return np.asarray(np.fft.irfft(spectrum, 2 * length, axis=1)[:, :length] / length)
