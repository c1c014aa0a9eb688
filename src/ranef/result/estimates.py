"""The estimates of a fit as tables: what needs the fitted model alone."""

from __future__ import annotations

from typing import Any, Literal

import pyarrow as pa

from ranef.artifact.model import Model
from ranef.errors import OptionError
from ranef.result import tables
from ranef.result.bayes import draws_table
from ranef.result.fitted import FittedModel
from ranef.table import to_library

Ddf = Literal["satterthwaite"] | None


class Estimates(FittedModel):
    """What `Fit` says of its model in tables, in the library of the data."""

    def __init__(self, model: Model, formula: str, library: str):
        super().__init__(model, formula)
        self._library = library

    @property
    def library(self) -> str:
        """The library that tables come back in."""
        return self._library

    def fixef(self, ddf: Ddf = "satterthwaite") -> Any:
        """Table of the fixed effects: term, estimate, se, df, z (the t statistic) and p.

        Of a stochastic fit also mcse, the Monte-Carlo standard error of the estimate: how much another seed would move
        it.

        Parameters
        ----------
        ddf : {"satterthwaite", None}
            Degrees of freedom of the t distribution; None for the normal one. Families other than the Gaussian are
            always tested by the normal distribution, and their table has no ``df``.
        """
        return self._table(tables.fixef_table(self.model, ddf))

    def thresholds(self) -> Any:
        """Table of the thresholds between an ordinal response's categories: threshold, estimate, se, z.

        Of a stochastic fit also mcse, as in `fixef`.

        ``2|3`` cuts the scale of the linear predictor between the categories 2 and 3: the probability of at most 2 is
        the inverse link of the threshold less the linear predictor, as ``ordinal::clmm`` has it.

        Raises
        ------
        OptionError
            The response is not ordinal.
        """
        return self._table(tables.thresholds_table(self.model))

    def ranef(
        self, group: str | None = None, sd: bool = False, kind: Literal["conditional", "prediction"] = "conditional"
    ) -> Any:
        """Conditional modes of the random effects, one row a level.

        Parameters
        ----------
        group : str, optional
            Grouping factor; may be left out if there is one.
        sd : bool
            Add a column ``sd_...`` for each coefficient.
        kind : {"conditional", "prediction"}
            Standard deviations given the parameters and the fixed effects, as lme4; or with the fixed effects'
            uncertainty. A Bayesian fit has posterior means, and one kind: the posterior's, over all parameters.

        Raises
        ------
        OptionError
            If there is no such grouping factor.
        """
        return self._table(tables.ranef_table(self.model, self._group(group), sd, kind))

    def coef(self, group: str | None = None) -> Any:
        """Fixed effects plus conditional modes, one row a level of ``group``."""
        return self._table(tables.coef_table(self.model, self._group(group)))

    def varcorr(self) -> Any:
        """Variances and covariances: grp, var1, var2, vcov, sdcor, se (of vcov), mcse.

        ``Residual`` comes last for a Gaussian response; there is none in other families.

        Of a Bayesian fit both ``vcov`` and ``sdcor`` are posterior means, each of its own quantity: the mean of a
        standard deviation is less than the root of the mean variance, the more so the less is known of it. ``sdcor``
        is what `summary`, `draws` and `confint` speak of; predictions average over the draws and use neither.
        """
        table = tables.varcorr_table(self.model)
        # text also where every value is missing
        return self._table(table | {name: pa.array(table[name], pa.string()) for name in ("grp", "var1", "var2")})

    def draws(self) -> Any:
        """Draws of a Bayesian fit: chain, draw, then one column a parameter, the log posterior last.

        Names are those of `fixef` and `confint`.

        Raises
        ------
        OptionError
            The fit is no Bayesian one.
        """
        return self._table(draws_table(self.model))

    def vcov(self, thresholds: bool = False) -> Any:
        """Covariance matrix of the fixed effects: a column ``term``, then one column a fixed effect.

        Parameters
        ----------
        thresholds : bool
            With the thresholds of an ordinal model before them, as ``vcov`` of ``ordinal::clmm``.

        Raises
        ------
        OptionError
            The model has no thresholds, or was saved without their uncertainty.
        """
        return self._table(tables.vcov_table(self.model, thresholds))

    def _table(self, columns: Any) -> Any:
        return to_library(columns, self._library)

    def _group(self, group: str | None) -> str:
        if group is not None:
            return group
        names = [spec.name for spec in self.model.spec.groups]
        if len(names) == 1:
            return names[0]
        raise OptionError(f"say which grouping factor: the model has {', '.join(map(repr, names)) or 'none'}")
