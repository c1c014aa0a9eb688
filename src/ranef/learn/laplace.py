"""The Laplace likelihood of a generalized mixed model with its gradient, over covariances, fixed effects and the rest.

    deviance = -2 log p(y | u^) + |u^|^2 + log|C_b|     (plus the family's constant)

over ``(theta, beta, phi)``; with ``joint`` the fixed effects stand at their joint mode with the random effects (lme4's
nAGQ = 0) and the deviance is one of ``(theta, phi)``.

The curvature ``W`` in ``C_b`` moves with the mode. Its part of the gradient comes from one solve for the adjoint of
the mode's equations; the metric of the search comes from the *tangents* (`ranef.learn.mode_tangents`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from ranef.errors import FitError
from ranef.learn.boundary import inside, snapped
from ranef.learn.criterion import chain_rule, curvature, working_variates
from ranef.learn.finite import check_finite
from ranef.learn.joint_mode import find_joint_mode
from ranef.learn.likelihood import Likelihood, eta, part
from ranef.learn.mode import Exact, Mode, Solver, find_mode, less, random_square, to_spherical
from ranef.learn.mode_tangents import find_tangents
from ranef.learn.newton import Point
from ranef.prior import Layout
from ranef.solve.cross_products import CrossProducts
from ranef.solve.elimination import Coefficients, by_block, combine, inner, multiply, zeros
from ranef.solve.inverse import Inverse, invert
from ranef.solve.system import System
from ranef.solve.weighted import flat, inverse_by_unit, row_variances, sums_by

FloatArray = npt.NDArray[np.float64]

# after a step so short the logarithm of the determinant and its derivatives follow the mode by their own slopes
EXACT = Exact(settled=1e-10)
# beyond this share of their length, modes are not extrapolated
FARTHEST = 0.5
# of joint modes by a bound of the curvature, on the way to other parameters
BOUND_TOLERANCE, BOUND_ITERATIONS = 1e-9, 5_000


class AtMode(Point, Protocol):
    """A point of either path: `LaplacePoint`, or an estimate."""

    @property
    def mode(self) -> Mode: ...


@dataclass(frozen=True, eq=False)
class Laplace:
    """What the Laplace deviance is a function of, besides its parameters.

    Attributes
    ----------
    of : Likelihood
    layout : Layout
    joint : bool
        The fixed effects are at their joint mode, not among the parameters.
    solver : Exact or ConjugateGradients
    start : Coefficients
        Where the first search for the mode begins: spherical random effects, and the fixed effects.
    bound : float, optional
        Of the curvature of a row of weight one: joint modes are found by the solver that keeps it.
    """

    of: Likelihood
    layout: Layout
    joint: bool
    solver: Solver
    start: Coefficients
    bound: float | None = None

    @property
    def cross(self) -> CrossProducts:
        return self.of.pattern.cross

    @property
    def size(self) -> float:
        return self.of.size

    @property
    def fixed(self) -> int:
        """Fixed effects among the parameters."""
        return 0 if self.joint else self.cross.fixed

    @property
    def others(self) -> int:
        """Parameters besides those of the covariances."""
        return self.fixed + len(self.of.family.parameters)

    def split(self, parameters: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """``theta``, ``beta`` (empty with ``joint``) and ``phi``, held where it makes no difference any more."""
        m = self.layout.parameters
        phi = self.of.family.held(parameters[m + self.fixed :])
        return parameters[:m], parameters[m : m + self.fixed], phi

    def evaluate(
        self, parameters: FloatArray, near: LaplacePoint | None = None, tolerance: float | None = None
    ) -> LaplacePoint:
        """`evaluate_laplace`, the search for the mode starting from ``near``'s; its tolerance is the solver's."""
        del tolerance
        return evaluate_laplace(self, parameters, self.start if near is None else followed(self, near, parameters))

    def canonical(self, parameters: FloatArray) -> FloatArray:
        m = self.layout.parameters
        return np.concatenate([self.layout.canonical(parameters[:m]), parameters[m:]])

    def snapped(self, parameters: FloatArray) -> FloatArray | None:
        m = self.layout.parameters
        theta = snapped(self.layout, parameters[:m])
        return None if theta is None else np.concatenate([theta, parameters[m:]])

    def inside(self, at: AtMode, least: float) -> Iterator[FloatArray]:
        """See `ranef.learn.boundary.inside`."""

        def information(changes: tuple[FloatArray, ...]) -> FloatArray:
            a = working_variates(at.mode.cross, at.scores, changes)
            right = multiply(at.mode.cross, a, self.of.pattern.engine)
            right.rest[-1] = 0.0
            return inner(a, right) - inner(right, at.solve(right, self.joint))

        for theta in inside(self.layout, at, least, information):
            yield np.concatenate([theta, at.theta[self.layout.parameters :]])


@dataclass(frozen=True, eq=False)
class LaplacePoint:
    """The deviance at one point; what the searches read of `ranef.learn.criterion.Evaluation`.

    Attributes
    ----------
    theta : float64 array, shape (parameters,)
        All parameters: those of the covariances, the fixed effects unless ``joint``, the family's.
    slopes : tuple of float64 arrays (k, k)
        Derivative of the deviance by each block's covariance.
    scores : tuple of float64 arrays (levels, k)
        ``Z'g`` of each block.
    conditional : tuple of float64 arrays (levels, k, k)
        Covariance of each level's coefficients given the parameters.
    parameters : float64 array
        Of the whole problem, whichever of them ``theta`` are.
    moves, score_phi : Coefficients
        As in `Tangents`, and of `parameter_sums`: how the mode moves with them.
    """

    theta: FloatArray
    deviance: float
    gradient: FloatArray
    metric: FloatArray
    information: FloatArray
    slopes: tuple[FloatArray, ...]
    scores: tuple[FloatArray, ...]
    factors: tuple[FloatArray, ...]
    mode: Mode
    solver: Solver
    conditional: tuple[FloatArray, ...]
    inverse: Inverse
    parameters: FloatArray
    moves: Coefficients
    score_phi: Coefficients
    sigma2: float = 1.0

    @property
    def solution(self) -> Coefficients:
        return self.mode.x

    @property
    def system(self) -> System:
        return cast(System, self.mode.system)

    def solve(self, right: Coefficients, fixed: bool = True) -> Coefficients:
        """``Q r`` in raw coordinates; see `ranef.solve.system.solve`."""
        return self.solver.solve(self.mode.system, right, fixed)


def origin(cross: CrossProducts, beta: FloatArray) -> Coefficients:
    """No random effects, and the given fixed effects."""
    out = zeros(cross, 1)
    out.rest[cross.random : cross.random + cross.fixed, 0] = beta
    return out


def evaluate_laplace(problem: Laplace, parameters: FloatArray, start: Coefficients) -> LaplacePoint:
    """Deviance, gradient and metric on the exact path.

    Parameters
    ----------
    start : Coefficients
        Spherical coefficients to begin the search for the mode from: ``mode.u`` of a nearby point.

    Raises
    ------
    FitError
        If the family's parameters are out of range or the mode cannot be found.
    """
    return laplace_point(problem, parameters, *mode_at(problem, parameters, start))


def laplace_point(
    problem: Laplace, parameters: FloatArray, mode: Mode, factors: tuple[FloatArray, ...], phi: FloatArray
) -> LaplacePoint:
    """`evaluate_laplace` where the mode is known."""
    found = _slope(problem, mode, factors, phi)
    layout, m = problem.layout, problem.layout.parameters
    along = find_tangents(problem, mode, factors, found.scores, found.score_phi, found.information_phi)
    system = cast(System, mode.system)
    deviance = -2 * (mode.value + problem.of.constant) + mode.penalty + system.logdet_random
    deviance += 0.0 if mode.lag is None else float(inner(found.change, mode.lag)[0, 0])
    check_finite(deviance, found.gradient, along.metric)
    metric = along.metric.copy()
    metric[:m, :m] += curvature(layout, found.slopes)
    return LaplacePoint(
        theta=parameters,
        deviance=float(deviance),
        gradient=found.gradient,
        metric=metric,
        information=along.metric,
        slopes=found.slopes,
        scores=found.scores,
        factors=factors,
        mode=mode,
        solver=problem.solver,
        conditional=found.inverse.diagonal,
        inverse=found.inverse,
        parameters=parameters,
        moves=along.moves,
        score_phi=found.score_phi,
    )


def laplace_gradient(problem: Laplace, parameters: FloatArray, start: Coefficients) -> FloatArray:
    """The gradient of `evaluate_laplace` alone, which differences are made of: without the tangents."""
    mode, factors, phi = mode_at(problem, parameters, start)
    gradient = _slope(problem, mode, factors, phi).gradient
    check_finite(gradient)
    return gradient


@dataclass(frozen=True, eq=False)
class _Slope:
    """The gradient at a mode, and what it was made of; names as in `LaplacePoint` and `parameter_sums`."""

    gradient: FloatArray
    slopes: tuple[FloatArray, ...]
    scores: tuple[FloatArray, ...]
    inverse: Inverse
    change: Coefficients
    score_phi: Coefficients
    information_phi: FloatArray


def _slope(problem: Laplace, mode: Mode, factors: tuple[FloatArray, ...], phi: FloatArray) -> _Slope:
    of, cross = problem.of, mode.cross
    # what `Exact` prepares
    inverse = invert(cast(System, mode.system), fixed=False, stages=True)
    by_unit = inverse_by_unit(of.pattern, inverse)
    scores = tuple(s[:, :, 0] for s in by_block(cross, mode.sums))
    moved, score_phi, information_phi = parameter_sums(problem, mode, phi)
    x = flat(cross, mode.x)[:, 0]

    def pull(first: int, last: int) -> tuple[FloatArray, FloatArray]:
        """The rows' part for what moves the mode, and what the change of the curvature at a given mode costs."""
        place = part(of.weights, first, last)
        at, y = eta(of, x, first, last), of.y[first:last]
        h = row_variances(of.pattern, by_unit, first, last)
        third = of.family.derivatives(y, at, place, phi)[3]
        return (-h * third)[:, None], h @ of.family.parameter_derivatives(y, at, place, phi)[2]

    change, (weight_phi,) = sums_by(of.pattern, pull, 1)
    slopes = tuple(trace - s.T @ s for trace, s in zip(inverse.trace, scores, strict=True))
    slopes, implicit = follow_mode(problem, mode, slopes, scores, score_phi, change)
    gradient = explicit(problem, mode, factors, slopes, moved)
    gradient[problem.layout.parameters :] += np.concatenate(
        [implicit[: problem.fixed], implicit[problem.fixed :] + weight_phi]
    )
    return _Slope(gradient, slopes, scores, inverse, change, score_phi, information_phi)


