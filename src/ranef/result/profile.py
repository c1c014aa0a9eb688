"""Likelihood-ratio intervals: the ML deviance profiled over one parameter at a time.

References
----------
Bates, Maechler, Bolker and Walker (2015), Fitting linear mixed-effects models using lme4, J. Stat. Software 67(1),
section 5.1. As there, the profile is that of maximum likelihood also for a model that was fitted by REML.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import chdtri

from ranef.artifact.model import Model
from ranef.design.build import Design
from ranef.engine.threads import Engine
from ranef.errors import ConvergenceWarning, FitError
from ranef.learn.assemble import Problem, natural
from ranef.learn.criterion import Evaluation
from ranef.learn.gaussian import prepare, theta_of
from ranef.learn.held import Given
from ranef.result.covariance import given_of_fit, is_given
from ranef.result.crossing import above, crossing
from ranef.result.parameters import Parameter, values_of
from ranef.result.profile_generalized import generalized_profile
from ranef.result.progress import Count
from ranef.result.restart import least
from ranef.result.surface import path_of
from ranef.result.warn import warn

FloatArray = npt.NDArray[np.float64]

# Slope of the deviance by a coordinate in about standard errors that a search may end with: an error of 1e-4.
MOST_SLOPE = 2e-2


@dataclass(frozen=True, eq=False)
class _Fit:
    """The maximum-likelihood fit that is profiled, in response units."""

    problem: Problem
    at: Evaluation
    given: Given | None
    sigma: float
    covariances: tuple[FloatArray, ...]
    values: FloatArray


def profile_limits(
    model: Model,
    design: Design,
    wanted: Sequence[Parameter],
    level: float,
    engine: Engine,
    report: Count | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Where the profiled ML deviance exceeds its minimum by the ``level`` quantile of chi-squared(1).

    Parameters
    ----------
    model : Model
    design : Design
        The rows of the fit.
    wanted : sequence of Parameter
    level : float
    engine : Engine
    report : callable, optional
        Gets how many parameters are done, and of how many.

    Returns
    -------
    lower, upper : float64 arrays, shape (parameters,)
        A standard deviation's lower limit is 0, and a correlation's limits are -1 and 1, where the profile stays below
        the quantile up to there. NaN where no limit was found, and for covariances that were given: profiles of the
        others hold them.

    Warns
    -----
    ConvergenceWarning
        Names the parameters without limits.
    """
    quantile = float(chdtri(1, 1 - level))
    limits_of = _gaussian if model.spec.kind == "number" else generalized_profile
    limit = limits_of(model, design, wanted, quantile, engine)
    limits = np.full((2, len(wanted)), np.nan)
    failed: list[str] = []
    done: dict[tuple[int, int] | None, int] = {}
    for place, one in enumerate(wanted):
        if is_given(model, one):
            continue
        shared = _shared(model, one)
        if shared in done:
            limits[:, place] = limits[:, done[shared]]
            continue
        if shared is not None:
            done[shared] = place
        try:
            limits[:, place] = limit(place)
        except FitError as error:
            failed.append(f"{one.name} ({error})")
        if report is not None:
            report(place + 1, len(wanted))
    if failed:
        warn(
            f"no profile limits for {'; '.join(failed)}. Try method='bootstrap', or a simpler model",
            ConvergenceWarning,
        )
    return limits[0], limits[1]


def _shared(model: Model, one: Parameter) -> tuple[int, int] | None:
    """Group and term of a standard deviation that several coefficients share."""
    if one.kind == "sd" and model.spec.groups[one.group].terms[one.term].covariance == "identity":
        return one.group, one.term
    return None


def _gaussian(
    model: Model, design: Design, wanted: Sequence[Parameter], quantile: float, engine: Engine
) -> Callable[[int], tuple[float, float]]:
    """Limits of the wanted parameter at a place."""
    fitted = _fit(model, design, wanted, engine)
    return lambda place: _limits(model, design, wanted[place], fitted, place, quantile, engine)


def _fit(model: Model, design: Design, wanted: Sequence[Parameter], engine: Engine) -> _Fit:
    problem = prepare(design, "ml", engine)
    sigma2, given = model.info.sigma**2, given_of_fit(model)
    relative = {
        spec.name: group.covariance / sigma2 for spec, group in zip(model.spec.groups, model.groups, strict=True)
    }
    at = least(problem, given, theta_of(problem, relative), sigma2)
    if at is None:
        raise FitError("the maximum-likelihood fit to be profiled did not converge; try method='bootstrap'")
    variance, by_name = natural(problem, at)
    covariances = tuple(by_name[spec.name] for spec in model.spec.groups)
    sigma, scaling = math.sqrt(variance), problem.scaling
    beta = scaling.least_squares + scaling.y_scale * scaling.x_back @ at.system.beta
    return _Fit(problem, at, given, sigma, covariances, values_of(wanted, covariances, sigma, beta))


