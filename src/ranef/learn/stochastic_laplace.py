"""The Laplace likelihood by estimating equations: its score from probes, for any number of levels.

As `ranef.learn.laplace`, with the working system at the mode solved by conjugate gradients. The variance ``h_n`` of a
row's linear predictor, which the curvature's change is weighted with, follows the law of total variance as the traces
do: given everything but the row's level of the first factor eliminated it is exact, and only what the rest adds is
averaged over the probes. Everything is linear in what a probe says, so that each probe has its own gradient, and their
spread is the Monte-Carlo error. The tangents come from the same batch of solves: no further one is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy.linalg import block_diag

from ranef.kernel.weighted import add_variances
from ranef.learn.boundary import Within
from ranef.learn.criterion import chain_rule, curvature
from ranef.learn.directions import along, components, directions
from ranef.learn.finite import check_finite
from ranef.learn.laplace import (
    AtMode,
    Laplace,
    is_near,
    mode_at,
    parameter_sums,
)
from ranef.learn.likelihood import eta, part, root_weights
from ranef.learn.mode import ConjugateGradients, Mode
from ranef.learn.mode_tangents import Sides, Tangents, tangent_sides, tangents_from
from ranef.learn.probes import Probes
from ranef.learn.shifts import separation, shifts
from ranef.learn.traces import grams, traces
from ranef.solve.elimination import Coefficients, beside, by_block, combine, from_blocks, inner, multiply, zeros
from ranef.solve.iterative import (
    TOLERANCE,
    Iterative,
    Solved,
    log_determinant,
    refine_fixed,
    solve_iterative,
    spherical_solution,
)
from ranef.solve.weighted import flat, own_variances, row_values, sign_sums, sums_of_rows

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LaplaceEquations(Within[AtMode]):
    """What the estimating function is a function of, besides its parameters.

    Attributes
    ----------
    problem : Laplace
        Its solver is not read: how accurately the equations are solved depends on the point.
    count : int
        Probes.
    seed : int
    noise : Coefficients
        Standard normal numbers of the probes, spherical coordinates.
    shifts : Coefficients
        Functionals of the coefficients whose part of all variances is computed exactly; see `ranef.learn.shifts`.
    """

    problem: Laplace
    count: int
    seed: int
    noise: Coefficients
    shifts: Coefficients

    def evaluate(
        self, theta: FloatArray, near: LaplaceEstimate | None = None, tolerance: float | None = None
    ) -> LaplaceEstimate:
        """`estimate_laplace`."""
        return estimate_laplace(self, theta, near, TOLERANCE if tolerance is None else tolerance)

    @property
    def domain(self) -> Laplace:
        return self.problem


@dataclass(frozen=True, eq=False)
class LaplaceEstimate:
    """The estimating function at one point; the fields of `ranef.learn.laplace.LaplacePoint`, but for the deviance.

    Attributes
    ----------
    gradient_covariance : float64 array, shape (parameters, parameters)
        Monte-Carlo covariance of ``gradient``.
    slope_errors : tuple of float64 arrays (k, k)
        Monte-Carlo standard errors of ``slopes``.
    others : float64 array
        Parameters besides those of the covariances.
    drift : Coefficients
        Derivatives of the spherical modes by the covariances (`ranef.learn.directions`) at a given ``Lambda``, by the
        fixed effects and by ``phi``.
    warm : float64 array
        Solutions that the next point's start from.
    tolerance : float
        Of the solutions.
    """

    theta: FloatArray
    gradient: FloatArray
    metric: FloatArray
    information: FloatArray
    slopes: tuple[FloatArray, ...]
    scores: tuple[FloatArray, ...]
    factors: tuple[FloatArray, ...]
    mode: Mode
    system: Iterative
    gradient_covariance: FloatArray
    slope_errors: tuple[FloatArray, ...]
    others: FloatArray
    drift: Coefficients
    warm: FloatArray
    tolerance: float
    sigma2: float = 1.0

    @property
    def solution(self) -> Coefficients:
        return self.mode.x

    def solve(self, right: Coefficients, fixed: bool = True) -> Coefficients:
        """``Q r`` in raw coordinates."""
        return solve_iterative(self.system, right, fixed=fixed).x


def laplace_equations(problem: Laplace, count: int, seed: int, exact_shifts: bool = True) -> LaplaceEquations:
    """Draw the probes' normal numbers; their signs are drawn whenever the rows' weights are known.

    Parameters
    ----------
    exact_shifts : bool
        Without, all is left to the probes: less work for a rough answer.
    """
    cross = problem.cross
    noise = [
        np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1, b))).standard_normal((levels, size, count))
        for b, (levels, size) in enumerate(zip(cross.levels, cross.sizes, strict=True))
    ]
    known = shifts(cross) if exact_shifts else zeros(cross, 0)
    return LaplaceEquations(problem, count, seed, from_blocks(cross, noise, count), known)


def probes_at(equations: LaplaceEquations, mode: Mode, phi: FloatArray) -> Probes:
    """The probes of the working system at a mode."""
    of = equations.problem.of
    roots = root_weights(of, flat(mode.cross, mode.x)[:, 0], phi)
    return Probes(equations.count, sign_sums(of.pattern, roots, equations.count, equations.seed), equations.noise)


def estimate_laplace(
    equations: LaplaceEquations, parameters: FloatArray, near: LaplaceEstimate | None, tolerance: float
) -> LaplaceEstimate:
    """Score, metric and Monte-Carlo errors.

    Parameters
    ----------
    near : LaplaceEstimate, optional
        A point to start from.
    tolerance : float
        Of the solutions, and what the mode's accuracy follows.
    """
    solver = _solver(tolerance, len(equations.problem.of.y))
    problem = replace(equations.problem, solver=solver)
    layout = problem.layout
    moving = directions(layout)
    start = problem.start if near is None else extrapolated(problem, near, parameters)
    mode, factors, phi = mode_at(problem, parameters, start)
    system = cast(Iterative, mode.system)
    cross, engine, count = mode.cross, problem.of.pattern.engine, equations.count
    accuracy = float(np.clip(tolerance, 1e-5, 1e-3))
    if problem.joint:
        system = refine_fixed(system, accuracy)
    scores = tuple(s[:, :, 0] for s in by_block(cross, mode.sums))
    moved, score_phi, information_phi = parameter_sums(problem, mode, phi)
    sides = tangent_sides(problem, mode, scores, score_phi, moving)
    probes = probes_at(equations, mode, phi)
    solved = _solve(problem, system, probes, equations.shifts, sides, near, accuracy)
    known = count + equations.shifts.rest.shape[1]
    drawn, tangent = _cut(solved.x, known)
    found = tangents_from(problem, mode, sides, tangent, information_phi)
    change = separation(inner(equations.shifts, drawn), count, 0)
    given = _given_rest(system, probes, equations.shifts, drawn)
    implicit, weight_phi = _implicit(problem, mode, phi, own_parts(system), combine(given, change), count, found)
    # each probe's slopes, then its gradient
    drawn = combine(drawn, change)
    products = multiply(cross, drawn, engine)
    slopes = []
    at = 0
    for own, factor, s, product, x, directed in zip(
        grams(cross), factors, scores, by_block(cross, products), by_block(cross, drawn), moving, strict=True
    ):
        exact, each = traces(own, factor, product, x, count)
        to = at + len(directed)
        slopes.append(exact - each - s.T @ s + along(directed, implicit[:, at:to]))
        at = to
    m, r, p = layout.parameters, cross.random, problem.fixed
    gradients = np.empty((count, len(parameters)))
    for s in range(count):
        gradients[s, :m] = chain_rule(layout, factors, [slope[s] for slope in slopes])
    gradients[:, m:] = implicit[:, at:]
    gradients[:, m : m + p] -= 2 * mode.sums.rest[r : r + p, 0]
    gradients[:, m + p :] += weight_phi - 2 * moved
    mean_slopes = tuple(slope.mean(axis=0) for slope in slopes)
    turn = _by_parameters(problem, moving, factors)
    information = turn @ found.metric @ turn.T
    check_finite(gradients, information)
    metric = information.copy()
    metric[:m, :m] += curvature(layout, mean_slopes)
    centred = gradients - gradients.mean(axis=0)
    return LaplaceEstimate(
        theta=parameters,
        gradient=gradients.mean(axis=0),
        metric=metric,
        information=information,
        slopes=mean_slopes,
        scores=scores,
        factors=factors,
        mode=mode,
        system=system,
        gradient_covariance=centred.T @ centred / (count * max(count - 1, 1)),
        slope_errors=tuple(slope.std(axis=0, ddof=1) / np.sqrt(count) for slope in slopes),
        others=parameters[m:],
        drift=_drift(system, solved, known, sides),
        warm=solved.spherical,
        tolerance=tolerance,
    )


def _solver(tolerance: float, rows: int) -> ConjugateGradients:
    """Modes are found to more digits than the solutions: their error is multiplied by the system in the score."""
    return ConjugateGradients(
        tolerance=0.0,
        accuracy=float(np.clip(1e2 * tolerance, 1e-3, 1e-2)),
        settled=float(np.clip(1e7 * tolerance**2, 1e-5, min(10.0, max(1e-5, 1e-5 * rows)))),
    )


def extrapolated(problem: Laplace, near: LaplaceEstimate, parameters: FloatArray) -> Coefficients:
    """The mode at new parameters to first order: ``du = dLambda' Z'g + Lambda' d(Z'g)``."""
    m = problem.layout.parameters
    factors = problem.layout.factors(parameters[:m])
    cross, u = near.mode.cross, near.mode.u
    change = [
        components(moved, new @ new.T - old @ old.T)
        for moved, new, old in zip(directions(problem.layout), factors, near.factors, strict=True)
    ]
    by = np.concatenate([*change, parameters[m:] - near.others])
    turned = [s @ (new - old) for s, new, old in zip(near.scores, factors, near.factors, strict=True)]
    step = from_blocks(cross, [t[:, :, None] for t in turned], 1)
    stages = tuple(a + (d @ by)[:, :, None] for a, d in zip(step.stages, near.drift.stages, strict=True))
    rest = step.rest + (near.drift.rest @ by)[:, None]
    new = Coefficients(tuple(a + b for a, b in zip(u.stages, stages, strict=True)), u.rest + rest)
    return new if is_near(cross, u, new) else u


def _solve(
    problem: Laplace,
    system: Iterative,
    probes: Probes,
    functionals: Coefficients,
    sides: Sides,
    near: LaplaceEstimate | None,
    accuracy: float,
) -> Solved:
    """Probes and shifts, given the fixed effects, and tangents in one batch."""
    right = beside(probes.data, functionals, sides.right)
    count = right.rest.shape[1]
    others = sides.right.rest.shape[1]
    solved = solve_iterative(
        system,
        right,
        fixed=np.arange(count) >= (count - others if problem.joint else count),
        noise=beside(probes.noise, zeros(system.cross, count - probes.count)),
        start=None if near is None or near.warm.shape[1] != count else near.warm,
        tolerance=accuracy,
    )
    solved.x.rest[-1] = 0.0
    return solved


def _cut(x: Coefficients, at: int) -> tuple[Coefficients, Coefficients]:
    """The sides before ``at``, and the others."""
    first = Coefficients(tuple(s[:, :, :at] for s in x.stages), x.rest[:, :at])
    return first, Coefficients(tuple(s[:, :, at:] for s in x.stages), x.rest[:, at:])


def own_parts(system: Iterative) -> FloatArray:
    """Covariance (levels, k, k) of the coefficients of each level of the first stage, given all others."""
    transfer = system.stages[0].transfer
    return np.asarray(transfer.transpose(0, 2, 1) @ transfer)


def _given_rest(system: Iterative, probes: Probes, functionals: Coefficients, drawn: Coefficients) -> Coefficients:
    """Solutions with the first stage's coefficients at their mean given all others."""
    stage = system.stages[0]
    half = stage.transfer @ beside(probes.data, functionals).stages[0]
    half[:, :, : probes.count] += stage.root @ probes.noise.stages[0]
    return Coefficients((drawn.stages[0] - stage.transfer.transpose(0, 2, 1) @ half, *drawn.stages[1:]), drawn.rest)


