"""What is known of one level of a factor, and how new rows of that level change it.

All terms on the factor, random and latent, are one block of coefficients ``b``. Its rows have the linear predictor
``offset + h'b``: ``h`` holds the covariates of the random terms and the vectors on the other sides of the latent ones.
A state is the normal distribution ``N(mean, precision^-1)`` of ``b``; the rest of the model is held as it is.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from ranef.errors import FitError, OptionError

if TYPE_CHECKING:  # SciPy, which a state does without
    from ranef.family import Family

FloatArray = npt.NDArray[np.float64]

# a step that is predicted to raise the log posterior density by less is the last one
SETTLED = 1e-18
MOST_STEPS = 100
MOST_HALVINGS = 30
FAR_AWAY = (
    "the likelihood of new rows cannot be computed near the state of their level; are a covariate, a weight or an "
    "offset far from those of the fit?"
)


@dataclass(frozen=True, eq=False)
class LevelState:
    """The coefficients of one level of one factor.

    Attributes
    ----------
    mean : float64 array, shape (d,)
    precision : float64 array, shape (d, d)
        Symmetric, positive definite.
    """

    mean: FloatArray
    precision: FloatArray

    @property
    def covariance(self) -> FloatArray:
        """The inverse of ``precision``, shape (d, d)."""
        return np.asarray(np.linalg.inv(self.precision))

    def to_bytes(self) -> bytes:
        """The state as bytes: the number of coefficients, the mean, the precision's lower triangle by rows."""
        d = len(self.mean)
        packed = self.precision[np.tril_indices(d)]
        return struct.pack("<i", d) + np.concatenate([self.mean, packed]).astype("<f8").tobytes()

    @staticmethod
    def from_bytes(data: bytes) -> LevelState:
        """The state that `to_bytes` wrote, bit by bit.

        Raises
        ------
        OptionError
            ``data`` is no such state.
        """
        d = struct.unpack_from("<i", data)[0] if len(data) >= 4 else 0
        if d < 1 or len(data) != 4 + 8 * (d + d * (d + 1) // 2):
            raise OptionError(f"{len(data):,} bytes are no state of a level: give what to_bytes() returned")
        numbers = np.frombuffer(data, "<f8", offset=4).astype(np.float64)
        precision = np.zeros((d, d))
        rows, columns = np.tril_indices(d)
        precision[rows, columns] = precision[columns, rows] = numbers[d:]
        return LevelState(numbers[:d], precision)


class Events(NamedTuple):
    """Rows of one level.

    Attributes
    ----------
    covariates : float64 array, shape (rows, d)
        What multiplies the level's coefficients.
    y : float64 array, shape (rows,)
        As the family takes it: numbers, 0 and 1, proportions, codes of categories.
    offset : float64 array, shape (rows,)
        The rest of the linear predictor.
    weights : float64 array, shape (rows,), or None
        As in the fit; trials of proportions.
    spread : float64 array, shape (rows, d, d), or None
        Of a Gaussian response, covariances of the covariates: vectors of variational Bayes are estimates, see
        `ranef.score.merged.partner_spreads`. Other families take them for certain.
    """

    covariates: FloatArray
    y: FloatArray
    offset: FloatArray
    weights: FloatArray | None = None
    spread: FloatArray | None = None


def absorb(
    state: LevelState,
    events: Events,
    family: Family,
    phi: FloatArray,
    *,
    forget: float = 0.0,
    prior: LevelState | None = None,
) -> LevelState:
    """The state after new rows of its level.

    Parameters
    ----------
    state : LevelState
    events : Events
    family : Family
    phi : float64 array
        The family's own parameters; of a Gaussian response the logarithm of the residual variance.
    forget : float
        The share of what the state has learned beyond ``prior`` that is forgotten first, from 0 to 1.
    prior : LevelState, optional
        The state of a level without rows; needed to forget.

    Returns
    -------
    LevelState
        For a Gaussian response the exact posterior: rows may come in any pieces. For other families the mode and the
        curvature there (Laplace), from which the next call goes on: what came before is then linearised where the
        mode was.

    Raises
    ------
    OptionError
        ``forget`` is no share, or is one and there is no prior.
    FitError
        The likelihood cannot be computed near the state's mean.
    """
    state = forgotten(state, forget, prior)
    if not len(events.y):
        return state
    # what overflows is an error of its own below
    with np.errstate(all="ignore"):
        try:
            found = _mode(state, events, family, phi)
        except np.linalg.LinAlgError as error:
            raise FitError(FAR_AWAY) from error
    if not (np.isfinite(found.mean).all() and np.isfinite(found.precision).all()):
        raise FitError(FAR_AWAY)
    return found


def _mode(state: LevelState, events: Events, family: Family, phi: FloatArray) -> LevelState:
    """Newton's method with halved steps."""
    h, mean, precision = events.covariates, state.mean, state.precision
    at, best, last, halvings = mean.copy(), -np.inf, mean, 0
    for _ in range(MOST_STEPS):
        value, score, weight, _ = family.derivatives(events.y, events.offset + h @ at, events.weights, phi)
        pull = precision @ (at - mean)
        objective = float(value.sum()) - 0.5 * float((at - mean) @ pull)
        if not objective >= best - 1e-12 * (1.0 + abs(best)):
            halvings += 1
            if halvings > MOST_HALVINGS or best == -np.inf:
                raise FitError(FAR_AWAY)
            at = 0.5 * (at + last)
            continue
        rooted = h * np.sqrt(weight)[:, None]
        now = precision + rooted.T @ rooted
        gradient = h.T @ score - pull
        step = np.linalg.solve(now, gradient)
        gain = float(gradient @ step)
        halvings, best, last = 0, objective, at
        if family.name == "gaussian":
            if events.spread is not None:
                blur = np.tensordot(weight, events.spread, 1)
                now = now + blur
                step = np.linalg.solve(now, gradient - blur @ at)
            return LevelState(at + step, now)
        if gain <= SETTLED * (1.0 + abs(objective)):
            return LevelState(at, now)
        at = at + step
    return LevelState(at, now)


def forgotten(state: LevelState, forget: float, prior: LevelState | None) -> LevelState:
    """The state after a share of what its rows said is forgotten.

    The rows' part of the log density, ``state`` less ``prior``, is multiplied by ``1 - forget``: Lambda Learner's
    discount of the past (Ramanath et al. 2021), towards the prior and not towards ignorance.

    Raises
    ------
    OptionError
    """
    if not 0.0 <= forget <= 1.0:
        raise OptionError(f"forget={forget!r}: give a share between 0, nothing, and 1, everything")
    if forget == 0.0:
        return state
    if prior is None:
        raise OptionError("forget= goes back towards the prior of a level: give it as prior=")
    precision = (1.0 - forget) * state.precision + forget * prior.precision
    right = (1.0 - forget) * state.precision @ state.mean + forget * prior.precision @ prior.mean
    return LevelState(np.asarray(np.linalg.solve(precision, right)), precision)
