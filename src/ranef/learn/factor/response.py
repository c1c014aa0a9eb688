"""Rows of another family than the Gaussian, and the Gaussian response and weights that stand for them in a sweep.

Three ways, by family and link:

- logit links (bernoulli, binomial, ratings): the quadratic bound of Jaakkola and Jordan (2000), which is the
  Polya-Gamma augmentation with the weights' posterior in closed form. A row with ``c^2 = E eta^2`` has the weight
  ``tanh(c / 2) / (2 c)``, times its trials, and the response ``(y - 1/2) / weight``;
- probit links (bernoulli, ordinal): the mean of the latent normal between its limits (Albert and Chib 1993), weight
  one;
- any other: the working response and weight of Newton's method at one linear predictor. There is no bound then, and
  no ``method="vb"``; penalties of modes are learned so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import log_expit

from ranef.design.build import Design
from ranef.engine.threads import Engine
from ranef.family import Family
from ranef.family.ratings import STEPS, Ratings
from ranef.solve.sweeps import row_pieces

FloatArray = npt.NDArray[np.float64]
Kind = Literal["bound", "normal", "linearised"]

# curvature below this share of the mean one is raised to it: steps of rows that say nothing stay finite
LEAST_CURVATURE = 1e-6
MOST_HALVINGS = 20
BOUNDED = (("bernoulli", "logit"), ("binomial", "logit"), ("ratings", "logit"))
NORMAL = (("bernoulli", "probit"), ("ordinal", "probit"))


@dataclass(frozen=True, eq=False)
class Response:
    """Rows in the caller's order.

    Attributes
    ----------
    family : Family
    y : float64 array, shape (rows,)
    weights, offset : float64 array, shape (rows,), or None
    """

    family: Family
    y: FloatArray
    weights: FloatArray | None
    offset: FloatArray | None

    @property
    def kind(self) -> Kind:
        """What stands for the rows in variational sweeps."""
        own = (self.family.name, self.family.link)
        if own in BOUNDED:
            return "bound"
        return "normal" if own in NORMAL else "linearised"


def response_of(design: Design, family: Family) -> Response:
    """The design's rows."""
    weights = None if design.weights is None else np.array(design.weights)
    offset = None if design.offset is None else np.array(design.offset)
    own, y = family.with_categories(design.spec.response_levels), np.array(design.y)
    if isinstance(own, Ratings):
        # steps are trials
        return Response(STEPS, own.proportion(y), own.trials(len(y), weights), offset)
    return Response(own, y, weights, offset)


def bound_constant(of: Response) -> float:
    """What a variational bound lacks, which depends on the responses alone."""
    constant = of.family.constant(of.y, of.weights)
    if of.kind != "bound":
        return constant
    # coins: the rows' part of the bound leaves out what a family's likelihood has besides ``y eta - log(1 + exp(eta))``
    trials = np.ones(1) if of.weights is None else of.weights
    at_zero = of.family.loglik(of.y, np.zeros(len(of.y)), of.weights, np.zeros(0))
    return constant + float(np.sum(at_zero + trials * np.log(2)))


def by_rows(of: Response, engine: Engine, work: Callable[..., None], *rows: FloatArray) -> None:
    """``work(y, weights, *rows)`` for pieces of the rows."""

    def piece(first: int, last: int) -> None:
        own = slice(first, last)
        work(of.y[own], None if of.weights is None else of.weights[own], *(one[own] for one in rows))

    engine.each(row_pieces(len(of.y)), piece)


def losses(of: Response, eta: FloatArray, phi: FloatArray, engine: Engine) -> FloatArray:
    """Minus each row's log-likelihood, without its constant."""
    out = np.empty(len(eta))

    def work(y: FloatArray, weights: FloatArray | None, eta: FloatArray, out: FloatArray) -> None:
        out[:] = -of.family.loglik(y, eta, weights, phi)

    by_rows(of, engine, work, eta, out)
    return out


def linearise(
    of: Response, eta: FloatArray, phi: FloatArray, weights: FloatArray, residual: FloatArray, engine: Engine
) -> None:
    """Overwrite ``weights`` and ``residual`` with those of a step of Newton's method from ``eta``."""

    def work(
        y: FloatArray, given: FloatArray | None, eta: FloatArray, weights: FloatArray, residual: FloatArray
    ) -> None:
        _, score, curvature, _ = of.family.derivatives(y, eta, given, phi)
        weights[:] = curvature
        residual[:] = score

    by_rows(of, engine, work, eta, weights, residual)
    np.maximum(weights, LEAST_CURVATURE * float(np.mean(weights)), out=weights)
    residual /= weights


def bounded(of: Response, mean: FloatArray, variance: FloatArray, weights: FloatArray, residual: FloatArray) -> float:
    """Logit rows: overwrite weights and residuals given mean and variance of eta; their part of the bound."""
    trials = np.ones(1) if of.weights is None else of.weights
    c = np.sqrt(mean**2 + variance)
    # tanh(c / 2) / (2 c), a quarter at zero
    weights[:] = np.where(c > 1e-4, np.tanh(c / 2) / (2 * np.maximum(c, 1e-4)), 0.25)
    residual[:] = (of.y - 0.5) / weights - mean
    weights *= trials
    return float(np.sum(trials * ((of.y - 0.5) * mean - c / 2 + log_expit(c))))


def latent_normal(of: Response, mean: FloatArray, phi: FloatArray, residual: FloatArray, engine: Engine) -> float:
    """Probit rows: overwrite residuals with those of the latent normals' means; the log-likelihood at ``mean``."""
    values = np.empty(len(mean))

    def work(
        y: FloatArray, weights: FloatArray | None, mean: FloatArray, residual: FloatArray, values: FloatArray
    ) -> None:
        values[:], residual[:], _, _ = of.family.derivatives(y, mean, None, phi)
        if weights is not None:
            values *= weights

    by_rows(of, engine, work, mean, residual, values)
    return float(values.sum())


def parameter_step(of: Response, eta: FloatArray, phi: FloatArray, engine: Engine) -> FloatArray:
    """The family's own parameters after a step of Newton's method that raises the likelihood of the rows, or as is."""
    if not len(phi):
        return phi
    pieces = row_pieces(len(eta))

    def sums(first: int, last: int) -> tuple[FloatArray, FloatArray]:
        own = slice(first, last)
        rows = of.y[own], eta[own], None if of.weights is None else of.weights[own], phi
        return of.family.parameter_derivatives(*rows)[0].sum(axis=0), of.family.parameter_information(*rows)

    found = engine.each(pieces, sums)
    score, information = (np.sum([one[i] for one in found], axis=0) for i in (0, 1))
    values, vectors = np.linalg.eigh(information)
    # where the likelihood is not concave, along its slope
    step = vectors @ ((vectors.T @ score) / np.maximum(np.abs(values), 1e-8 * np.max(np.abs(values))))
    now = float(losses(of, eta, phi, engine).sum())
    for halving in range(MOST_HALVINGS):
        after = phi + step / 2**halving
        if of.family.valid(after) and float(losses(of, eta, after, engine).sum()) <= now:
            return np.asarray(after)
    return phi