def _implicit(
    problem: Laplace,
    mode: Mode,
    phi: FloatArray,
    own: FloatArray,
    given: Coefficients,
    count: int,
    found: Tangents,
) -> tuple[FloatArray, FloatArray]:
    """What the change of the curvature costs, probe by probe.

    Parameters
    ----------
    own : float64 array, shape (levels, k, k)
        Covariances from `own_parts`.
    given : Coefficients
        What the other coefficients add to them: in each probe, and in each direction that is known exactly.

    Returns
    -------
    implicit : float64 array, shape (probes, sides of the tangents)
        As the mode moves.
    weight_phi : float64 array, shape (probes, parameters of the family)
        At a given mode.
    """
    of, cross = problem.of, mode.cross
    columns, moves = flat(cross, given), flat(cross, found.moves)
    x = flat(cross, mode.x)[:, 0]

    def piece(first: int, last: int) -> tuple[FloatArray]:
        arguments = of.y[first:last], eta(of, x, first, last), part(of.weights, first, last), phi
        third = of.family.derivatives(*arguments)[3]
        weight_phi = of.family.parameter_derivatives(*arguments)[2]
        moved = row_values(of.pattern, moves, first, last)
        moved *= -third[:, None]
        out = np.zeros((count, moves.shape[1] + weight_phi.shape[1]))
        add_variances(
            row_values(of.pattern, columns, first, last),
            own_variances(of.pattern, own, first, last),
            count,
            np.concatenate([moved, weight_phi], axis=1) if weight_phi.shape[1] else moved,
            out,
        )
        return (out,)

    (sums,) = sums_of_rows(of.pattern, piece)
    return sums[:, : moves.shape[1]], sums[:, moves.shape[1] :]


