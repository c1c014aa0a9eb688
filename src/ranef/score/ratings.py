"""Predictions of ratings: within the limits of the scale, or the nearest of its values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ranef.artifact.model import FloatArray, Model
from ranef.errors import OptionError
from ranef.score.scale import Scaled


def rating_values(model: Model) -> FloatArray | None:
    """The ratings that a response has, ascending; None if it has none.

    Values of a Gaussian response that looks like ratings, or the categories of an ordinal one if all are numbers.
    """
    if model.info.ratings:
        return np.array(model.info.ratings)
    if model.spec.kind not in ("ordered", "rating"):
        return None
    try:
        values = np.array([float(level) for level in model.spec.response_levels])
    except ValueError:
        return None
    # text such as "10" may come before "9"
    return values if np.isfinite(values).all() and np.all(np.diff(values) > 0) else None


def check_ratings(model: Model, interval: str | None) -> None:
    """Refuse ``type="rating"`` of what has no ratings, and its intervals.

    Raises
    ------
    OptionError
    """
    if rating_values(model) is None:
        raise OptionError(
            f"type='rating' is the nearest rating, and the response {model.spec.response_label} is none: use "
            "type='response'. Ratings are at most 50 evenly spaced numbers, Gaussian or ordinal"
        )
    if interval is not None:
        raise OptionError("a rounded rating has no interval: use type='response'")


def clipped(model: Model, found: Scaled) -> Scaled:
    """Predictions of a Gaussian response and their limits, moved into the range of the ratings if the model has one."""
    if model.info.clip is None:
        return found
    parts = (found.fit, found.lower, found.upper)
    return Scaled(*(None if values is None else np.clip(values, *model.info.clip) for values in parts))  # type: ignore[arg-type]


def nearest_rating(model: Model, found: Scaled) -> Scaled:
    """The rating that is nearest to the expected one, the higher of two.

    Parameters
    ----------
    found : Scaled
        Means, shape (rows,), or of an ordinal response probabilities, shape (rows, categories).
    """
    values = rating_values(model)
    if values is None:
        raise OptionError("the response has no ratings")
    mean = found.fit if found.fit.ndim == 1 else found.fit @ values
    place = np.searchsorted((values[1:] + values[:-1]) / 2, mean, side="right")
    return replace(found, fit=np.where(np.isnan(mean), np.nan, values[np.minimum(place, len(values) - 1)]))
