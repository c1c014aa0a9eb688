"""Where sweeps begin that continue an earlier fit: at its vectors and effects, whatever their rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.design.fields import FieldDesign
from ranef.design.membership import Walk
from ranef.learn.factor.start import Problem, effects_back
from ranef.learn.start import Start
from ranef.solve.sweeps import Coefficients, Parameters, State

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EarlierField:
    """What an earlier fit learned of one factor's vectors, raw units.

    Attributes
    ----------
    vectors : float64 array, shape (levels, rank)
        Of the new design's levels; zero where they are new.
    known : bool array, shape (levels,)
    spread : float32 array, shape (levels, rank (rank + 1) / 2, rank or 0)
        As of `ranef.artifact.latent.FieldModel`.
    covariance : float64 array, shape (rank, rank)
    """

    vectors: FloatArray
    known: npt.NDArray[np.bool_]
    spread: npt.NDArray[np.float32]
    covariance: FloatArray


@dataclass(frozen=True, eq=False)
class Earlier:
    """An earlier fit's estimates for the rows of a new design.

    Attributes
    ----------
    additive : Start
    sigma2 : float
        Residual variance, response units.
    fields : tuple of tuple of tuple of EarlierField or None
        For each latent term, its sides and their factors; None for what the earlier fit did not have.
    """

    additive: Start
    sigma2: float
    fields: tuple[tuple[tuple[EarlierField | None, ...], ...], ...]

    def phi(self, family: tuple[str, str]) -> FloatArray | None:
        """The family's own parameters, if it is the same family."""
        return self.additive.phi if self.additive.family == family and len(self.additive.phi) else None


def take_over(problem: Problem, earlier: Earlier, state: State, parameters: Parameters) -> Parameters:
    """Overwrite the coefficients of a first state by what is known of them; the parameters to begin with.

    Components beyond those of the earlier fit keep the small random vectors that they have; where there are fewer, the
    first ones are taken: coordinates descend. The residuals have to be computed anew.
    """
    scaling, design = problem.scaling, problem.design
    gaussian = earlier.additive.family[0] == "gaussian"
    sigma2 = earlier.sigma2 / scaling.y_scale**2 if gaussian else parameters.sigma2
    fields = {
        (place, m): (of, known)
        for term, latent, sides in zip(state.sides.terms, design.latent, earlier.fields, strict=True)
        for place, side, own in zip(term.sides, latent.sides, sides, strict=True)
        for m, (of, known) in enumerate(zip(side, own, strict=True))
    }
    covariances = []
    for number, side in enumerate(state.sides.sides):
        of_side = []
        for m, member in enumerate(side.members):
            own = state.coefficients[number][m]
            covariance = parameters.covariances[number][m].copy()
            field, known = fields.get((number, m), (None, None))
            if field is not None and known is not None:
                covariance = _take_vectors(field, known, own, covariance, scaling.y_scale)
            if member.group is not None:
                _take_effects(problem, earlier, member.group, own, covariance)
            of_side.append(covariance)
        covariances.append(tuple(of_side))
    if len(state.beta):
        names = [design.spec.fixed.names[j] for j in scaling.columns]
        raw = scaling.least_squares + scaling.y_scale * scaling.x_back @ state.beta
        raw = np.array([earlier.additive.beta.get(name, value) for name, value in zip(names, raw, strict=True)])
        state.beta[:] = np.linalg.solve(scaling.x_back, raw - scaling.least_squares) / scaling.y_scale
    return Parameters(sigma2, tuple(covariances))


def _take_vectors(
    field: FieldDesign, earlier: EarlierField, own: Coefficients, covariance: FloatArray, y_scale: float
) -> FloatArray:
    """Vectors, spreads and prior covariance of one factor."""
    vectors, known = earlier.vectors, earlier.known
    before, k = vectors.shape[1], own.vectors.shape[1]
    taken = min(before, k)
    if field.walk is not None:
        vectors, known = _increments(field.walk, vectors, known), np.ones(len(known), np.bool_)
    own.vectors[:, :taken] = vectors[:, :taken] / np.sqrt(y_scale)
    own.vectors[~known] = 0.0
    width = own.spread.shape[1]
    if field.walk is None and width > k and earlier.spread.shape[1] > before:
        # lower triangles by rows begin with those of the first components
        packed = taken * (taken + 1) // 2
        own.spread[:, :packed] = earlier.spread[:, :packed] / y_scale
    out = covariance.copy()
    out[:taken, :taken] = _positive(earlier.covariance[:taken, :taken] / y_scale, covariance[:taken, :taken])
    return out


def _take_effects(problem: Problem, earlier: Earlier, group: int, own: Coefficients, covariance: FloatArray) -> None:
    """Effects and their prior covariance, the latter in place."""
    spec, of = problem.design.spec.groups[group], problem.design.groups[group]
    if spec.name not in earlier.additive.modes:
        return
    into = np.linalg.inv(effects_back(problem, group)) / problem.scaling.y_scale
    modes = earlier.additive.modes[spec.name]
    if of.walk is not None:
        modes = _increments(of.walk, modes, np.ones(len(modes), np.bool_))
    own.effects[:] = modes @ into.T
    # covariances of a start are over the residual variance
    raw = earlier.additive.covariances[spec.name] * earlier.sigma2
    k = len(into)
    at = slice(len(covariance) - k, None)
    covariance[at, at] = _positive(into @ raw @ into.T, covariance[at, at])


def _positive(covariance: FloatArray, begin: FloatArray) -> FloatArray:
    """None of its variances zero: closed-form steps can leave it."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    least = 1e-3 * float(np.mean(np.diag(begin)))
    return np.asarray((vectors * np.maximum(values, least)) @ vectors.T)


def _increments(walk: Walk, levels: FloatArray, known: npt.NDArray[np.bool_]) -> FloatArray:
    """The steps whose sums the levels of a walk are; a level that is not known is where the one before it is."""
    order = walk.order
    place = np.where(known[order] | walk.first, np.arange(len(order)), 0)
    sums = levels[order][np.maximum.accumulate(place)]
    before = np.vstack([np.zeros((1, sums.shape[1])), sums[:-1]])
    before[walk.first] = 0.0
    return np.asarray((sums - before) / np.sqrt(walk.gap)[:, None])


def no_fields(sides: Sequence[Sequence[FieldDesign]]) -> tuple[tuple[None, ...], ...]:
    """Of a latent term that the earlier fit did not have."""
    return tuple((None,) * len(side) for side in sides)
