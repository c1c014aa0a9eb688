"""A generalized mixed model with many levels of several crossed factors: Laplace's approximation by probes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.errors import FitError
from ranef.learn.assemble import assemble, natural
from ranef.learn.doubling import COARSE_PROBES, COARSE_ROWS, noise, search_doubling
from ranef.learn.draws import Draws, draws_from
from ranef.learn.held import Given, Held, Holding, whole_point
from ranef.learn.laplace import Laplace, followed, mode_at, origin, parameter_sums
from ranef.learn.minimise import Step
from ranef.learn.mode import ConjugateGradients, Exact, Mode, find_mode
from ranef.learn.mode_tangents import find_tangents
from ranef.learn.newton import is_positive
from ranef.learn.posterior import stochastic_outcome
from ranef.learn.prepared import (
    Generalized,
    describe,
    holding_of,
    marginal_fit,
    starting_coefficients,
    starting_phi,
    starting_theta,
    working_problem,
)
from ranef.learn.probes import Probes
from ranef.learn.root import TIGHTEST, Equations, Root, coarse_start
from ranef.learn.start import Start, start_at_mode
from ranef.learn.stochastic_laplace import (
    LaplaceEstimate,
    extrapolated,
    laplace_deviance,
    laplace_equations,
    probes_at,
)
from ranef.learn.thresholds import with_thresholds
from ranef.learn.uncertainty import (
    FixedEffects,
    ParameterUncertainty,
    fixed_effects,
    free_parameters,
    inverse_information,
)
from ranef.solve.elimination import Coefficients, by_block, from_blocks

FloatArray = npt.NDArray[np.float64]

# before an exact search: probes, evaluations, and the predicted decrease from which one step leads near enough
START_PROBES, START_ITERATIONS, START_NEAR = 4, 8, 0.5
# of its modes: with many columns a factorisation costs more than some steps by conjugate gradients
APPROACH = ConjugateGradients(tolerance=0.0, accuracy=1e-4, settled=1e-6)
# in that search: what is then left of a mode moves the gradient by far less than the search's tolerance
AT_MODE = Exact(settled=1e-8)
# of a parameter's standard error given the others: the differences of the score that make the Hessian
DIFFERENCE = 0.05
# beyond, each parameter's evaluation is one too many
MOST_OBSERVED = 12
LOGDET_PROBES = 16
POSTERIOR_DRAWS = 32
# of the log-likelihood that the joint mode, where the search starts, may lack: a share of the rows
START = 2e-4


def fit_stochastic(
    prepared: Generalized,
    method: str,
    *,
    probes: int | None,
    seed: int,
    start: Start | None,
    given: Given | None,
    tolerance: float,
    max_iterations: int,
    bound: float | None,
    begun: float,
    report: Callable[[Step, float, Mapping[str, FloatArray]], None] | None,
) -> Model:
    """Fit by the stochastic solver; see `ranef.learn.generalized.fit_generalized`."""
    problem, parameters = starting_point(prepared, method == "joint", start, given, bound)
    holding = holding_of(prepared, given, len(parameters) - prepared.layout.parameters)
    history: list[Step] = []

    def tell(step: Step, at: LaplaceEstimate) -> Step:
        history.append(replace(step, iteration=len(history), seconds=time.perf_counter() - begun))
        if report is not None:
            report(history[-1], *natural(working_problem(prepared, at), at))
        return history[-1]

    few = Held(laplace_equations(problem, COARSE_PROBES, seed, False), holding)
    found = search_doubling(
        lambda count: Held(laplace_equations(problem, count, seed), holding),
        parameters[holding.free],
        coarse=few if len(problem.of.y) >= COARSE_ROWS else None,
        probes=probes,
        tolerance=tolerance,
        max_iterations=max_iterations,
        report=tell,
    )
    into = holding.jacobian(holding.base)
    hessian = _observed(found.equations, found.root.at, holding)
    at = found.root.at if hessian is None else replace(found.root.at, metric=hessian)
    covariance = into @ noise(at, found.probes) @ into.T
    root = Root(found.root.at, found.root.converged and found.enough, found.history, found.root.decrement)
    return stochastic_model(prepared, problem, holding, root, covariance, found.probes, method, seed, begun, hessian)


def _observed(equations: Equations[LaplaceEstimate], at: LaplaceEstimate, holding: Holding) -> FloatArray | None:
    """The Hessian of the deviance over what is free, by differences of the score with the same probes.

    These are kept, so that their error of the score hardly changes over a fraction of a standard error. Zero for
    parameters at the boundary; None where there are many parameters, or the differences make no minimum.
    """
    inside = _inside(holding, at)
    if not 0 < len(inside) <= MOST_OBSERVED:
        return None
    hessian = np.zeros_like(at.metric)
    for j in inside:
        step = np.zeros(len(at.theta))
        step[j] = DIFFERENCE * np.sqrt(2 / max(at.metric[j, j], 1e-10))
        try:
            ahead = equations.evaluate(at.theta + step, at, TIGHTEST)
        except FitError:
            return None
        hessian[j] = (ahead.gradient - at.gradient) / step[j]
    hessian = (hessian + hessian.T) / 2
    own = np.ix_(inside, inside)
    return hessian if is_positive(hessian[own], at.metric[own]) else None


def starting_point(
    prepared: Generalized, joint: bool, start: Start | None, given: Given | None = None, bound: float | None = None
) -> tuple[Laplace, FloatArray]:
    """The problem, and where its search begins: at the joint mode that goes with the first covariances."""
    cross, layout = prepared.of.pattern.cross, prepared.layout
    beta, phi = marginal_fit(prepared)
    phi = starting_phi(prepared, phi, start)
    u = origin(cross, beta)
    theta = starting_theta(prepared, u, phi, start)
    holding = holding_of(prepared, given, 0)
    theta = holding.whole(theta[holding.free])
    factors = layout.factors(theta)
    solver = ConjugateGradients(tolerance=0.0, accuracy=1e-2, settled=START * cross.rows)
    mode = find_mode(prepared.of, factors, starting_coefficients(prepared, u, factors, start), phi, True, solver)
    u = mode.u
    if start is None:
        theta = holding.whole(start_at_mode(mode.cross, mode.sums, mode.x, layout)[holding.free])
        u = _with_factors(mode, layout.factors(theta))
    beta = u.rest[cross.random : cross.random + cross.fixed, 0]
    problem = Laplace(prepared.of, layout, joint, solver, u, bound)
    return problem, np.concatenate([theta, np.zeros(0) if joint else beta, phi])


def _with_factors(mode: Mode, factors: Sequence[FloatArray]) -> Coefficients:
    """The mode's coefficients, raw ones as they are, in the spherical coordinates of other covariances."""
    blocks = [np.linalg.pinv(factor) @ b for b, factor in zip(by_block(mode.cross, mode.x), factors, strict=True)]
    u = from_blocks(mode.cross, blocks, 1)
    u.rest[mode.cross.random :] = mode.u.rest[mode.cross.random :]
    return u


