"""The Gaussian rows that stand for another family's during variational sweeps, and their part of the bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ranef.engine.threads import Engine
from ranef.kernel import factor_fields, factor_variance
from ranef.learn.factor.response import Response, bounded, latent_normal, linearise, parameter_step
from ranef.learn.factor.start import unit_codes
from ranef.solve.sweeps import State, row_pieces, weighted_squares

FloatArray = npt.NDArray[np.float64]


class StandIn:
    """The Gaussian rows that stand for another family's in a state."""

    def __init__(
        self, state: State, response: Response, phi: FloatArray, linearised_at: FloatArray | None, engine: Engine
    ):
        self.response, self.phi, self.engine = response, phi, engine
        self.codes = [unit_codes(side) if side.covariates.shape[1] else None for side in state.sides.sides]
        n = len(state.residual)
        # the residual at the start is minus the linear predictor
        mean = -state.residual if response.offset is None else response.offset - state.residual
        weights = np.ones(n) if response.weights is None or response.kind != "normal" else response.weights.copy()
        self.state = replace(state, weights=weights)
        if response.kind == "bound":
            bounded(response, mean, np.zeros(n), weights, state.residual)
        elif response.kind == "normal":
            latent_normal(response, mean, phi, state.residual, engine)
        else:
            at = mean if linearised_at is None else linearised_at
            linearise(response, at, phi, weights, state.residual, engine)
            state.residual[:] += at - mean
        self.target = mean + state.residual

    def renew(self, added: float) -> float:
        """Rows made anew after a sweep; their part of the bound, and the fixed effects', but for constants.

        Parameters
        ----------
        added : float
            As `ranef.solve.sweeps.sweep` returns it.
        """
        state, engine = self.state, self.engine
        gram = np.asarray(np.sum(engine.each(row_pieces(len(self.target)), _fixed_gram, state), axis=0))
        p = len(state.beta)
        fixed = 0.5 * p * (np.log(2 * np.pi) + 1) - 0.5 * float(np.linalg.slogdet(gram)[1]) if p else 0.0
        if self.response.kind == "linearised":
            return fixed - 0.5 * (weighted_squares(state, engine) + added)
        mean = self.target - state.residual
        if self.response.kind == "bound":
            variance = row_variances(state, self.codes, np.linalg.inv(gram) if p else gram, engine)
            value = bounded(self.response, mean, variance, state.weights, state.residual)
        else:
            self.phi = parameter_step(self.response, mean, self.phi, engine)
            value = latent_normal(self.response, mean, self.phi, state.residual, engine) - added / 2
        self.target = mean + state.residual
        return fixed + value


def _fixed_gram(first: int, last: int, state: State) -> FloatArray:
    x = state.x[first:last]
    weights = state.weights if len(state.weights) == 1 else state.weights[first:last]
    return np.asarray((x * weights[:, None]).T @ x)


def row_variances(
    state: State, codes: Sequence[npt.NDArray[np.int32] | None], of_fixed: FloatArray, engine: Engine
) -> FloatArray:
    """The posterior variance of each row's linear predictor.

    Parameters
    ----------
    codes : sequence of int32 array, shape (rows,), or None
        The units of the rows on each side that has effects.
    of_fixed : float64 array, shape (p, p)
        Covariance of the fixed effects.
    """
    out = np.zeros(len(state.residual))
    effects = [_unit_effects(state, number) if code is not None else [] for number, code in enumerate(codes)]

    def add(first: int, last: int) -> None:
        own = slice(first, last)
        x = state.x[own]
        out[own] += np.einsum("na,ab,nb->n", x, of_fixed, x, optimize=True)
        for side, code, parts in zip(state.sides.sides, codes, effects, strict=True):
            for columns, covariance in parts:
                if code is None:
                    continue
                x = side.covariates[:, columns] if len(side.covariates) == 1 else side.covariates[own][:, columns]
                x = np.broadcast_to(x, (last - first, x.shape[1]))
                out[own] += np.einsum("na,nab,nb->n", x, covariance[code[own]], x, optimize=True)
        for term, vectors, spread in zip(state.sides.terms, state.vectors, state.spreads, strict=True):
            factor_variance.row_variances(0, last - first, term.partners[own], vectors, spread, out[own])

    engine.each(row_pieces(len(out)), add)
    return out


def _unit_effects(state: State, number: int) -> list[tuple[npt.NDArray[np.int64], FloatArray]]:
    """For each member of a side with effects: which covariates are theirs, and their covariances by unit."""
    side = state.sides.sides[number]
    rank = 0 if side.term is None else state.sides.terms[side.term].rank
    out = []
    for member, own in zip(side.members, state.coefficients[number], strict=True):
        kx = own.effects.shape[1]
        if not kx:
            continue
        flat = np.zeros((side.units, kx * kx))
        none = np.zeros((side.units, 0))
        factor_fields.add_members(
            0,
            side.units,
            member.start,
            member.level,
            member.weight,
            np.zeros((member.levels, 0)),
            own.extra.reshape(member.levels, kx * kx),
            none,
            flat,
        )
        out.append((member.columns[rank:] - rank, flat.reshape(side.units, kx, kx)))
    return out