class Followed(Protocol):
    """What is known of a point whose mode is followed; see `LaplacePoint`."""

    @property
    def parameters(self) -> FloatArray: ...
    @property
    def mode(self) -> Mode: ...
    @property
    def moves(self) -> Coefficients: ...
    @property
    def score_phi(self) -> Coefficients: ...


def followed(problem: Laplace, near: Followed, parameters: FloatArray) -> Coefficients:
    """Where the mode is at other parameters, its sums ``Z'g`` to first order: ``u = Lambda' Z'g``."""
    cross, by = near.mode.cross, (parameters - near.parameters)[:, None]
    step = combine(near.moves, by)
    sums = less(near.mode.sums, multiply(cross, step, problem.of.pattern.engine))
    own = combine(near.score_phi, -by[len(by) - near.score_phi.rest.shape[1] :])
    u = to_spherical(cross, problem.layout.factors(parameters[: problem.layout.parameters]), less(sums, own))
    fixed = slice(cross.random, cross.random + cross.fixed)
    u.rest[fixed] = near.mode.u.rest[fixed] + step.rest[fixed]
    return u if is_near(cross, near.mode.u, u) else near.mode.u


def is_near(cross: CrossProducts, old: Coefficients, new: Coefficients) -> bool:
    """Whether an extrapolated mode is near enough to be trusted."""
    return random_square(cross, less(new, old)) <= FARTHEST**2 * random_square(cross, old)


