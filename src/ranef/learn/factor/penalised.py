"""Modes of latent terms: the penalised likelihood of probabilistic matrix factorization, raised block by block.

The objective is ``sum w e^2 + sigma^2 sum of c' P c`` over all levels, with ``P`` the precision of their prior, hence
penalties ``sigma^2 P`` (Salakhutdinov and Mnih 2008); of another family ``-2 log-likelihood + sum of c' P c``. Given
all other factors a factor's coefficients are those of a penalised regression: of a Gaussian response solved for at
once, of any other by a step of Newton's method, which is halved, level by level where a side is one factor, until the
objective does not rise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ranef.engine.threads import Engine
from ranef.learn.factor.response import MOST_HALVINGS, Response, linearise, losses, parameter_step
from ranef.learn.factor.start import Problem, restate_residual, unit_codes
from ranef.learn.factor.sweeping import Following, Searched, Swept, run_sweeps
from ranef.solve.sides import Side
from ranef.solve.sweeps import (
    Parameters,
    State,
    empty_state,
    refresh_units,
    sweep,
    update_fixed,
    update_side,
    weighted_squares,
)

FloatArray = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.float32] | FloatArray

# of the objective, for each row
TOLERANCE = 1e-5
MAX_SWEEPS = 200
UNFOLLOWED = Following()
# relative: what rounding may raise
ROUNDING = 1e-12


def without_moments(state: State) -> State:
    """A state of modes at a variational posterior's means."""
    weights, residual = np.array(state.weights), np.array(state.residual)
    out = empty_state(state.sides, state.x, weights, residual, widths=None)
    out.beta[:] = state.beta
    for vectors, others in zip(out.vectors, state.vectors, strict=True):
        vectors[:] = others
    for members, means in zip(out.coefficients, state.coefficients, strict=True):
        for member, other in zip(members, means, strict=True):
            member.vectors[:] = other.vectors
            member.effects[:] = other.effects
    return out


def search_penalised(
    problem: Problem,
    state: State,
    parameters: Parameters,
    response: Response | None,
    phi: FloatArray,
    engine: Engine,
    *,
    tolerance: float = TOLERANCE,
    max_sweeps: int = MAX_SWEEPS,
    following: Following = UNFOLLOWED,
) -> tuple[Searched, FloatArray | None]:
    """Sweeps until the objective over the residual variance falls by less than ``tolerance`` for each row.

    Parameters
    ----------
    state : State
        Without moments; changed in place.
    response : Response or None
        Of another family than the Gaussian.
    phi : float64 array
        Its own parameters to begin with.
    following : Following
        What watches the sweeps.

    Returns
    -------
    Searched
    float64 array, shape (rows,), or None
        Linear predictor of another family than the Gaussian after the last sweep.
    """
    climb = None if response is None else _Climb(problem, state, parameters, response, phi, engine)
    # sweeps see the objective over the residual variance, without constants
    unit, constant = parameters.sigma2 * problem.scaling.y_scale**2, 0.0
    if response is not None:
        unit, constant = 1.0, -2 * response.family.constant(response.y, response.weights)

    def once() -> Swept:
        if climb is not None:
            value = climb.sweep()
            return Swept(parameters, climb.phi, -value / 2)
        sweep(state, parameters, engine)
        value = weighted_squares(state, engine) / parameters.sigma2 + penalties(state, parameters)
        return Swept(parameters, phi, -value / 2)

    found = run_sweeps(
        state, once, following, tolerance=tolerance / 2, max_sweeps=max_sweeps, unit=unit, constant=constant
    )
    return found, None if climb is None else climb.eta


def penalties(state: State, parameters: Parameters) -> float:
    """``c' P c`` summed over all levels."""
    total = 0.0
    for members, covariances in zip(state.coefficients, parameters.covariances, strict=True):
        for own, covariance in zip(members, covariances, strict=True):
            total += float(_quadratic(own.vectors, own.effects, _inverse(covariance)).sum())
    return total


def _inverse(covariance: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.inv(covariance), np.float64)


def _quadratic(vectors: Numbers, effects: FloatArray, precision: FloatArray) -> FloatArray:
    both = np.column_stack([vectors.astype(np.float64), effects])
    return np.asarray(np.einsum("la,la->l", both @ precision, both))


