"""Draws of an ordinal family's thresholds given the linear predictor, without the latent normals.

Given these, thresholds could only move between neighbours' values (Cowles 1996).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# degrees of freedom of the proposal, and steps of the search for its centre
PROPOSAL_DF = 8.0
MOST_STEPS = 50


@dataclass(frozen=True, eq=False)
class Density:
    """The log density of the parameters at one point, but for a constant, with its derivatives.

    Attributes
    ----------
    phi, gradient : float64 arrays, shape (parameters,)
    value : float
    information : float64 array, shape (parameters, parameters)
        Minus the second derivatives.
    """

    phi: FloatArray
    value: float
    gradient: FloatArray
    information: FloatArray


def draw_parameters(
    phi: FloatArray,
    loglik: Callable[[FloatArray], float],
    density: Callable[[FloatArray], Density],
    valid: Callable[[FloatArray], bool],
    precision: FloatArray,
    rng: np.random.Generator,
    now: float | None = None,
) -> tuple[FloatArray, float, float]:
    """A Metropolis-Hastings draw.

    The proposal is a multivariate t around the mode of the density, which is log-concave, with its curvature there:
    nearly independent draws.

    Parameters
    ----------
    phi : float64 array, shape (parameters,)
    loglik, density : callable
        Log-likelihood of the rows, and the density, whose prior it has too, at any valid parameters.
    valid : callable
        Whether thresholds ascend.
    precision : float64 array, shape (parameters,)
        Of normal priors around zero; zero for a flat one.
    rng : numpy.random.Generator
    now : float, optional
        The log-likelihood at ``phi``.

    Returns
    -------
    phi : float64 array, shape (parameters,)
    value : float
        The log-likelihood there.
    accepted : float
        Probability that the proposal had.
    """
    mode = _mode(phi, density, valid)
    root = np.linalg.cholesky(np.linalg.inv(mode.information))
    normal, chi = rng.standard_normal(len(phi)), 2 * rng.standard_gamma(PROPOSAL_DF / 2)
    proposed = mode.phi + root @ normal / np.sqrt(chi / PROPOSAL_DF)
    u = rng.random()
    before = loglik(phi) if now is None else now
    if not valid(proposed):
        return phi, before, 0.0
    value = loglik(proposed)

    def log_ratio_part(at: FloatArray, value: float) -> float:
        apart = np.linalg.solve(root, at - mode.phi)
        proposal = -(PROPOSAL_DF + len(at)) / 2 * np.log1p(apart @ apart / PROPOSAL_DF)
        return value - float(precision @ at**2) / 2 - float(proposal)

    log_ratio = log_ratio_part(proposed, value) - log_ratio_part(phi, before)
    accepted = float(np.exp(min(log_ratio, 0.0))) if np.isfinite(log_ratio) else 0.0
    return (proposed, value, accepted) if u < accepted else (phi, before, accepted)


def _mode(phi: FloatArray, density: Callable[[FloatArray], Density], valid: Callable[[FloatArray], bool]) -> Density:
    """By Newton's method, to rounding: where the search starts from must not tell in the proposal."""
    at = density(phi)
    for _ in range(MOST_STEPS):
        step = np.linalg.solve(at.information, at.gradient)
        decrement = float(step @ at.gradient) / 2
        if decrement < 1e-12:
            break
        for halving in range(MOST_STEPS):
            trial_phi = at.phi + 0.5**halving * step
            if valid(trial_phi):
                trial = density(trial_phi)
                if trial.value > at.value:
                    at = trial
                    break
        else:
            break
    return at
