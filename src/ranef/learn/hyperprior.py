"""Priors of the covariances and other parameters in a Bayesian fit, and draws from their conditional distributions.

Half-t (the default; Huang and Wand 2013, Bayesian Analysis 8): every standard deviation has a half-t distribution, and
with two degrees of freedom every correlation a uniform one. Given auxiliary scales it is an inverse Wishart, so that
draws are exact. Unlike an inverse Wishart it does not keep small variances away from zero, nor tie correlations to
variances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular

from ranef.errors import OptionError, nearest
from ranef.prior import Layout

FloatArray = npt.NDArray[np.float64]
Kind = Literal["half-t", "inverse-wishart"]
KINDS: tuple[Kind, ...] = ("half-t", "inverse-wishart")

DF = 2.0
# of the prior of a standard deviation, in units of what a coefficient's effect on the response may be
SCALES: Mapping[Kind, float] = {"half-t": 2.5, "inverse-wishart": 1.0}
WORDS = ("covariance", "df", "scale", "sd", "residual", "fixed")


@dataclass(frozen=True)
class Prior:
    """What a caller says of the priors.

    Attributes
    ----------
    covariance : {"half-t", "inverse-wishart"}
    df : float or None
        Degrees of freedom. Default: 2 for half-t; one more than the coefficients for inverse Wishart.
    scale : float or None
        Scale of the standard deviations over the spread of the response (1 for a family without residual) per
        spread of the covariate. Default: 2.5 for half-t, 1 for inverse Wishart.
    sd, residual : float or None
        The scale itself, of all random effects and of the residual, in place of ``scale``.
    fixed : float, mapping of str to float, or None
        Standard deviation of a normal prior with mean zero of every fixed effect and threshold, or of those named;
        None for a flat prior.
    """

    covariance: Kind = "half-t"
    df: float | None = None
    scale: float | None = None
    sd: float | None = None
    residual: float | None = None
    fixed: float | Mapping[str, float] | None = None


def read_prior(given: str | Mapping[str, Any] | None) -> Prior:
    """The prior that a caller means.

    Parameters
    ----------
    given : str, mapping or None
        ``"half-t"``, ``"inverse-wishart"``, or `Prior`'s attributes by name.

    Raises
    ------
    OptionError
    """
    if given is None:
        return Prior()
    words = {"covariance": given} if isinstance(given, str) else given
    if not isinstance(words, Mapping):
        raise OptionError(f"prior={given!r}: give 'half-t', 'inverse-wishart', or a dict with keys {', '.join(WORDS)}")
    for word in words:
        if word not in WORDS:
            close = nearest(str(word), WORDS, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise OptionError(f"prior={dict(words)!r} has the key {word!r}: the keys are {', '.join(WORDS)}{hint}")
    kind = words.get("covariance", "half-t")
    if kind not in KINDS:
        raise OptionError(f"prior of the covariances {kind!r} is not known: use 'half-t' or 'inverse-wishart'")
    numbers = {word: _positive(word, words[word]) for word in ("df", "scale", "sd", "residual") if word in words}
    fixed = words.get("fixed")
    if isinstance(fixed, Mapping):
        fixed = {name: _positive(f"fixed[{name!r}]", value) for name, value in fixed.items()}
    elif fixed is not None:
        fixed = _positive("fixed", fixed)
    return Prior(cast(Kind, kind), fixed=fixed, **numbers)


def _positive(word: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < np.inf:
        raise OptionError(f"prior: {word}={value!r}: give a positive number")
    return float(value)


@dataclass(frozen=True, eq=False)
class Unit:
    """Coefficients of one grouping factor whose covariance is drawn in one piece.

    Attributes
    ----------
    block : int
    own : slice
        Which of the block's coefficients.
    common : bool
        They share one variance.
    kind : {"half-t", "inverse-wishart"}
    df : float
    scale : float64 array, shape (size,), or (1,) if they share
        Raw units.
    """

    block: int
    own: slice
    common: bool
    kind: Kind
    df: float
    scale: FloatArray

    @property
    def size(self) -> int:
        """Rows of the covariance that is drawn: 1 if the coefficients share a variance."""
        return len(self.scale)


def units_of(layout: Layout, prior: Prior, scales: Sequence[FloatArray]) -> tuple[Unit, ...]:
    """The units of a model's terms.

    Parameters
    ----------
    scales : sequence of float64 arrays (k,)
        For each block, the spread of the response over that of each covariate.
    """
    out: list[Unit] = []
    factor = SCALES[prior.covariance] if prior.scale is None else prior.scale
    for b, (terms, spread) in enumerate(zip(layout.blocks, scales, strict=True)):
        scale = factor * spread if prior.sd is None else np.full(len(spread), prior.sd)
        at = 0
        for structure in terms:
            own = slice(at, at + structure.size)
            at = own.stop
            if structure.kind == "full":
                parts = [(own, False, scale[own])]
            elif structure.kind == "identity":
                parts = [(own, True, np.array([np.sqrt(np.mean(scale[own] ** 2))]))]
            else:
                parts = [(slice(i, i + 1), False, scale[i : i + 1]) for i in range(own.start, own.stop)]
            for place, common, part in parts:
                df = prior.df or (DF if prior.covariance == "half-t" else len(part) + 1.0)
                out.append(Unit(b, place, common, prior.covariance, df, part))
    return tuple(out)


def residual_unit(prior: Prior, spread: float) -> Unit:
    """The residual variance, as a unit of size one; its ``block`` is -1."""
    factor = SCALES[prior.covariance] if prior.scale is None else prior.scale
    scale = factor * spread if prior.residual is None else prior.residual
    df = prior.df or DF
    return Unit(-1, slice(0, 1), False, prior.covariance, df, np.array([scale]))


def draw_covariance(
    unit: Unit, current: FloatArray, square: FloatArray, count: int, rng: np.random.Generator
) -> FloatArray:
    """Draw a covariance given the coefficients, and for half-t given auxiliary scales drawn before.

    Parameters
    ----------
    current : float64 array, shape (size, size)
        The covariance that the auxiliary scales are drawn from.
    square : float64 array, shape (size, size)
        Sum of ``b b'`` of all levels.
    count : int
        Of these.
    """
    k = unit.size
    if unit.kind == "half-t":
        rate = unit.df * np.diag(np.linalg.inv(current)) + unit.scale**-2
        inverse_a = rng.standard_gamma((unit.df + k) / 2, k) / rate
        return inverse_wishart(unit.df + k - 1 + count, 2 * unit.df * np.diag(inverse_a) + square, rng)
    return inverse_wishart(unit.df + count, unit.df * np.diag(unit.scale**2) + square, rng)


def inverse_wishart(df: float, matrix: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A draw with density proportional to ``|S|^-(df + k + 1)/2 exp(-tr(matrix S^-1) / 2)``, by Bartlett (1933)."""
    k = len(matrix)
    factor = np.linalg.cholesky(matrix)
    bartlett = np.tril(rng.standard_normal((k, k)), -1)
    bartlett[np.diag_indices(k)] = np.sqrt(2 * rng.standard_gamma((df - np.arange(k)) / 2))
    root = factor @ solve_triangular(bartlett, np.eye(k), lower=True).T
    return np.asarray(root @ root.T)


