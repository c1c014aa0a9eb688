"""Parametric bootstrap: refits to responses simulated from the fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.design.build import Design
from ranef.engine.threads import Engine
from ranef.errors import ConvergenceWarning, FitError
from ranef.learn.assemble import natural
from ranef.learn.gaussian import MAX_ITERATIONS, TOLERANCE, Method, prepare, theta_of
from ranef.learn.held import Held, whole_point
from ranef.learn.likelihood import likelihood
from ranef.learn.minimise import minimise
from ranef.learn.prepared import holding_of
from ranef.result.covariance import given_of_fit, is_given
from ranef.result.options import check_whole
from ranef.result.parameters import Parameter, values_of
from ranef.result.progress import Count
from ranef.result.restart import at_estimates, least, objective_of
from ranef.result.simulate import draws
from ranef.result.warn import warn

FloatArray = npt.NDArray[np.float64]
# from a response, shape (rows,), to the parameters; None if there is no fit
Refit: TypeAlias = Callable[[FloatArray], FloatArray | None]


def bootstrap(
    model: Model,
    design: Design,
    wanted: Sequence[Parameter],
    replicates: int,
    seed: int,
    engine: Engine,
    report: Count | None = None,
) -> FloatArray:
    """Estimates from simulated responses, new random effects and residuals each time.

    Parameters
    ----------
    model : Model
    design : Design
        The rows of the fit.
    wanted : sequence of Parameter
    replicates, seed : int
    engine : Engine
    report : callable, optional
        Gets how many refits are done, and of how many.

    Returns
    -------
    float64 array, shape (replicates, parameters)
        NaN in the rows of refits that failed.

    Raises
    ------
    OptionError

    Warns
    -----
    ConvergenceWarning
        How many refits failed.
    """
    check_whole("replicates", replicates, 2)
    out = np.full((replicates, len(wanted)), np.nan)
    failed = 0
    refit = (_gaussian if model.spec.kind == "number" else _generalized)(model, design, wanted, engine)
    for i, y in enumerate(draws(model, design, replicates, seed)):
        found = refit(y)
        if found is None:
            failed += 1
        else:
            out[i] = found
        if report is not None:
            report(i + 1, replicates)
    if failed:
        warn(
            f"{failed:,} of {replicates:,} bootstrap refits did not converge; the intervals leave them out",
            ConvergenceWarning,
        )
    return out


def bootstrap_limits(
    model: Model,
    design: Design,
    wanted: Sequence[Parameter],
    level: float,
    replicates: int,
    seed: int,
    engine: Engine,
    report: Count | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Percentile limits: quantiles ``(1 -+ level) / 2`` of the `bootstrap` estimates, NaN ones left out.

    NaN for covariances that were given: every refit holds them.

    Davison and Hinkley (1997), Bootstrap methods and their application, section 5.3.
    """
    estimates = bootstrap(model, design, wanted, replicates, seed, engine, report)
    limits = np.full((2, len(wanted)), np.nan)
    for place, (one, values) in enumerate(zip(wanted, estimates.T, strict=True)):
        if is_given(model, one):
            continue
        usable = values[np.isfinite(values)]
        if len(usable):
            limits[:, place] = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2], method="weibull")
    return limits[0], limits[1]


def _gaussian(model: Model, design: Design, wanted: Sequence[Parameter], engine: Engine) -> Refit:
    method: Method = "reml" if model.info.method == "reml" else "ml"
    sigma2 = model.info.sigma**2
    given = given_of_fit(model)
    relative = {
        spec.name: group.covariance / sigma2 for spec, group in zip(model.spec.groups, model.groups, strict=True)
    }

    def refit(y: FloatArray) -> FloatArray | None:
        try:
            problem = prepare(replace(design, y=y), method, engine)
            at = least(problem, given, theta_of(problem, relative), sigma2)
        except FitError:
            return None
        if at is None:
            return None
        scaling = problem.scaling
        variance, covariances = natural(problem, at)
        beta = scaling.least_squares + scaling.y_scale * scaling.x_back @ at.system.beta
        ordered = [covariances[spec.name] for spec in model.spec.groups]
        return values_of(wanted, ordered, float(np.sqrt(variance)), beta)

    return refit


def _generalized(model: Model, design: Design, wanted: Sequence[Parameter], engine: Engine) -> Refit:
    """From the fit's own estimates; the rows are scaled and sorted once for all replicates."""
    prepared, parameters = at_estimates(model, design, engine)
    joint = model.info.method == "joint"
    cross, m = prepared.of.pattern.cross, prepared.layout.parameters
    p, r = cross.fixed, cross.random
    start = np.delete(parameters, np.arange(m, m + p)) if joint else parameters
    holding = holding_of(prepared, given_of_fit(model), len(start) - m)

    def refit(y: FloatArray) -> FloatArray | None:
        of = likelihood(prepared.family, prepared.of.pattern, y, design.weights, design.offset)
        objective = objective_of(of, prepared.layout, joint, parameters[m : m + p], model.info.quadrature)
        held = Held(objective, holding)
        try:
            found = minimise(held, start[holding.free], tolerance=TOLERANCE, max_iterations=MAX_ITERATIONS)
        except FitError:
            return None
        if not found.converged:
            return None
        at = whole_point(found.at, holding)
        _, beta, phi = objective.split(at.theta)
        if joint:
            beta = at.mode.u.rest[r : r + p, 0]
        roots = [back @ factor for back, factor in zip(prepared.scaling.z_back, at.factors, strict=True)]
        own = list(prepared.family.natural(phi).values())
        return values_of(wanted, [root @ root.T for root in roots], 1.0, prepared.scaling.x_back @ beta, own)

    return refit
