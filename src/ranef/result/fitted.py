"""The numbers of a fit by name, as lme4 calls them: what needs the fitted model alone, and is no table."""

from __future__ import annotations

from ranef.artifact.model import Iteration, Model
from ranef.result.criteria import aic, bic, deviance, loglik, sigma


class FittedModel:
    """What `Fit` says of its model without its data.

    Attributes
    ----------
    model : Model
        The fitted model apart from its data: arrays and their description.
    """

    def __init__(self, model: Model, formula: str):
        self.model = model
        self._formula = formula

    @property
    def formula(self) -> str:
        """The formula as written."""
        return self._formula

    @property
    def family(self) -> str:
        """``"gaussian"``, ``"bernoulli"``, ...; `model.family` has it as an object."""
        return self.model.info.family

    @property
    def link(self) -> str:
        return self.model.info.link

    @property
    def method(self) -> str:
        """``"reml"`` or ``"ml"``; of other families ``"laplace"`` or ``"joint"``; of a Bayesian fit ``"gibbs"``.

        ``"vb"`` of a model with latent terms.
        """
        return self.model.info.method

    @property
    def elbo(self) -> float:
        """The lower bound of the log marginal likelihood that ``method="vb"`` raises; NaN for other methods."""
        return self.model.info.elbo

    @property
    def nobs(self) -> int:
        """Rows used."""
        return self.model.info.nobs

    @property
    def dropped(self) -> int:
        """Rows left out because a value was missing or the weight zero; `dropped_missing` says where."""
        return self.model.info.dropped

    @property
    def dropped_missing(self) -> dict[str, int]:
        """Rows without a value by column; a row may count for several."""
        return dict(self.model.info.dropped_missing)

    @property
    def df(self) -> int:
        """Number of parameters: fixed effects, covariance parameters and the residual variance.

        Of other families the thresholds or the dispersion in the place of the residual variance.
        """
        return self.model.info.df

    @property
    def sigma(self) -> float:
        """Residual standard deviation, response units; 1 for families without one, as lme4's ``sigma()``.

        For the gamma family the coefficient of variation, the root of `dispersion`.
        """
        return sigma(self.model)

    @property
    def dispersion(self) -> float | None:
        """The ``theta`` of a negative binomial response, the dispersion of a gamma one; None for other families.

        A count of mean ``mu`` has the variance ``mu + mu^2 / theta``: a large theta is a Poisson count, a small one
        varies much more. A positive number has the variance ``dispersion mu^2``. The limits are in `confint`, in the
        row ``theta`` or ``dispersion``; the thresholds of an ordinal response are in `thresholds`.
        """
        info = self.model.info
        return None if info.thresholds is not None or not info.family_parameters else info.family_parameters[0].value

    @property
    def loglik(self) -> float:
        """Log-likelihood; under REML, that of the residual contrasts (as lme4)."""
        return loglik(self.model)

    @property
    def loglik_mcse(self) -> float:
        """Monte-Carlo standard error of `loglik`: 0 on the exact path."""
        return self.model.info.deviance_error / 2

    @property
    def deviance(self) -> float:
        """-2 log-likelihood; the REML criterion under REML."""
        return deviance(self.model)

    @property
    def aic(self) -> float:
        return aic(self.model)

    @property
    def bic(self) -> float:
        return bic(self.model)

    @property
    def converged(self) -> bool:
        return self.model.info.converged

    @property
    def singular(self) -> bool:
        """A variance is estimated as zero or a correlation as one."""
        return self.model.info.singular

    @property
    def solver(self) -> str:
        return self.model.info.solver

    @property
    def iterations(self) -> int:
        """Evaluations of the criterion."""
        return self.model.info.iterations

    @property
    def seconds(self) -> float:
        """Wall-clock time of the call that made the fit, reading included."""
        return self.model.info.seconds

    @property
    def history(self) -> tuple[Iteration, ...]:
        """Every evaluation of the search; of one for joint modes with the gradient's norm over that at the start."""
        return self.model.info.history