@dataclass(frozen=True, eq=False)
class Coarse:
    """Where an exact search begins.

    Attributes
    ----------
    problem : Laplace
        To be solved exactly, with the mode at ``theta``.
    holding : Holding
    theta : float64 array
        Parameters that are free.
    metric : float64 array
        Over them, at a point nearby.
    parameters, mode, moves, score_phi
        As of `ranef.learn.laplace.LaplacePoint`.
    """

    problem: Laplace
    holding: Holding
    theta: FloatArray
    metric: FloatArray
    parameters: FloatArray
    mode: Mode
    moves: Coefficients
    score_phi: Coefficients

    def at(self, theta: FloatArray) -> Laplace:
        """The problem with the mode, to first order, at parameters nearby."""
        return replace(self.problem, start=followed(self.problem, self, self.holding.whole(theta)))


def coarse_point(
    prepared: Generalized, joint: bool, start: Start | None, given: Given | None, seed: int, left: float
) -> Coarse | None:
    """A start for the exact search from a few evaluations with few probes, which cost far less than its own.

    Parameters
    ----------
    left : float
        What is to be gained from there, at most: a predicted decrease of the deviance.

    Returns
    -------
    Coarse or None
        None if these evaluations do not lead near.
    """
    last: LaplaceEstimate | None = None

    def note(step: Step, at: LaplaceEstimate) -> None:
        nonlocal last
        last = at

    try:
        problem, parameters = starting_point(prepared, joint, start, given)
    except FitError:
        return None
    holding = holding_of(prepared, given, len(parameters) - prepared.layout.parameters)
    few = Held(laplace_equations(problem, START_PROBES, seed, False), holding)
    theta, near = coarse_start(few, parameters[holding.free], START_ITERATIONS, note, START_NEAR, left)
    if last is None or not near:
        return None
    whole = holding.whole(theta)
    problem = replace(problem, solver=APPROACH)
    try:
        mode, factors, phi = mode_at(problem, whole, extrapolated(problem, last, whole))
    except FitError:
        return None
    scores = tuple(s[:, :, 0] for s in by_block(mode.cross, mode.sums))
    _, score_phi, information_phi = parameter_sums(problem, mode, phi)
    moves = find_tangents(problem, mode, factors, scores, score_phi, information_phi).moves
    exact = replace(problem, solver=AT_MODE, start=mode.u)
    return Coarse(exact, holding, theta, last.metric, whole, mode, moves, score_phi)


