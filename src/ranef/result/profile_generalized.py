"""The Laplace deviance profiled over one parameter at a time, or that by quadrature.

One parameter is held at a value by coordinates that leave it there: covariances move by their roots, see
`ranef.result.surface`, and fixed effects and the family's own parameters in a plane. Each point of a profile is a
search over these, with the gradient and metric of the fit's own search.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.design.build import Design
from ranef.engine.threads import Engine
from ranef.errors import FitError
from ranef.family.base import LARGEST_LOG
from ranef.learn.generalized import MAX_ITERATIONS, TOLERANCE
from ranef.learn.held import Given, Held, nothing_given, whole_point
from ranef.learn.laplace import Laplace, LaplacePoint
from ranef.learn.minimise import minimise
from ranef.learn.prepared import Generalized, holding_of
from ranef.prior import Layout
from ranef.result.covariance import given_of_fit
from ranef.result.crossing import above, crossing
from ranef.result.parameters import Parameter, values_of
from ranef.result.restart import at_estimates, objective_of
from ranef.result.surface import group_path

FloatArray = npt.NDArray[np.float64]
Limits = tuple[float, float]

# of a root: the step of the differences that only the search's metric is made of
DIFFERENCE = 1e-5
# times that a search may be brought nearer to a known point of its profile
MOST_HALVINGS = 5


@dataclass(frozen=True, eq=False)
class Profiled:
    """The fit that is profiled.

    Attributes
    ----------
    prepared : Generalized
    laplace : Laplace
        Over ``(theta, beta, phi)``.
    at : LaplacePoint
        Its minimum.
    covariances : tuple of float64 arrays (k, k)
        Of each grouping factor, raw units.
    spread : float64 array, shape (others, others)
        A root of the covariance of ``(beta, phi)`` given the rest: it shapes the coordinates and where searches begin.
    given : Given
        Covariances that no search moves.
    """

    prepared: Generalized
    laplace: Laplace
    at: LaplacePoint
    covariances: tuple[FloatArray, ...]
    spread: FloatArray
    given: Given

    @property
    def others(self) -> FloatArray:
        """``(beta, phi)`` at the minimum, internal coordinates."""
        return self.at.theta[self.laplace.layout.parameters :]

    def value(self, one: Parameter) -> float:
        """A parameter at the minimum."""
        beta, phi = np.split(self.others, [self.laplace.fixed])
        own = list(self.prepared.family.natural(phi).values())
        return float(values_of([one], self.covariances, 1.0, self.prepared.scaling.x_back @ beta, own)[0])


def generalized_profile(
    model: Model, design: Design, wanted: Sequence[Parameter], quantile: float, engine: Engine
) -> Callable[[int], Limits]:
    """Limits of the wanted parameter at a place: where the deviance exceeds its minimum by the quantile.

    Parameters
    ----------
    model : Model
        By Laplace's method or quadrature; from a fit at joint modes the Laplace fit is found first.
    design : Design
        The rows of the fit.
    wanted : sequence of Parameter
    quantile : float
    engine : Engine

    Raises
    ------
    FitError
        The fit, or a search along the profile, does not converge.
    """
    profiled = _profiled(model, design, engine)
    root = math.sqrt(quantile)

    def limits(place: int) -> Limits:
        one = wanted[place]
        estimate = profiled.value(one)
        if math.isnan(estimate):
            raise FitError("a standard deviation is estimated as zero, so there is no correlation")
        if one.kind in ("fixed", "family"):
            step = 2 * float(np.linalg.norm(profiled.spread.T @ _direction(profiled, one)))
            if not _logarithmic(profiled, one):
                return _crossings(_rise(profiled, one), estimate, step, -math.inf, math.inf, root)
            # a Poisson model is a negative binomial one at infinity
            rise, end = _rise(profiled, one), LARGEST_LOG
            low, high = _crossings(lambda x: rise(math.exp(x)), math.log(estimate), min(step, 1.0), -end, end, root)
            return (0.0 if low == -end else math.exp(low)), (math.inf if high == end else math.exp(high))
        levels = len(model.groups[one.group].levels)
        if one.kind == "cor":
            return _crossings(_correlation_rise(profiled, one), estimate, 2 / math.sqrt(levels), -1.0, 1.0, root)
        unit = float(np.linalg.norm(profiled.prepared.scaling.z_back[one.group][one.i]))
        step = max(estimate, 0.1 * unit) * math.sqrt(2 / levels)
        return _crossings(_rise(profiled, one), estimate, step, 0.0, math.inf, root)

    return limits


def _crossings(
    rise: Callable[[float], float], estimate: float, step: float, lowest: float, highest: float, root: float
) -> Limits:
    def excess(value: float) -> float:
        # the root of the deviance is close to linear in the parameter
        return (0.0 if value == estimate else math.sqrt(rise(value))) - root

    return crossing(excess, estimate, -step, lowest), crossing(excess, estimate, step, highest)


def _profiled(model: Model, design: Design, engine: Engine) -> Profiled:
    prepared, parameters = at_estimates(model, design, engine)
    scaling, layout = prepared.scaling, prepared.layout
    m, p = layout.parameters, prepared.of.pattern.cross.fixed
    laplace = objective_of(prepared.of, layout, False, parameters[m : m + p], model.info.quadrature)
    given = given_of_fit(model) or nothing_given(layout)
    holding = holding_of(prepared, given, len(parameters) - m)
    held = Held(laplace, holding)
    found = minimise(held, parameters[holding.free], tolerance=TOLERANCE, max_iterations=MAX_ITERATIONS)
    if not found.converged:
        raise FitError("the fit to be profiled did not converge; try method='bootstrap'")
    roots = [back @ factor for back, factor in zip(scaling.z_back, found.at.factors, strict=True)]
    # what is held are covariances
    learned = m - holding.count
    precision = found.at.metric[learned:, learned:] / 2
    values, vectors = np.linalg.eigh((precision + precision.T) / 2)
    spread = vectors / np.sqrt(np.maximum(values, 1e-12 * max(values, default=1.0)))
    covariances = tuple(root @ root.T for root in roots)
    return Profiled(prepared, laplace, whole_point(found.at, holding), covariances, spread, given)


def _logarithmic(profiled: Profiled, one: Parameter) -> bool:
    """Whether a parameter is a dispersion, of which ``phi`` is the logarithm."""
    return one.kind == "family" and profiled.prepared.family.kind != "ordered"


def _direction(profiled: Profiled, one: Parameter) -> FloatArray:
    """What a fixed effect, a threshold or the logarithm of a dispersion is of ``(beta, phi)``: linear."""
    out = np.zeros(len(profiled.others))
    p = profiled.laplace.fixed
    if one.kind == "fixed":
        out[:p] = profiled.prepared.scaling.x_back[one.i]
    elif _logarithmic(profiled, one):
        out[p + one.i] = 1.0
    else:
        out[p:] = profiled.prepared.family.natural_jacobian(profiled.others[p:])[one.i]
    return out


@dataclass(frozen=True, eq=False)
class Slice:
    """The deviance where one parameter is held: what `minimise` works on.

    ``root = base + sum_p u_p directions_p`` for each grouping factor, raw units, and ``(beta, phi) = centre + moves w``
    with ``w`` the last coordinates.

    Attributes
    ----------
    laplace : Laplace
    z_back : tuple of float64 arrays (k, k)
    bases : tuple of float64 arrays (k, k)
    directions : tuple of float64 arrays (coordinates of the factor, k, k)
    centre : float64 array, shape (others,)
    moves : float64 array, shape (others, coordinates)
    start : float64 array, shape (coordinates,)
    """

    laplace: Laplace
    z_back: tuple[FloatArray, ...]
    bases: tuple[FloatArray, ...]
    directions: tuple[FloatArray, ...]
    centre: FloatArray
    moves: FloatArray
    start: FloatArray

    @property
    def size(self) -> float:
        return self.laplace.size

    def evaluate(self, u: FloatArray, near: LaplacePoint | None = None) -> LaplacePoint:
        """The point, with gradient, metric and information over the coordinates."""
        sides = self._sides(u)
        covariance = self._theta(u)
        w = u[len(u) - self.moves.shape[1] :]
        at = self.laplace.evaluate(np.concatenate([covariance, self.centre + self.moves @ w]), near)
        m = len(covariance)
        # by the roots, which have derivatives where a variance is zero too
        gradient = [
            np.tensordot(directions, 2 * np.linalg.solve(back.T, slope @ side), 2)
            for directions, back, slope, side in zip(self.directions, self.z_back, at.slopes, sides, strict=True)
        ]
        jacobian = np.zeros((len(at.theta), len(u)))
        jacobian[m:, len(u) - len(w) :] = self.moves
        for j in range(len(u) - len(w)):
            step = np.zeros(len(u))
            step[j] = DIFFERENCE * max(abs(u[j]), 1e-3)
            jacobian[:m, j] = (self._theta(u + step) - self._theta(u - step)) / (2 * step[j])
        return replace(
            at,
            theta=u,
            gradient=np.concatenate([*gradient, self.moves.T @ at.gradient[m:]]),
            metric=jacobian.T @ at.metric @ jacobian,
            information=jacobian.T @ at.information @ jacobian,
        )

    def canonical(self, u: FloatArray) -> FloatArray:
        return u

    def snapped(self, u: FloatArray) -> FloatArray | None:
        return None

    def inside(self, at: LaplacePoint, least: float) -> Iterator[FloatArray]:
        return iter(())

    def _sides(self, u: FloatArray) -> list[FloatArray]:
        """Roots in internal coordinates."""
        out: list[FloatArray] = []
        first = 0
        for base, directions, back in zip(self.bases, self.directions, self.z_back, strict=True):
            root = base + np.tensordot(u[first : first + len(directions)], directions, 1)
            out.append(np.asarray(np.linalg.solve(back, root), np.float64))
            first += len(directions)
        return out

    def _theta(self, u: FloatArray) -> FloatArray:
        return _parameters(self.laplace.layout, self._sides(u))


def _parameters(layout: Layout, sides: Sequence[FloatArray]) -> FloatArray:
    """``theta`` of any roots of the covariances: those of the lower triangular ones of the same products."""
    out = np.zeros(layout.parameters)
    for part, basis, side in zip(layout.slices, layout.basis, sides, strict=True):
        upper = np.linalg.qr(side.T)[1]
        factor = upper.T * np.where(np.diag(upper) < 0, -1.0, 1.0)
        out[part] = np.tensordot(basis, factor, 2) / np.sum(basis**2, axis=(1, 2))
    return out


def _slice(profiled: Profiled, one: Parameter, value: float) -> Slice:
    prepared = profiled.prepared
    bases, directions, start = [], [], []
    groups = zip(prepared.design.spec.groups, profiled.covariances, prepared.scaling.z_back, strict=True)
    for g, (spec, covariance, back) in enumerate(groups):
        own = one if one.group == g else None
        base, moves, at, _ = group_path(
            spec, covariance, np.linalg.norm(back, axis=1), own, value, profiled.given.covariances[g]
        )
        bases.append(base)
        directions.append(moves)
        start.append(at)
    centre, moves = profiled.others, profiled.spread
    if one.kind in ("fixed", "family"):
        direction = _direction(profiled, one)
        goal = math.log(value) if _logarithmic(profiled, one) else value
        across = profiled.spread.T @ direction
        # where a normal likelihood would have the others
        centre = centre + profiled.spread @ across * (goal - direction @ centre) / (across @ across)
        plane = np.linalg.qr(across[:, None], mode="complete")[0][:, 1:]
        moves = profiled.spread @ plane
    coordinates = np.concatenate([*start, np.zeros(moves.shape[1])])
    return Slice(profiled.laplace, prepared.scaling.z_back, tuple(bases), tuple(directions), centre, moves, coordinates)


def _rise(profiled: Profiled, one: Parameter) -> Callable[[float], float]:
    """How much the deviance rises above its minimum with a parameter held at a value."""
    known: list[tuple[float, FloatArray, LaplacePoint]] = []

    def rise(value: float, halvings: int = 0) -> float:
        held = _slice(profiled, one, value)
        nearest = min(known, key=lambda point: abs(point[0] - value), default=None)
        start, near = (held.start, profiled.at) if nearest is None else nearest[1:]
        try:
            found = minimise(held, start, tolerance=TOLERANCE, max_iterations=MAX_ITERATIONS, near=near)
        except FitError:
            if halvings == MOST_HALVINGS:
                raise
            # too far from what is known: a point halfway first
            rise(((profiled.value(one) if nearest is None else nearest[0]) + value) / 2, halvings + 1)
            return rise(value, halvings + 1)
        if not found.converged:
            raise FitError(f"the search with it held at {value:.4g} did not converge")
        known.append((value, found.at.theta, found.at))
        return above(found.at.deviance - profiled.at.deviance)

    return rise


def _correlation_rise(profiled: Profiled, one: Parameter) -> Callable[[float], float]:
    """The same for a correlation: it may take any value where one of its standard deviations is zero."""
    inside = _rise(profiled, one)
    ends = [_rise(profiled, replace(one, kind="sd", i=i, j=i))(0.0) for i in (one.i, one.j)]
    return lambda value: min(inside(value), *ends)