def _by_parameters(problem: Laplace, moving: tuple[FloatArray, ...], factors: tuple[FloatArray, ...]) -> FloatArray:
    """Derivatives of the sides of the tangents by the parameters, shape (parameters, sides)."""
    layout = problem.layout
    theta = np.zeros((layout.parameters, sum(len(moved) for moved in moving)))
    at = 0
    for moved, basis, own, factor in zip(moving, layout.basis, layout.slices, factors, strict=True):
        half = basis @ factor.T
        to = at + len(moved)
        theta[own, at:to] = [components(moved, change) for change in half + half.transpose(0, 2, 1)]
        at = to
    return np.asarray(block_diag(theta, np.eye(problem.others)))


def _drift(system: Iterative, solved: Solved, count: int, sides: Sides) -> Coefficients:
    """See `LaplaceEstimate`: minus the spherical solutions, but for those by ``phi``."""
    _, y = _cut(spherical_solution(system, solved), count)
    sign = np.where(np.arange(y.rest.shape[1]) < sides.known.rest.shape[1], -1.0, 1.0)
    return Coefficients(tuple(sign * s for s in y.stages), sign * y.rest)


def laplace_deviance(problem: Laplace, at: LaplaceEstimate, names: Sequence[str], probes: int, seed: int) -> FloatArray:
    """The Laplace deviance at an estimate, one value for each probe of `ranef.solve.iterative.log_determinant`."""
    mode = at.mode
    value = -2 * (mode.value + problem.of.constant) + mode.penalty + at.system.logdet_stages
    return np.asarray(value + log_determinant(at.system, names, probes, seed))