def stochastic_model(
    prepared: Generalized,
    laplace: Laplace,
    holding: Holding,
    found: Root[LaplaceEstimate],
    noise: FloatArray,
    probes: int,
    method: str,
    seed: int,
    begun: float,
    hessian: FloatArray | None = None,
) -> Model:
    """The fitted model at an estimate.

    Parameters
    ----------
    holding : Holding
        Over whose free parameters the estimate is.
    noise : float64 array, shape (parameters, parameters)
        Monte-Carlo covariance of all parameters.
    probes : int
        That the search needed.
    hessian : float64 array, optional
        Of the deviance over what is free; without, standard errors are by average information.
    """
    at, family, layout = whole_point(found.at, holding), prepared.family, prepared.layout
    problem = working_problem(prepared, at)
    phi = laplace.split(at.theta)[2]
    m, p = layout.parameters, laplace.fixed
    covariance, unknown = _covariance(holding, found.at, hessian)
    fixed = fixed_effects(problem.criterion, at)
    if p:
        fixed = replace(fixed, vcov=covariance[m : m + p, m : m + p])
    fixed, thresholds = with_thresholds(laplace, prepared.scaling, prepared.design.groups, at, covariance, fixed)
    names = tuple(spec.name for spec in prepared.design.spec.groups)
    deviances = laplace_deviance(laplace, at, names, max(probes, LOGDET_PROBES), seed)
    sample = _posterior(laplace, at, fixed, max(probes, POSTERIOR_DRAWS), seed)
    ended = replace(found, at=at)
    follow = _fixed_noise(laplace, at, fixed, noise)
    outcome = stochastic_outcome(problem, ended, deviances, fixed, sample, _bordered(noise, m), follow, probes)
    described = describe(family, method, phi, covariance, p, noise=noise)
    lost = np.zeros((m + 1, unknown.shape[1]))
    lost[:m] = unknown[:m]
    uncertainty = ParameterUncertainty(_bordered(covariance, m), lost, "average" if hessian is None else "observed")
    none = np.zeros((0, *fixed.vcov.shape))
    model = assemble(problem, outcome, replace(fixed, gradient=none), uncertainty, begun, described, holding)
    return replace(model, thresholds=thresholds)


def _fixed_noise(laplace: Laplace, at: LaplaceEstimate, fixed: FixedEffects, noise: FloatArray) -> FloatArray:
    """Monte-Carlo covariance of the fixed effects; at joint modes they follow the other parameters."""
    m, p, r = laplace.layout.parameters, laplace.fixed, laplace.cross.random
    if not laplace.joint:
        return noise[m : m + p, m : m + p]
    moves = fixed.moves[:, :m]
    phi = laplace.split(at.theta)[2]
    if len(phi):
        own = at.solve(parameter_sums(laplace, at.mode, phi)[1], fixed=True).rest[r : r + laplace.cross.fixed]
        moves = np.concatenate([moves, own], axis=1)
    return np.asarray(moves @ noise @ moves.T)


def _bordered(covariance: FloatArray, parameters: int) -> FloatArray:
    """That of the covariances' parameters, and of a residual variance that is known to be one."""
    out = np.zeros((parameters + 1, parameters + 1))
    out[:-1, :-1] = covariance[:parameters, :parameters]
    return out


def _covariance(holding: Holding, at: LaplaceEstimate, hessian: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    """Inverse of the information over all parameters, zero where held; ``at`` is over the others."""
    known = at.information if hessian is None else hessian
    covariance, unknown = inverse_information(known, _inside(holding, at))
    into = holding.jacobian(holding.base)
    return into @ covariance @ into.T, into @ unknown


def _inside(holding: Holding, at: LaplaceEstimate) -> npt.NDArray[np.intp]:
    """Free parameters that are not at the boundary."""
    layout = holding.layout
    free = np.append(free_parameters(layout, at.factors), np.ones(len(holding.base) - layout.parameters, np.bool_))
    return np.flatnonzero(free[holding.free])


def _posterior(laplace: Laplace, at: LaplaceEstimate, fixed: FixedEffects, count: int, seed: int) -> Draws:
    """Draws of all coefficients, at the mode's weights."""
    phi = laplace.split(at.theta)[2]

    def probes(size: int, seed: int) -> Probes:
        return probes_at(laplace_equations(laplace, size, seed), at.mode, phi)

    return draws_from(at.system, probes, fixed.vcov, fixed, count, seed)
