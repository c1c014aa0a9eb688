"""What a numeric response says of ratings: the values that it takes, and the limits of what is predicted."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from ranef.design.build import Design
from ranef.errors import OptionError
from ranef.table import from_numpy, to_numpy

FloatArray = npt.NDArray[np.float64]
Clip = Literal["auto"] | tuple[float, float] | None

# more different values than these are no ratings
MOST_VALUES = 50
# relative to the distance between neighbouring ratings
ROUNDING = 1e-6


def read_clip(clip: Any, family: str) -> Clip:
    """What ``clip=`` says.

    Raises
    ------
    OptionError
    """
    if clip is None:
        return None
    if isinstance(clip, str) and clip == "auto":
        return "auto"
    try:
        low, high = (float(one) for one in clip)
    except (TypeError, ValueError):
        raise OptionError(
            f"clip={clip!r}: give the smallest and the largest rating, such as (1, 5), 'auto', or None to leave "
            "predictions as they are"
        ) from None
    if not low < high or not np.isfinite([low, high]).all():
        raise OptionError(f"clip={clip!r}: the first number must be below the second, and both finite")
    if family != "gaussian":
        raise OptionError(f"clip={clip!r} is for a Gaussian response, not for family={family!r}; leave it out")
    return low, high


def rating_values(design: Design) -> tuple[float, ...]:
    """The different values of a response that looks like ratings, ascending; empty if it does not.

    Ratings are at least two and at most `MOST_VALUES` numbers whose distances are multiples of the smallest one.
    """
    found = np.zeros(0)
    for rows in design.storage.pieces(len(design.y)):
        found = np.union1d(found, to_numpy(pc.unique(from_numpy(design.y[rows]))))
        if len(found) > MOST_VALUES:
            return ()
    if len(found) < 2:
        return ()
    steps = np.diff(found)
    ratio = (found - found[0]) / steps.min()
    even = np.abs(ratio - np.rint(ratio)) <= ROUNDING * np.maximum(ratio, 1)
    return tuple(found.tolist()) if even.all() else ()


def limits_of(clip: Clip, values: tuple[float, ...], latent: bool) -> tuple[float, float] | None:
    """Where predictions of the response are clipped: as asked for, or at the ends of the ratings of latent terms."""
    if clip == "auto":
        return (values[0], values[-1]) if latent and values else None
    return clip
