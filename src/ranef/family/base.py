"""What every response family offers: its log-likelihood row by row, with the derivatives that a Laplace fit needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from ranef.errors import OptionError

FloatArray = npt.NDArray[np.float64]
Derivatives = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
ParameterDerivatives = tuple[FloatArray, FloatArray, FloatArray]
Kind = Literal["number", "binary", "proportion", "count", "positive", "ordered", "rating"]

# parameters on a log scale stay within this distance of zero, where every formula below is finite
LARGEST_LOG = 100.0


class Family(ABC):
    """The distribution of a response given its linear predictor ``eta`` and the family's own parameters ``phi``.

    A family is a value without state: two of the same kind and link are equal. Every function of rows takes arrays
    of shape (rows,) and treats each row alone, so that callers may cut the rows as they like and use several threads;
    10 to 20 thousand rows at a time stay in the cache.

    Attributes
    ----------
    name : str
    link : str
    links : tuple of str
        The links that the family has; the first one is its default.
    kind : str
        The response that it takes: ``"number"``, ``"binary"`` (0 or 1), ``"proportion"`` (successes over trials),
        ``"count"``, ``"positive"``, ``"ordered"`` (codes 0, 1, ... of categories), or ``"rating"`` (numbers on a
        scale).
    canonical : bool
        The link is the canonical one: curvature does not depend on the response.

    Notes
    -----
    Arguments that recur:

    y, eta : float64 arrays, shape (rows,)
        Response and linear predictor. ``eta`` must be finite.
    weights : float64 array, shape (rows,), or None
        They multiply the row's log-likelihood; a binomial's are its trials; a Gaussian's divide the variance.
    phi : float64 array, shape (parameters,)
        The family's own parameters without bounds: logarithms, thresholds.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]
    links: ClassVar[tuple[str, ...]]
    canonical_link: ClassVar[str] = ""
    link: str

    def __post_init__(self) -> None:
        if self.link not in self.links:
            listed = " or ".join(filter(None, [", ".join(map(repr, self.links[:-1])), repr(self.links[-1])]))
            raise OptionError(f"link={self.link!r} is not known for family={self.name!r}: use {listed}")

    @property
    def canonical(self) -> bool:
        return self.link == self.canonical_link

    # the log-likelihood by eta

    @abstractmethod
    def derivatives(self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray) -> Derivatives:
        """Log-likelihood of each row and its derivatives by ``eta``.

        Returns
        -------
        l : float64 array, shape (rows,)
            Without what depends on neither ``eta`` nor ``phi``, see `constant`.
        score, weight, third : float64 arrays, shape (rows,)
            First, minus second (observed, not expected; never negative) and third derivative. All four are new
            arrays.
        """

    @abstractmethod
    def loglik(self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray) -> FloatArray:
        """The first array of `derivatives` alone, shape (rows,)."""

    @abstractmethod
    def constant(self, y: FloatArray, weights: FloatArray | None) -> float:
        """What the sum of `loglik` leaves out of the log-likelihood of all rows, as R's packages report it."""

    # the family's own parameters

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the family's own parameters ``phi``."""
        return ()

    @property
    def largest_curvature(self) -> float | None:
        """What the curvature of a row of weight one never exceeds; None if it has no such bound."""
        return None

    def with_categories(self, labels: tuple[str, ...]) -> Self:
        """The family for a response with these categories, in order; few families depend on them."""
        del labels
        return self

    def parameter_derivatives(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> ParameterDerivatives:
        """Derivatives by ``phi`` of each row's log-likelihood, score and weight.

        Returns
        -------
        l_phi, score_phi, weight_phi : float64 arrays, shape (rows, parameters)
        """
        none = np.zeros((len(y), 0))
        return none, none, none

    def parameter_information(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        """Minus the second derivatives by ``phi`` of the summed log-likelihood, shape (parameters, parameters)."""
        return np.zeros((0, 0))

    def valid(self, phi: FloatArray) -> bool:
        """Whether ``phi`` is a point of the parameter space where the likelihood can be computed."""
        return bool(np.all(np.abs(phi) <= LARGEST_LOG))

    def held(self, phi: FloatArray) -> FloatArray:
        """``phi``, with what goes to infinity held where the distribution is its limit, and can be computed."""
        return phi

    def natural(self, phi: FloatArray) -> dict[str, float]:
        """The parameters as they are reported, by name."""
        return {}

    def natural_jacobian(self, phi: FloatArray) -> FloatArray:
        """Derivatives of the values of `natural` by ``phi``, shape (natural parameters, parameters)."""
        return np.zeros((0, 0))

    @abstractmethod
    def start(self, y: FloatArray, weights: FloatArray | None, offset: FloatArray | None) -> tuple[float, FloatArray]:
        """Where a search may begin: the intercept and ``phi`` that fit the response without any covariate."""

    # the distribution

    @abstractmethod
    def mean(self, eta: FloatArray) -> FloatArray:
        """Mean of the response, shape (rows,).

        Raises
        ------
        OptionError
            The family is ordinal: its categories have probabilities, not a mean.
        """

    @abstractmethod
    def variance(self, mu: FloatArray, phi: FloatArray) -> FloatArray:
        """Variance of a response of mean ``mu`` and weight one, shape (rows,).

        Raises
        ------
        OptionError
            The family is ordinal.
        """

    @abstractmethod
    def deviance_residuals(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        """Signed roots of each row's deviance, shape (rows,), as R's ``residuals(type = "deviance")``."""

    @abstractmethod
    def cdf(
        self, y: FloatArray, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """``P(Y < y)`` and ``P(Y <= y)``, each of shape (rows,): equal if the response is continuous.

        A uniform number between them, as a normal quantile, is the randomized quantile residual (Dunn and Smyth 1996).
        """

    @abstractmethod
    def eta_at(self, y: FloatArray, probability: FloatArray, weights: FloatArray | None, phi: FloatArray) -> FloatArray:
        """The linear predictor at which ``P(Y <= y)`` is ``probability``, shape (rows,): `cdf` solved for ``eta``.

        Infinite where every linear predictor gives a probability of 0, or every one of 1.
        """

    def probabilities(self, eta: FloatArray, phi: FloatArray) -> FloatArray:
        """Probability of each category, shape (rows, categories).

        Raises
        ------
        OptionError
            The response has no categories.
        """
        raise OptionError(f"a response of the {self.name} family has no categories")

    def dispersion(self, phi: FloatArray) -> float:
        """By what `variance` exceeds the family's variance function: R's ``sigma(fit)^2``."""
        return 1.0

    @abstractmethod
    def simulate(
        self, rng: np.random.Generator, eta: FloatArray, weights: FloatArray | None, phi: FloatArray
    ) -> FloatArray:
        """Draw a response for each row, shape (rows,)."""


def times(weights: FloatArray | None, *rows: FloatArray) -> None:
    """Multiply each array in place by the rows' weights, if there are any."""
    if weights is not None:
        for values in rows:
            np.multiply(values, weights if values.ndim == 1 else weights[:, None], out=values)


def signed_root(deviance: FloatArray, difference: FloatArray) -> FloatArray:
    """Root of a deviance, which rounding may have made negative, with the sign of response minus mean."""
    return np.sign(difference) * np.sqrt(np.maximum(deviance, 0.0))
