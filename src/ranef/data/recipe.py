"""The wishes of a simulation, checked and completed: what :func:`ranef.data.simulate` was asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import numpy.typing as npt

from ranef.errors import OptionError, nearest

FloatArray: TypeAlias = npt.NDArray[np.float64]
Family: TypeAlias = Literal["gaussian", "bernoulli", "binomial", "poisson", "ordinal"]
Ids: TypeAlias = Literal["int", "text"]
ActivityKind: TypeAlias = Literal["lognormal", "zipf"]

INTERCEPT = "(Intercept)"
RESPONSE = "y"
FAILURES = "failures"
SLOPE_COVARIATE = "x"  # what a slope given as one number is a slope of


@dataclass(frozen=True)
class Activity:
    """How unevenly the rows fall on the levels of a factor.

    Attributes
    ----------
    kind : {"lognormal", "zipf"}
        Weights exp(parameter * N(0, 1)), or rank ** -parameter with the ranks shuffled over the levels.
    parameter : float
        0 makes all levels alike; 1 is a long tail.
    """

    kind: ActivityKind
    parameter: float


@dataclass(frozen=True, eq=False)
class Factor:
    """A grouping factor to simulate.

    Attributes
    ----------
    name : str
    levels : int
    parent : str or None
        The factor that this one is nested in.
    activity : Activity
    coefficients : tuple of str
        ``(Intercept)`` and the covariates with a random slope.
    covariance : array, shape (coefficients, coefficients)
    """

    name: str
    levels: int
    parent: str | None
    activity: Activity
    coefficients: tuple[str, ...]
    covariance: FloatArray


@dataclass(frozen=True, eq=False)
class Recipe:
    """A checked simulation; the words are those of :func:`ranef.data.simulate`."""

    rows: int
    factors: tuple[Factor, ...]
    intercept: float
    covariates: Mapping[str, float]
    binary: Mapping[str, float]
    family: Family
    residual_sd: float | None
    trials: int | None
    thresholds: tuple[float, ...]
    ids: Ids
    seed: int


def make_recipe(
    rows: float,
    groups: Mapping[str, float],
    *,
    sd: float | Mapping[str, float],
    slopes: Mapping[str, float | Mapping[str, float]],
    correlation: float | Mapping[str, Any],
    fixed: Mapping[str, float],
    binary: Mapping[str, float],
    nested: Mapping[str, str],
    activity: float | str | Mapping[str, float | str],
    family: str,
    residual_sd: float | None,
    trials: int | None,
    thresholds: Sequence[float] | None,
    ids: str,
    seed: int,
) -> Recipe:
    """Check the arguments of :func:`ranef.data.simulate`, which documents them.

    Raises
    ------
    OptionError
        An argument is wrong; the message names it.
    """
    mappings: dict[str, Any] = {"groups": groups, "slopes": slopes, "fixed": fixed, "binary": binary, "nested": nested}
    for option, given in mappings.items():
        if not isinstance(given, Mapping):
            raise OptionError(f"{option} must be a mapping from names, such as {{'user': ...}}, not {given!r}")
    if not groups:
        raise OptionError("groups is empty; give at least one factor, such as groups={'user': 1000}")
    sizes = {name: _whole(size, f"groups[{name!r}]", 1, 2**31 - 1) for name, size in groups.items()}
    for option, given in (("sd", sd), ("slopes", slopes), ("correlation", correlation), ("activity", activity)):
        if isinstance(given, Mapping):
            _check_names(given, sizes, option)
    beta = {name: _number(value, f"fixed[{name!r}]") for name, value in fixed.items()}
    intercept = beta.pop(INTERCEPT, 0.0)
    by_factor = {name: _slopes(slopes.get(name, {}), name) for name in sizes}
    for wanted in by_factor.values():
        for covariate in wanted:
            if covariate in binary:
                raise OptionError(
                    f"{covariate!r} has two levels and no random slope is offered for it; name a covariate"
                )
            beta.setdefault(covariate, 0.0)
    _check_columns([*sizes, *beta, *binary])
    chosen: Family = _choice(family, get_args(Family), "family")
    if chosen == "ordinal" and intercept:
        raise OptionError("an ordinal response has thresholds in place of an intercept; leave fixed['(Intercept)'] out")
    parents = _parents(nested, sizes)
    return Recipe(
        rows=_whole(rows, "rows", 1, 2**62),
        factors=tuple(
            Factor(
                name,
                size,
                parents.get(name),
                _activity(_of(activity, name, 1.0), f"activity of {name!r}"),
                (INTERCEPT, *by_factor[name]),
                _covariance(
                    [_number(_of(sd, name, 1.0), f"sd of {name!r}", 0.0), *by_factor[name].values()],
                    _of(correlation, name, 0.0),
                    name,
                ),
            )
            for name, size in sizes.items()
        ),
        intercept=intercept,
        covariates=beta,
        binary={name: _number(value, f"binary[{name!r}]") for name, value in binary.items()},
        family=chosen,
        residual_sd=_only("gaussian", chosen, "residual_sd", residual_sd, 1.0, _standard_deviation),
        trials=_only("binomial", chosen, "trials", trials, 10, _trials),
        thresholds=_only("ordinal", chosen, "thresholds", thresholds, (-1.0, 0.0, 1.0), _thresholds) or (),
        ids=_choice(ids, get_args(Ids), "ids"),
        seed=_whole(seed, "seed", 0, 2**63),
    )


def _number(value: Any, what: str, low: float = -math.inf) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < low:
        bound = "" if low == -math.inf else f" of at least {low:g}"
        raise OptionError(f"{what} must be a number{bound}, not {value!r}")
    return number


def _whole(value: Any, what: str, low: int, high: int) -> int:
    number = _number(value, what)
    if number != int(number) or not low <= number <= high:
        raise OptionError(f"{what} must be a whole number from {low} to {high}, not {value!r}")
    return int(value)


def _choice(value: Any, known: tuple[str, ...], what: str) -> Any:
    if value not in known:
        raise OptionError(f"{what} must be one of {', '.join(known)}, not {value!r}")
    return value


def _only(family: str, asked: str, what: str, value: Any, default: Any, check: Any) -> Any:
    """The checked value of an option that one family has; None for the others."""
    if asked == family:
        return check(default if value is None else value)
    if value is not None:
        raise OptionError(f"{what} belongs to the {family} family, and family is {asked!r}; leave it out")
    return None


def _of(option: Any, name: str, default: Any) -> Any:
    return option.get(name, default) if isinstance(option, Mapping) else option


def _check_names(given: Mapping[str, Any], known: Mapping[str, int], option: str) -> None:
    for name in given:
        if name not in known:
            close = nearest(str(name), known, count=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise OptionError(f"{option} names {name!r}, which is not in groups ({', '.join(known)}){hint}")


def _check_columns(names: Sequence[str]) -> None:
    seen = {RESPONSE, FAILURES}
    for name in names:
        if not isinstance(name, str) or not name or "`" in name:
            raise OptionError(f"a column cannot be named {name!r}; use text without a backquote")
        if name in seen:
            raise OptionError(f"two columns would be named {name!r}; rename one ({RESPONSE!r}, {FAILURES!r} are taken)")
        seen.add(name)


def _slopes(given: float | Mapping[str, float], factor: str) -> dict[str, float]:
    named = given if isinstance(given, Mapping) else {SLOPE_COVARIATE: given}
    if INTERCEPT in named:
        raise OptionError(f"slopes[{factor!r}] names the intercept; its standard deviation is sd[{factor!r}]")
    return {name: _number(value, f"slopes[{factor!r}][{name!r}]", 0.0) for name, value in named.items()}


def _covariance(sd: Sequence[float], correlation: Any, factor: str) -> FloatArray:
    size = len(sd)
    try:
        matrix = np.asarray(correlation, dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.full((), np.nan)
    if matrix.ndim == 0:
        matrix = np.full((size, size), matrix)
        np.fill_diagonal(matrix, 1.0)
    proper = (
        matrix.shape == (size, size)
        and np.isfinite(matrix).all()
        and np.array_equal(matrix, matrix.T)
        and np.all(np.diagonal(matrix) == 1.0)
        and np.linalg.eigvalsh(matrix)[0] > -1e-12
    )
    if not proper:
        raise OptionError(
            f"correlation of {factor!r} must be one number, or a symmetric matrix of {size} x {size} (intercept first, "
            f"then the slopes) with ones on its diagonal and no negative eigenvalue; it is {correlation!r}"
        )
    scale = np.asarray(sd, dtype=np.float64)
    return matrix * np.outer(scale, scale)


def _activity(given: Any, what: str) -> Activity:
    kind, colon, parameter = given.partition(":") if isinstance(given, str) else ("lognormal", ":", given)
    if kind not in get_args(ActivityKind):
        raise OptionError(f"{what} must be a number, 'lognormal:NUMBER' or 'zipf:NUMBER', not {given!r}")
    return Activity(cast(ActivityKind, kind), _number(parameter if colon else 1.0, what, 0.0))


def _parents(nested: Mapping[str, str], sizes: Mapping[str, int]) -> Mapping[str, str]:
    for child, parent in nested.items():
        _check_names({child: 0, parent: 0}, sizes, "nested")
        if list(nested.values()).count(parent) > 1:
            raise OptionError(f"two factors are nested in {parent!r}; a row could then be in two levels of it")
        passed, above = {child}, nested.get(child)
        while above is not None:
            if above in passed:
                raise OptionError(f"nested goes round in a circle at {above!r}")
            passed.add(above)
            above = nested.get(above)
    return nested


def _standard_deviation(given: Any) -> float:
    return _number(given, "residual_sd", 0.0)


def _trials(given: Any) -> int:
    return _whole(given, "trials", 1, 2**31 - 1)


def _thresholds(given: Any) -> tuple[float, ...]:
    values = tuple(_number(value, "a threshold") for value in given)
    if not values or any(right <= left for left, right in pairwise(values)):
        raise OptionError(f"thresholds must be at least one and increase, not {given!r}")
    return values
