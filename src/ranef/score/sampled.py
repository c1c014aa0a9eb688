"""Predictions of a Bayesian fit: everything is computed for each kept draw, then averaged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import FloatArray, Model, Sample
from ranef.errors import OptionError
from ranef.prior import factor_of
from ranef.score.latent import TermRows
from ranef.score.latent_sampled import latent_draws
from ranef.score.rows import Batch
from ranef.score.scale import Interval, Kind, Scaled

if TYPE_CHECKING:  # SciPy, which Gaussian predictions do without
    from ranef.family import Family

# linear predictors computed together: rows times draws
NUMBERS = 1 << 21
# with latent terms, whose factors are looked at anew for each piece
NUMBERS_LATENT = 1 << 23
# new responses for each row, over all draws, that an interval for one is taken from
RESPONSES = 1_000


def kept_sample(model: Model) -> Sample:
    """The draws of a Bayesian fit.

    Raises
    ------
    OptionError
        The model was saved without them.
    """
    sample = model.sample
    if sample is None or not len(sample.kept):
        raise OptionError(
            "this model was saved without the draws of its coefficients, which predictions average over; save it "
            "with posterior=True"
        )
    return sample


def sampled_rows(model: Model) -> int:
    """Rows that are predicted together."""
    numbers = NUMBERS_LATENT if model.latent else NUMBERS
    return max(1, numbers // max(len(kept_sample(model).kept), 1))


def linear_predictors(
    model: Model,
    batch: Batch,
    latent: Mapping[int, TermRows],
    random: np.random.Generator | None = None,
) -> FloatArray:
    """The linear predictor of each row in each kept draw, shape (rows, draws).

    Parameters
    ----------
    model : Model
    batch : Batch
    latent : mapping of int to TermRows
        The latent terms that take part, on the rows that ``batch.rows`` counts.
    random : numpy.random.Generator, optional
        Draws the effects of levels that the fit did not have; without, they are zero, and vectors the mean of all.
    """
    sample = kept_sample(model)
    total = np.zeros((len(batch.rows), len(sample.kept)))
    if batch.offset is not None:
        total += batch.offset[:, None]
    if batch.x is not None:
        total += batch.x @ sample.beta(batch.x.shape[1])
    if latent:
        total += latent_draws(model, latent, batch.rows, len(sample.kept), random)
    for group in batch.groups:
        effects, known = group.by_code(sample.effects[group.group]), group.known
        for j, coefficient in enumerate(group.coefficients):
            total[known] += group.covariates[known, j, None] * effects[group.codes[known], coefficient]
        surplus = group.surplus
        # neither known nor new: the grouping value is missing
        total[~known & (surplus == 0)] = np.nan
        new = np.flatnonzero(surplus)
        if random is not None and len(new):
            covariances, width = sample.covariances[group.group], np.sqrt(surplus[new])[:, None]
            for draw in range(len(sample.kept)):
                root = factor_of(covariances[:, :, draw])[group.coefficients]
                drawn = random.standard_normal((len(new), root.shape[1])) @ root.T
                total[new, draw] += np.einsum("nk,nk->n", group.covariates[new], width * drawn)
    return total


def predicted(
    model: Model,
    kind: Kind,
    eta: FloatArray,
    interval: Interval | None,
    level: float,
    weights: FloatArray | None,
    random: np.random.Generator,
) -> Scaled:
    """What the draws of a linear predictor say.

    Parameters
    ----------
    model : Model
    kind : {"response", "link", "class", "probabilities"}
    eta : float64 array, shape (rows, draws)
    interval : {"confidence", "prediction"} or None
        Quantiles of the draws of the expected response, or of new responses, one or more for each draw.
    level : float
    weights : float64 array, shape (rows,), or None
        Of a new response: its trials, or what its variance is divided by.
    random : numpy.random.Generator
        Draws new responses.
    """
    sample, family = kept_sample(model), model.family
    gaussian = model.spec.kind == "number"
    limits = (1 - level) / 2, (1 + level) / 2
    if kind == "link" or (gaussian and interval != "prediction"):
        return _summed(eta, interval, limits)
    if kind in ("class", "probabilities") or model.spec.kind == "ordered":
        return _probabilities(family, sample, kind, eta, interval, limits)
    mean = eta if gaussian else _by_draw(eta, lambda one, draw: family.mean(one))
    if interval != "prediction":
        return _summed(mean, interval, limits)
    repeats = -(-RESPONSES // len(sample.kept))

    def respond(one: FloatArray, draw: int) -> FloatArray:
        return family.simulate(random, one, weights, sample.phi[draw])

    known = np.flatnonzero(np.isfinite(eta).all(axis=1) & _usable(model, weights, len(eta)))
    new = np.full((len(eta), repeats * eta.shape[1]), np.nan)
    weights = None if weights is None else weights[known]
    for repeat in range(repeats):
        new[known, repeat * eta.shape[1] : (repeat + 1) * eta.shape[1]] = _by_draw(eta[known], respond)
    if gaussian:
        lower, upper = np.quantile(new, limits, axis=1)
    else:
        # at least the coverage, of whole numbers
        lower, upper = np.quantile(new, limits, axis=1, method="inverted_cdf")
    return Scaled(mean.mean(axis=1), lower, upper)


def _usable(model: Model, weights: FloatArray | None, rows: int) -> npt.NDArray[np.bool_]:
    return np.ones(rows, np.bool_) if weights is None else np.isfinite(weights) & (weights > 0)


def _by_draw(eta: FloatArray, function: Callable[[FloatArray, int], FloatArray]) -> FloatArray:
    out = np.empty_like(eta)
    for draw in range(eta.shape[1]):
        out[:, draw] = function(np.ascontiguousarray(eta[:, draw]), draw)
    return out


def _summed(values: FloatArray, interval: Interval | None, limits: tuple[float, float]) -> Scaled:
    fit = values.mean(axis=1)
    if interval is None:
        return Scaled(fit, None, None)
    lower, upper = np.quantile(values, limits, axis=1)
    return Scaled(fit, lower, upper)


def _probabilities(
    family: Family, sample: Sample, kind: Kind, eta: FloatArray, interval: Interval | None, limits: tuple[float, float]
) -> Scaled:
    draws = np.stack(
        [family.probabilities(np.ascontiguousarray(one), phi) for one, phi in zip(eta.T, sample.phi, strict=True)],
        axis=2,
    )
    mean = draws.mean(axis=2)
    if kind == "class":
        codes = np.argmax(mean, axis=1).astype(np.float64)
        codes[np.isnan(mean[:, 0])] = np.nan
        return Scaled(codes, None, None)
    if interval is None:
        return Scaled(mean, None, None)
    lower, upper = np.quantile(draws, limits, axis=2)
    return Scaled(mean, cast(FloatArray, lower), cast(FloatArray, upper))
