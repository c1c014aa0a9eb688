"""Predictions of other families than the Gaussian, on the scale that is asked for: means, categories, probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from ranef.artifact.model import FloatArray, Model
from ranef.errors import OptionError
from ranef.score.categories import has_categories

Kind: TypeAlias = Literal["response", "link", "class", "probabilities", "rating"]
Interval: TypeAlias = Literal["confidence", "prediction"]

# rows at a time: families work in the cache
ROWS = 1 << 14


@dataclass(frozen=True, eq=False)
class Scaled:
    """Predictions and limits, shape (rows,) or (rows, categories); the limits are None without an interval."""

    fit: FloatArray
    lower: FloatArray | None
    upper: FloatArray | None


def check_kind(model: Model, kind: object, interval: Interval | None) -> None:
    """Refuse what a family's predictions cannot be, and intervals that would say nothing.

    Raises
    ------
    OptionError
    """
    name = model.info.family
    known: tuple[str, ...] = ("response", "link")
    if has_categories(model):
        known += ("class", "probabilities")
    if model.info.ratings or model.spec.kind == "rating" or (model.spec.kind == "ordered" and kind == "rating"):
        known += ("rating",)
    if kind not in known:
        listed = ", ".join(map(repr, known[:-1])) + f" or {known[-1]!r}"
        trials = ": a proportion of several trials has no category" if name == "binomial" and kind == "class" else ""
        raise OptionError(f"type={kind!r} is not known for family={name!r}: use {listed}{trials}")
    if interval is None or model.spec.kind == "number":
        return
    if kind == "class":
        raise OptionError(
            "a category has no interval: use type='probabilities', which says how sure it is, or type='link' with "
            "interval='confidence'"
        )
    if interval == "prediction" and kind == "link":
        raise OptionError(
            "interval='prediction' is for a new response, which is not on the scale of the linear predictor: use "
            "type='response', or interval='confidence'"
        )
    if interval == "prediction" and has_categories(model):
        outcomes = "0 or 1" if model.spec.kind != "ordered" else "a category"
        raise OptionError(
            f"a new response of family={name!r} is {outcomes}, of which an interval says nothing: type='probabilities' "
            "is its predictive distribution, and interval='confidence' says how well it is known"
        )


def on_scale(
    model: Model,
    kind: Kind,
    eta: FloatArray,
    sd: FloatArray | None,
    interval: Interval | None,
    level: float,
    weights: FloatArray | None,
    shared: FloatArray,
) -> Scaled:
    """What a linear predictor says of the response.

    Parameters
    ----------
    model : Model
    kind : {"response", "class", "probabilities"}
    eta : float64 array, shape (rows,)
    sd : float64 array, shape (rows,), or None
        Its standard deviation, for an interval.
    interval : {"confidence", "prediction"} or None
    level : float
    weights : float64 array, shape (rows,), or None
        Trials of a proportion.
    shared : float64 array, shape (rows, parameters of the thresholds)
        Covariance of an ordinal model's thresholds and the linear predictor, for an interval.

    Raises
    ------
    OptionError

    Notes
    -----
    Links are monotone: the limits of a mean are the means at the limits of the linear predictor. Those of an ordinal
    model's probabilities know that thresholds are estimates, see `ranef.score.thresholds`. A new response has the
    family's distribution mixed over the normal linear predictor, see `ranef.score.quantile`; the dispersion is taken as
    known, as the covariance parameters are.
    """
    family, phi = model.family, model.phi
    if kind == "class":
        return Scaled(_by_pieces(lambda part: _likeliest(family.probabilities(part, phi)), eta), None, None)
    if kind == "probabilities" or model.spec.kind == "ordered":
        return _probabilities(model, eta, sd, level, shared)
    mean = _by_pieces(family.mean, eta)
    if interval is None or sd is None:
        return Scaled(mean, None, None)
    tail = (1 - level) / 2
    if interval == "prediction":
        from ranef.score.quantile import mixed_quantile

        trials = weights if model.spec.kind == "proportion" else None
        limits = [mixed_quantile(family, p, eta, sd, trials, phi) for p in (tail, 1 - tail)]
    else:
        half = normal_quantile(1 - tail) * sd
        limits = [_by_pieces(family.mean, eta - half), _by_pieces(family.mean, eta + half)]
    return Scaled(mean, limits[0], limits[1])


def _probabilities(model: Model, eta: FloatArray, sd: FloatArray | None, level: float, shared: FloatArray) -> Scaled:
    family, phi = model.family, model.phi

    def probabilities(part: FloatArray) -> FloatArray:
        return family.probabilities(part, phi)

    fit = _by_pieces(probabilities, eta)
    if sd is None:
        return Scaled(fit, None, None)
    z = normal_quantile((1 + level) / 2)
    if model.spec.kind == "ordered":
        from ranef.score.thresholds import kept_thresholds, probability_limits

        own = kept_thresholds(model).vcov[len(model.beta) :, len(model.beta) :]
        parts = [slice(at, at + ROWS) for at in range(0, max(len(eta), 1), ROWS)]
        limits = [probability_limits(family, phi, own, eta[i], sd[i] ** 2, shared[i], z) for i in parts]
        return Scaled(fit, *(np.concatenate(side) for side in zip(*limits, strict=True)))
    half = z * sd
    low, high = _by_pieces(probabilities, eta - half), _by_pieces(probabilities, eta + half)
    # failure is the more probable the smaller the linear predictor
    return Scaled(fit, np.column_stack([high[:, 0], low[:, 1]]), np.column_stack([low[:, 0], high[:, 1]]))


def _likeliest(probabilities: FloatArray) -> FloatArray:
    codes: FloatArray = np.argmax(probabilities, axis=1).astype(np.float64)
    codes[np.isnan(probabilities[:, 0])] = np.nan
    return codes


def _by_pieces(function: Callable[[FloatArray], FloatArray], values: FloatArray) -> FloatArray:
    def parts() -> Iterator[FloatArray]:
        for at in range(0, max(len(values), 1), ROWS):
            yield function(values[at : at + ROWS])

    return np.concatenate(list(parts()))


def normal_quantile(probability: float) -> float:
    """Quantile of the standard normal distribution."""
    from statistics import NormalDist  # a slow import that only intervals need

    return NormalDist().inv_cdf(probability)