def mode_at(
    problem: Laplace, parameters: FloatArray, start: Coefficients
) -> tuple[Mode, tuple[FloatArray, ...], FloatArray]:
    """The mode at given parameters, with ``Lambda`` of each block and ``phi``."""
    theta, beta, phi = problem.split(parameters)
    if not problem.of.family.valid(phi):
        family = problem.of.family
        tried = ", ".join(f"{name} = {value:.3g}" for name, value in zip(family.parameters, phi, strict=True))
        raise FitError(
            f"the data hardly determine the {family.name} family's own parameters: the search came to {tried}, where "
            "the likelihood cannot be computed. Take a simpler family, or a model with fewer terms"
        )
    factors = problem.layout.factors(theta)
    if not problem.joint:
        rest = start.rest.copy()
        rest[problem.cross.random : -1, 0] = beta
        start = Coefficients(start.stages, rest)
    if problem.bound is not None:
        return _bounded_mode(problem, factors, start, phi, problem.bound), factors, phi
    return find_mode(problem.of, factors, start, phi, problem.joint, problem.solver), factors, phi


def _bounded_mode(
    problem: Laplace, factors: tuple[FloatArray, ...], start: Coefficients, phi: FloatArray, bound: float
) -> Mode:
    cross = problem.cross
    zero = origin(cross, start.rest[cross.random : cross.random + cross.fixed, 0])
    mode, converged = find_joint_mode(
        problem.of, factors, start, zero, phi, problem.solver,
        bound=bound, tolerance=BOUND_TOLERANCE, max_iterations=BOUND_ITERATIONS,
    )  # fmt: skip
    if not converged:
        raise FitError(
            f"solver='bound' did not find the joint mode in {BOUND_ITERATIONS:,} steps: it is slow where probabilities "
            "are near 0 or 1; use solver='auto'"
        )
    return mode


