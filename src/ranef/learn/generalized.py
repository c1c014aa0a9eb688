"""A generalized mixed model from its design to the fitted model, by the Laplace approximation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.design.build import Design
from ranef.engine.threads import Engine
from ranef.errors import FitError
from ranef.family import Family
from ranef.learn.assemble import Outcome, assemble, natural
from ranef.learn.gaussian import START_COLUMNS, STOCHASTIC_TOLERANCE, Solver, is_exact_cheap
from ranef.learn.generalized_stochastic import Coarse, coarse_point, fit_stochastic, stochastic_model
from ranef.learn.given_mode import estimate, exact_point, find_given_mode, is_all_given
from ranef.learn.held import Given, Held, Holding, whole_point
from ranef.learn.joint_mode import bound_of
from ranef.learn.laplace import EXACT, Laplace, LaplacePoint, laplace_gradient, origin
from ranef.learn.minimise import CLOSE, Minimum, Step, minimise
from ranef.learn.mode import Exact
from ranef.learn.posterior import exact_posterior
from ranef.learn.prepared import (
    Generalized,
    describe,
    holding_of,
    marginal_fit,
    prepare_generalized,
    starting_coefficients,
    starting_phi,
    starting_theta,
    working_problem,
)
from ranef.learn.quadrature import Quadrature, check_one_scalar_term
from ranef.learn.root import Root
from ranef.learn.start import Start
from ranef.learn.thresholds import with_thresholds
from ranef.learn.uncertainty import ParameterUncertainty, fixed_effects, free_parameters, inverse_information
from ranef.learn.walks import with_exact_levels

FloatArray = npt.NDArray[np.float64]
Method = Literal["laplace", "joint"]
Covariance = tuple[FloatArray, FloatArray, Literal["observed", "average"]]

TOLERANCE = 1e-9
# where an evaluation takes long: a three-thousandth of a standard error
LARGE_TOLERANCE = 1e-7
# of the search at joint modes that the one for the Laplace estimates starts from
START_TOLERANCE = 1e-2
MAX_ITERATIONS = 200
# of a parameter's standard error: the differences that make the Hessian
DIFFERENCE = 1e-3
# likewise, of the first point's, to one side; standard errors then differ by a ten-thousandth
AHEAD = 2e-3
# whose Hessian is made by differences: two evaluations for each
MOST_PARAMETERS = 100
# variance, on the scale of the linear predictor, of what the data do not determine
FLAT = 1e10


def fit_generalized(
    design: Design,
    family: Family,
    method: Method,
    engine: Engine,
    *,
    quadrature: int = 1,
    solver: Solver = "auto",
    probes: int | None = None,
    seed: int = 0,
    start: Start | None = None,
    given: Given | None = None,
    tolerance: float | None = None,
    max_iterations: int | None = None,
    report: Callable[[Step, float, Mapping[str, FloatArray]], None] | None = None,
) -> Model:
    """Fit by maximum likelihood: Laplace's approximation, or quadrature.

    Parameters
    ----------
    design : Design
    family : Family
    method : {"laplace", "joint"}
        Fixed effects maximise the Laplace likelihood (lme4's nAGQ = 1), or stand at the joint mode (nAGQ = 0).
    engine : Engine
    quadrature : int
        Nodes of each level's integral, for one scalar random term (lme4's nAGQ); 1 is the Laplace approximation.
    solver : {"auto", "exact", "stochastic", "bound"}
        ``"auto"`` is exact where that takes seconds, and for quadrature. ``"bound"`` keeps a bound of the curvature on
        the way to joint modes, for given covariances.
    probes : int, optional
        Of the stochastic solver; None starts with 8 and doubles them until the Monte-Carlo error of every parameter is
        a twentieth of its standard error.
    seed : int
        Of the probes.
    start : Start, optional
        Covariances and coefficients to begin with.
    given : Given, optional
        Covariances that are held; the others are learned.
    tolerance : float, optional
        The search ends when a step is predicted to lower the deviance by less; default 1e-9, with 500 columns and more
        to factorise 1e-7, stochastic 1e-5. Where the coefficients alone are left, of the gradient's norm, see
        `ranef.learn.given_mode`.
    max_iterations : int, optional
        Evaluations; default 200.
    report : callable, optional
        Gets every step, the residual variance (1) and the covariance of each factor.

    Raises
    ------
    FitError
    OptionError
        If quadrature is asked for where there is not exactly one scalar random term.
    """
    begun = time.perf_counter()
    prepared = prepare_generalized(design, family, engine)
    if quadrature > 1:
        check_one_scalar_term(prepared.layout, design.spec.groups)
    most = MAX_ITERATIONS if max_iterations is None else max_iterations
    cross = prepared.of.pattern.cross
    # with stages alone nothing is left to sample; what is exact of each probe is a stage's
    stochastic = bool(cross.kept and cross.stages) and (
        solver == "stochastic" or (solver in ("auto", "bound") and not is_exact_cheap(cross))
    )
    bound = bound_of(prepared.family) if solver == "bound" else None
    if given is not None and method == "joint" and is_all_given(prepared, given):
        found = find_given_mode(
            prepared,
            given,
            stochastic=stochastic,
            bound=bound,
            start=start,
            tolerance=tolerance,
            max_iterations=max_iterations,
            report=report,
            begun=begun,
        )
        if stochastic:
            root = Root(estimate(found), found.converged, found.history, 0.0)
            none = np.zeros((len(found.holding.base),) * 2)
            return stochastic_model(prepared, found.laplace, found.holding, root, none, 0, method, seed, begun)
        at = Minimum(exact_point(found), found.converged, found.history, 0.0)
        return _model(prepared, Held(found.laplace, found.holding), at, method, found.history, begun)
    if stochastic:
        return fit_stochastic(
            prepared,
            method,
            probes=probes,
            seed=seed,
            start=start,
            given=given,
            tolerance=STOCHASTIC_TOLERANCE if tolerance is None else tolerance,
            max_iterations=most,
            bound=bound,
            begun=begun,
            report=report,
        )
    history: list[Step] = []

    def tell(step: Step, at: LaplacePoint) -> None:
        history.append(replace(step, iteration=len(history), seconds=time.perf_counter() - begun))
        if report is not None:
            report(history[-1], *natural(working_problem(prepared, at), at))

    objective, least = search(prepared, method, quadrature, start, given, bound, tolerance, most, tell, seed)
    return _model(prepared, objective, least, method, tuple(history), begun)


def search(
    prepared: Generalized,
    method: Method,
    quadrature: int,
    start: Start | None,
    given: Given | None,
    bound: float | None,
    tolerance: float | None,
    max_iterations: int,
    tell: Callable[[Step, LaplacePoint], None],
    seed: int,
) -> tuple[Held[LaplacePoint], Minimum[LaplacePoint]]:
    """The joint search, and from where it ends the one over all parameters; with what the last one minimised.

    Where there are many columns to factorise, a few stochastic evaluations take the place of the first search.
    """
    cross = prepared.of.pattern.cross
    if bound is None and cross.kept and cross.random >= START_COLUMNS:
        begun = coarse_point(prepared, method == "joint", start, given, seed, CLOSE)
        first_point = None if begun is None else with_hessian(begun)
        if begun is not None and first_point is not None:
            objective = Held(begun.problem, begun.holding)
            return objective, minimise(
                objective,
                begun.theta,
                tolerance=LARGE_TOLERANCE if tolerance is None else tolerance,
                max_iterations=max_iterations,
                report=tell,
                observed=lambda at: observed_hessian(objective, at, central=False),
                begin=first_point,
            )
    tolerance = TOLERANCE if tolerance is None else tolerance
    beta, phi = marginal_fit(prepared)
    phi = starting_phi(prepared, phi, start)
    u = origin(cross, beta)
    theta = starting_theta(prepared, u, phi, start)
    holding = holding_of(prepared, given, len(phi))
    free = np.concatenate([theta, phi])[holding.free]
    u = starting_coefficients(prepared, u, prepared.layout.factors(holding.whole(free)[: len(theta)]), start)
    joint = Held(Laplace(prepared.of, prepared.layout, True, EXACT, u, bound), holding)
    first = minimise(
        joint,
        free,
        tolerance=tolerance if method == "joint" else max(tolerance, START_TOLERANCE),
        max_iterations=max_iterations,
        report=tell,
    )
    if method == "joint":
        return joint, first
    m, r = prepared.layout.parameters, cross.random
    theta, phi = np.split(joint.holding.whole(first.at.theta), [m])
    beta = first.at.mode.u.rest[r : r + cross.fixed, 0]
    u = first.at.mode.u
    laplace = Laplace(prepared.of, prepared.layout, False, EXACT, u)
    if quadrature > 1:
        laplace = Quadrature(prepared.of, prepared.layout, False, Exact(), u, nodes=quadrature)
    marginal = Held(laplace, holding_of(prepared, given, len(beta) + len(phi)))
    return marginal, minimise(
        marginal,
        np.concatenate([theta, beta, phi])[marginal.holding.free],
        tolerance=tolerance,
        max_iterations=max(1, max_iterations - len(first.history)),
        report=tell,
    )


def _model(
    prepared: Generalized,
    held: Held[LaplacePoint],
    found: Minimum[LaplacePoint],
    method: Method,
    history: tuple[Step, ...],
    begun: float,
) -> Model:
    at, family, layout = whole_point(found.at, held.holding), prepared.family, prepared.layout
    laplace = cast(Laplace, held.objective)
    problem = working_problem(prepared, at)
    phi = laplace.split(at.theta)[2]
    fixed = fixed_effects(problem.criterion, at)
    covariance, unknown, information = _covariance(held, found)
    m, p = layout.parameters, laplace.fixed
    # fixed effects and the family's parameters along which nothing changes: no standard error is too large
    flat = np.where(np.arange(len(unknown))[:, None] < m, 0.0, unknown)
    covariance = covariance + FLAT * flat @ flat.T
    if p:
        fixed = replace(fixed, vcov=covariance[m : m + p, m : m + p])
    fixed, thresholds = with_thresholds(laplace, prepared.scaling, prepared.design.groups, at, covariance, fixed)
    none = np.zeros((0, *fixed.vcov.shape))
    nodes = laplace.nodes if isinstance(laplace, Quadrature) else 1
    described = describe(family, method, phi, covariance, p, nodes)
    outcome = Outcome(
        at=at,
        solver="exact",
        deviance=at.deviance,
        deviance_error=0.0,
        deviance_draws=(),
        converged=found.converged,
        history=history,
        conditional=with_exact_levels(
            at.conditional, at.inverse.rest, problem.criterion.cross, prepared.design.groups, fixed, None
        ),
        posterior=exact_posterior(problem, at, fixed),
        noise=np.zeros((m + 1, m + 1)),
        fixed_noise=None,
        probes=0,
    )
    bordered = np.zeros((m + 1, m + 1))
    bordered[:m, :m] = covariance[:m, :m]
    lost = np.zeros((m + 1, unknown.shape[1]))
    lost[:m] = unknown[:m]
    uncertainty = ParameterUncertainty(bordered, lost, information)
    fixed = replace(fixed, gradient=none)
    model = assemble(problem, outcome, fixed, uncertainty, begun, described, held.holding)
    return replace(model, thresholds=thresholds)


def _covariance(held: Held[LaplacePoint], found: Minimum[LaplacePoint]) -> Covariance:
    """Inverse of the observed information over all parameters; zero for the held ones. Of many, the average one.

    Returns
    -------
    covariance : float64 array, shape (parameters, parameters)
    unknown : float64 array, shape (parameters, any)
        Directions without information.
    information : {"observed", "average"}
    """
    inside = _inside(held.holding, found.at.factors)
    hessian = found.hessian
    information: Literal["observed", "average"] = "observed"
    if hessian is None and len(inside) > MOST_PARAMETERS:
        hessian, information = found.at.information, "average"
    if hessian is None:
        hessian = observed_hessian(held, found.at, central=True)
    covariance, unknown = inverse_information(hessian, inside)
    into = held.holding.jacobian(held.holding.base)
    return into @ covariance @ into.T, into @ unknown, information


def observed_hessian(held: Held[LaplacePoint], at: LaplacePoint, central: bool) -> FloatArray:
    """The Hessian of the deviance by differences of its gradient; zero for parameters at the boundary.

    Parameters
    ----------
    at : LaplacePoint
        Over the parameters that are free.
    central : bool
        To both sides, with an error of the second order in the step; else to one side, at about half the cost.
    """
    inside = _inside(held.holding, at.factors)
    hessian = np.zeros((len(at.theta), len(at.theta)))
    if not len(inside):
        return hessian
    steps = np.diag(DIFFERENCE * np.sqrt(2 / np.maximum(np.diag(at.metric), 1e-10)))[inside]

    def gradient(step: FloatArray) -> FloatArray:
        return held.evaluate(at.theta + step, at).gradient

    # modes behind and ahead must be as accurate: that of the search's own point is not
    back = -steps if central else np.zeros((1, len(at.theta)))
    # side by side, since a factorisation has one thread
    found = cast(Laplace, held.objective).of.pattern.engine.map(gradient, [(step,) for step in (*steps, *back)])
    ahead, behind = np.array(found[: len(steps)]), np.array(found[len(steps) :])
    hessian[inside] = (ahead - behind) / ((2 if central else 1) * steps.sum(axis=1))[:, None]
    return (hessian + hessian.T) / 2


def with_hessian(begun: Coarse) -> tuple[LaplacePoint, FloatArray | None] | None:
    """The first point of an exact search with the Hessian of the deviance there, side by side.

    By differences to one side; None where that is too much work. None for both if they cannot be computed.
    """
    holding, theta = begun.holding, begun.theta
    factors = holding.layout.factors(holding.whole(theta)[: holding.layout.parameters])
    inside = _inside(holding, factors)
    steps = np.diag(AHEAD * np.sqrt(2 / np.maximum(np.diag(begun.metric), 1e-10)))[inside]
    points: list[LaplacePoint] = []

    def gradient(step: FloatArray) -> FloatArray:
        problem = begun.at(theta + step)
        if not step.any():
            points.append(Held(problem, holding).evaluate(theta))
            return points[0].gradient
        whole = holding.whole(theta + step)
        return np.asarray(holding.jacobian(whole).T @ laplace_gradient(problem, whole, problem.start))

    wanted = 0 < len(inside) <= MOST_PARAMETERS
    tasks = [np.zeros_like(theta), *(steps if wanted else [])]
    try:
        here, *ahead = begun.problem.of.pattern.engine.map(gradient, [(step,) for step in tasks])
    except FitError:
        return None
    if not wanted:
        return points[0], None
    hessian = np.zeros((len(theta), len(theta)))
    hessian[inside] = (np.array(ahead) - here) / steps.sum(axis=1)[:, None]
    return points[0], (hessian + hessian.T) / 2


def _inside(holding: Holding, factors: tuple[FloatArray, ...]) -> npt.NDArray[np.intp]:
    """Free parameters that are not at the boundary."""
    layout = holding.layout
    free = np.append(free_parameters(layout, factors), np.ones(len(holding.base) - layout.parameters, np.bool_))
    return np.flatnonzero(free[holding.free])