def log_density(unit: Unit, covariance: FloatArray) -> float:
    """Logarithm of the prior density of a covariance, without its constant."""
    k = unit.size
    precision = np.diag(np.linalg.inv(covariance))
    logdet = float(np.linalg.slogdet(covariance)[1])
    if unit.kind == "half-t":
        tails = np.log(unit.df * precision + unit.scale**-2).sum()
        return float(-(unit.df + 2 * k) / 2 * logdet - (unit.df + k) / 2 * tails)
    return float(-(unit.df + k + 1) / 2 * logdet - unit.df * np.sum(unit.scale**2 * precision) / 2)


def log_rescaled(unit: Unit, covariance: FloatArray, by: FloatArray) -> float:
    """What a rescaling of coefficients adds to the logarithm of the density, its Jacobian included.

    Coefficients ``b`` become ``D b`` and their covariance ``D S D``, with ``D = diag(exp(by))``: the density of the
    coefficients given the covariance takes as much away as their own Jacobian adds.

    Parameters
    ----------
    by : float64 array, shape (size,)
    """
    k = unit.size
    total = float(np.sum(by))
    precision = np.diag(np.linalg.inv(covariance))
    shrunk = precision * np.exp(-2 * by)
    out = (k + 1) * total
    if unit.kind == "half-t":
        tails = np.log((unit.df * shrunk + unit.scale**-2) / (unit.df * precision + unit.scale**-2)).sum()
        return float(out - (unit.df + 2 * k) * total - (unit.df + k) / 2 * tails)
    return float(out - (unit.df + k + 1) * total - unit.df * np.sum(unit.scale**2 * (shrunk - precision)) / 2)