class _Climb:
    """Sweeps for another family: the linear predictor and the losses of the rows follow every accepted step."""

    def __init__(
        self,
        problem: Problem,
        state: State,
        parameters: Parameters,
        response: Response,
        phi: FloatArray,
        engine: Engine,
    ):
        self.problem, self.response, self.engine, self.phi = problem, response, engine, phi
        self.parameters = parameters
        self.codes = [unit_codes(side) for side in state.sides.sides]
        self.precisions = [[_inverse(covariance) for covariance in of] for of in parameters.covariances]
        # weights of their own: each step has others
        self.state = replace(state, weights=np.ones(len(state.residual)))
        self._restate()

    def sweep(self) -> float:
        """Update everything once; the objective."""
        self._step_fixed()
        halved = False
        for number, side in enumerate(self.state.sides.sides):
            halved |= self._step_side(number, side)
        if halved:
            # float32 coefficients between two others are rounded anew
            self._restate()
        self.phi = parameter_step(self.response, self.eta, self.phi, self.engine)
        self.loss = losses(self.response, self.eta, self.phi, self.engine)
        return 2 * float(self.loss.sum()) + penalties(self.state, self.parameters)

    def _restate(self) -> None:
        restate_residual(self.problem, self.state, self.engine)
        # the response of the rows in internal coordinates is zero
        self.eta = -self.state.residual
        if self.response.offset is not None:
            self.eta += self.response.offset
        self.loss = losses(self.response, self.eta, self.phi, self.engine)

    def _linearise(self) -> FloatArray:
        linearise(self.response, self.eta, self.phi, self.state.weights, self.state.residual, self.engine)
        return self.state.residual.copy()

    def _step_fixed(self) -> None:
        if not len(self.state.beta):
            return
        before, residual = self.state.beta.copy(), self._linearise()
        update_fixed(self.state, self.parameters, self.engine)
        residual -= self.state.residual
        share = self._shares(residual, np.zeros(len(residual), np.int32), np.zeros(1), lambda share: np.zeros(1))
        self.state.beta[:] = before + share[0] * (self.state.beta - before)

    def _step_side(self, number: int, side: Side) -> bool:
        members = self.state.coefficients[number]
        before = [(own.vectors.copy(), own.effects.copy()) for own in members]
        residual = self._linearise()
        update_side(self.state, number, self.parameters, self.engine)
        # how far the linear predictor moves with a whole step
        residual -= self.state.residual
        after = [(own.vectors.copy(), own.effects.copy()) for own in members]
        precisions = self.precisions[number]

        def penalty(share: FloatArray) -> FloatArray:
            parts = [
                _quadratic(*_between(one, other, share), precision)
                for one, other, precision in zip(before, after, precisions, strict=True)
            ]
            return parts[0] / 2 if side.alone else np.array([sum(float(part.sum()) for part in parts) / 2])

        groups = side.units if side.alone else 1
        codes = self.codes[number] if side.alone else np.zeros(len(residual), np.int32)
        share = self._shares(residual, codes, np.zeros(groups), penalty)
        if np.all(share == 1):
            return False
        for own, one, other in zip(members, before, after, strict=True):
            own.vectors[:], own.effects[:] = _between(one, other, share)
        refresh_units(self.state, number, self.engine)
        return True

    def _shares(
        self,
        move: FloatArray,
        codes: npt.NDArray[np.int32],
        none: FloatArray,
        penalty: Callable[[FloatArray], FloatArray],
    ) -> FloatArray:
        """How much of a step each group of rows takes: halved where its part of the objective would rise.

        Linear predictor and losses are those after it.

        Parameters
        ----------
        move : float64 array, shape (rows,)
        codes : int32 array, shape (rows,)
        none : float64 array, shape (groups,)
            Zeros.
        penalty : callable
            Half the penalty of each group, at shares of the step.
        """
        groups = len(none)
        now = np.bincount(codes, self.loss, groups) + penalty(none)
        share = np.ones(groups)
        for halving in range(MOST_HALVINGS + 1):
            eta = self.eta + share[codes] * move
            loss = losses(self.response, eta, self.phi, self.engine)
            value = np.bincount(codes, loss, groups) + penalty(share)
            # not a number is worse too
            worse = ~(value <= now + ROUNDING * np.abs(now)) & (share > 0)
            if not np.any(worse):
                self.eta, self.loss = eta, loss
                break
            share[worse] = share[worse] / 2 if halving < MOST_HALVINGS - 1 else 0.0
        return share


def _between(
    one: tuple[Numbers, FloatArray], other: tuple[Numbers, FloatArray], share: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Vectors and effects at a share of the way, one for each level or for all."""
    by_level = share[:, None]
    vectors = one[0] + by_level * (other[0].astype(np.float64) - one[0])
    return vectors, one[1] + by_level * (other[1] - one[1])