def parameter_sums(problem: Laplace, mode: Mode, phi: FloatArray) -> tuple[FloatArray, Coefficients, FloatArray]:
    """Sums over the rows of what belongs to the family's own parameters.

    Returns
    -------
    l_phi : float64 array, shape (parameters,)
    score_phi : Coefficients
        ``[Z X]' d score / d phi``, one side a parameter.
    information : float64 array, shape (parameters, parameters)
    """
    of, m = problem.of, len(phi)
    if not m:
        return np.zeros(0), zeros(mode.cross, 0), np.zeros((0, 0))
    x = flat(mode.cross, mode.x)[:, 0]

    def piece(first: int, last: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        arguments = of.y[first:last], eta(of, x, first, last), part(of.weights, first, last), phi
        l_phi, score_phi, _ = of.family.parameter_derivatives(*arguments)
        return score_phi, l_phi.sum(axis=0), of.family.parameter_information(*arguments)

    score_phi, (l_phi, information) = sums_by(of.pattern, piece, m)
    return l_phi, score_phi, information


def explicit(
    problem: Laplace, mode: Mode, factors: Sequence[FloatArray], slopes: Sequence[FloatArray], l_phi: FloatArray
) -> FloatArray:
    """Gradient at a given mode and curvature."""
    r = problem.cross.random
    return np.concatenate(
        [
            chain_rule(problem.layout, factors, slopes),
            -2 * mode.sums.rest[r : r + problem.fixed, 0],
            -2 * l_phi,
        ]
    )


def follow_mode(
    problem: Laplace,
    mode: Mode,
    slopes: tuple[FloatArray, ...],
    scores: tuple[FloatArray, ...],
    score_phi: Coefficients,
    change: Coefficients,
) -> tuple[tuple[FloatArray, ...], FloatArray]:
    """What the curvature's change along the mode adds, by one solve for its adjoint.

    Parameters
    ----------
    slopes : tuple of float64 arrays (k, k)
        Derivatives of the deviance by the covariances at a given curvature.
    change : Coefficients
        ``[Z X]'(h W')``: derivative of the log-determinant by ``eta`` of each row.

    Returns
    -------
    slopes : tuple of float64 arrays (k, k)
        The whole derivatives. No inverse of ``Lambda`` is taken: they hold at a zero variance too.
    implicit : float64 array, shape (fixed + parameters of the family,)
        What is added to the gradient by the fixed effects and by ``phi``.
    """
    cross = mode.cross
    v = problem.solver.solve(mode.system, change, problem.joint)
    v.rest[-1] = 0.0
    t = less(change, multiply(cross, v, problem.of.pattern.engine))
    out = []
    for slope, s, own in zip(slopes, scores, by_block(cross, t), strict=True):
        half = own[:, :, 0].T @ s
        out.append(slope + (half + half.T) / 2)
    r = cross.random
    return tuple(out), np.concatenate([t.rest[r : r + problem.fixed, 0], inner(score_phi, v)[:, 0]])
