"""Rows of another family than the Gaussian in a chain: latent variables, drawn before a sweep, make them Gaussian."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ranef.engine.threads import Engine
from ranef.family.ordinal import Ordinal
from ranef.learn.augment import latent_rows
from ranef.learn.factor.response import Response
from ranef.learn.threshold_draws import Density, draw_parameters
from ranef.solve.sweeps import State, row_pieces

FloatArray = npt.NDArray[np.float64]


class Augmented:
    """The Gaussian rows of a chain; their residual variance is one.

    Parameters
    ----------
    state : State
        Whose residuals are minus the linear predictor, without the offset.
    response : Response
    phi : float64 array
        The family's own parameters to begin with.
    engine : Engine
    """

    def __init__(self, state: State, response: Response, phi: FloatArray, engine: Engine):
        self.response, self.phi, self.engine = response, phi, engine
        self.state = replace(state, weights=np.ones(len(state.residual)))
        family = response.family
        self._shift = family.threshold_shift if isinstance(family, Ordinal) else np.zeros(len(phi))
        self._target = np.zeros(len(state.residual)) if response.offset is None else response.offset.copy()

    def eta(self) -> FloatArray:
        """The linear predictor of the rows, with the offset."""
        return self._target - self.state.residual

    def loglik(self) -> float:
        """Log-likelihood of the rows, without its constant."""
        return self._loglik(self.eta(), self.phi)

    def renew(self, seed: np.random.SeedSequence) -> None:
        """Draw the family's parameters and then the latent variables: weights and residuals are made anew."""
        eta, pieces = self.eta(), row_pieces(len(self._target))
        own, *streams = (np.random.default_rng(one) for one in seed.spawn(len(pieces) + 1))
        if len(self.phi):
            self.phi, _, _ = draw_parameters(
                self.phi,
                lambda phi: self._loglik(eta, phi),
                lambda phi: self._density(eta, phi),
                self.response.family.valid,
                np.zeros(len(self.phi)),
                own,
            )

        def draw(first: int, last: int, rng: np.random.Generator) -> None:
            rows = slice(first, last)
            y, eta_, weights = self._rows(rows, eta)
            weight, response = latent_rows(self.response.family, self.phi, y, eta_, weights, rng)
            self.state.weights[rows] = weight
            self.state.residual[rows] = response / weight - eta_

        self.engine.map(draw, [(*piece, rng) for piece, rng in zip(pieces, streams, strict=True)])
        self._target = eta + self.state.residual

    def lower(self, by: float) -> None:
        """Thresholds, latent normals and linear predictor fall by as much."""
        self.phi = self.phi - by * self._shift
        self._target = self._target - by

    def _rows(self, rows: slice, eta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray | None]:
        of = self.response
        return of.y[rows], eta[rows], None if of.weights is None else of.weights[rows]

    def _loglik(self, eta: FloatArray, phi: FloatArray) -> float:
        def piece(first: int, last: int) -> float:
            return float(self.response.family.loglik(*self._rows(slice(first, last), eta), phi).sum())

        return sum(self.engine.each(row_pieces(len(eta)), piece), 0.0)

    def _density(self, eta: FloatArray, phi: FloatArray) -> Density:
        def piece(first: int, last: int) -> tuple[float, FloatArray, FloatArray]:
            family, rows = self.response.family, (*self._rows(slice(first, last), eta), phi)
            gradient = family.parameter_derivatives(*rows)[0].sum(axis=0)
            return float(family.loglik(*rows).sum()), gradient, family.parameter_information(*rows)

        values, gradients, informations = zip(*self.engine.each(row_pieces(len(eta)), piece), strict=True)
        return Density(phi, sum(values), np.sum(gradients, axis=0), np.sum(informations, axis=0))