def _limits(
    model: Model, design: Design, one: Parameter, fitted: _Fit, place: int, quantile: float, engine: Engine
) -> tuple[float, float]:
    estimate = float(fitted.values[place])
    if math.isnan(estimate):
        raise FitError("a standard deviation is estimated as zero, so there is no correlation")
    if one.kind == "fixed":
        rise = _fixed_rise(design, one, fitted, engine)
        step = 2 * float(np.sqrt(model.vcov[one.i, one.i]))
        lowest, highest = -math.inf, math.inf
    else:
        rise = _correlation_rise(one, fitted) if one.kind == "cor" else _covariance_rise(one, fitted)
        step, lowest, highest = _reach(model, one, estimate, fitted)

    def excess(value: float) -> float:
        # the root of the deviance is close to linear in the parameter
        return (0.0 if value == estimate else math.sqrt(rise(value))) - math.sqrt(quantile)

    return crossing(excess, estimate, -step, lowest), crossing(excess, estimate, step, highest)


def _reach(model: Model, one: Parameter, estimate: float, fitted: _Fit) -> tuple[float, float, float]:
    """A first step, about two standard errors, and the ends of the parameter's range."""
    if one.kind == "sigma":
        return estimate * math.sqrt(2 / fitted.problem.criterion.cross.rows), 0.0, math.inf
    levels = len(model.groups[one.group].levels)
    if one.kind == "cor":
        return 2 / math.sqrt(levels), -1.0, 1.0
    unit = fitted.sigma * float(np.linalg.norm(fitted.problem.scaling.z_back[one.group][one.i]))
    return max(estimate, 0.1 * unit) * math.sqrt(2 / levels), 0.0, math.inf


def _covariance_rise(one: Parameter, fitted: _Fit) -> Callable[[float], float]:
    """How much the deviance rises above its minimum with a standard deviation, correlation or sigma held at a value."""
    problem, minimum = fitted.problem, fitted.at.deviance
    known: list[tuple[float, FloatArray]] = []

    def rise(value: float) -> float:
        if one.kind == "sigma" and value <= 0:
            return math.inf
        path = path_of(problem, fitted.covariances, fitted.sigma, one, value, fitted.given)
        start = min(known, key=lambda pair: abs(pair[0] - value))[1] if known else path.start
        if not len(start):
            return above(path.evaluate(problem, start)[0] - minimum)

        def objective(u: FloatArray) -> tuple[float, FloatArray]:
            deviance, gradient = path.evaluate(problem, u)
            return deviance - minimum, gradient

        found = minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=path.bounds,
            options={"maxiter": 500, "maxfun": 1000, "ftol": 1e-12, "gtol": 1e-4},
        )
        # a coordinate on its bound may have a slope; the others are in units of about a standard error
        inner = [g for g, u, (low, _) in zip(found.jac, found.x, path.bounds, strict=True) if low is None or u > low]
        if max((abs(g) for g in inner), default=0.0) > MOST_SLOPE:
            raise FitError(f"the search with it held at {value:.4g} did not converge")
        known.append((value, found.x))
        return above(float(found.fun))

    return rise


def _correlation_rise(one: Parameter, fitted: _Fit) -> Callable[[float], float]:
    """The same for a correlation: it may take any value where one of its standard deviations is zero."""
    inside = _covariance_rise(one, fitted)
    ends = [_covariance_rise(replace(one, kind="sd", i=i, j=i), fitted)(0.0) for i in (one.i, one.j)]
    return lambda value: min(inside(value), *ends)


def _fixed_rise(design: Design, one: Parameter, fitted: _Fit, engine: Engine) -> Callable[[float], float]:
    """The same for a fixed effect: its column times the value becomes part of the offset."""
    minimum, theta = fitted.at.deviance, fitted.at.theta[: fitted.problem.layout.parameters]
    columns = fitted.problem.scaling.columns
    x = design.x[:, columns[one.i]]
    others = np.ascontiguousarray(design.x[:, [c for c in columns if c != columns[one.i]]])
    offset = np.zeros(len(x)) if design.offset is None else design.offset

    def rise(value: float) -> float:
        problem = prepare(replace(design, x=others, offset=offset + value * x), "ml", engine)
        at = least(problem, fitted.given, theta, fitted.sigma**2)
        if at is None:
            raise FitError(f"the search with it held at {value:.4g} did not converge")
        return above(at.deviance - minimum)

    return rise
