"""`Fit`: a fitted model with the data it came from, as the statistician's object."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ranef.artifact import load as load_model
from ranef.artifact import save as save_model
from ranef.artifact.implicit import ImplicitModel
from ranef.artifact.model import Model
from ranef.design.attributes import lacking
from ranef.design.build import Design, build_design
from ranef.errors import OptionError
from ranef.formula import parse, update_formula
from ranef.result.bayes import posterior_intervals
from ranef.result.estimates import Ddf
from ranef.result.folding import Folding
from ranef.result.habits import PREDICT, with_habits
from ranef.result.loaded import options_of
from ranef.result.overdispersion import Overdispersion, overdispersion
from ranef.result.predictions import prediction_result
from ranef.result.residuals import (
    ResidualKind,
    check_rows,
    fitted_values,
    linear_predictor,
    residuals,
    sampled_fitted,
    scaled_residual_quantiles,
)
from ranef.result.simulate import as_given, simulate
from ranef.result.summary import summary_text
from ranef.result.text import Text
from ranef.result.warn import warn_about_rows
from ranef.score import Kind
from ranef.score import predict as predict_rows
from ranef.table import open_source, preferred_library

FloatArray = npt.NDArray[np.float64]


class Fit(Folding):
    """A fitted mixed model; made by `ranef.fit` and `ranef.load`.

    Tables come back in the library of the data: pandas, polars, Arrow or a dict of arrays.

    Its numbers, such as `deviance` or `converged`, are in `ranef.result.fitted`, its tables of estimates in
    `ranef.result.estimates`, what it says of the vectors of latent terms in `ranef.result.vectors`, its
    recommendations in `ranef.result.recommend`, the reasons for these in `ranef.result.explain`, what it does
    with new levels in `ranef.result.folding`.
    """

    def __init__(
        self,
        model: Model,
        formula: str,
        library: str,
        design: Design | None = None,
        data: Any = None,
        options: dict[str, Any] | None = None,
    ):
        super().__init__(model, formula, library)
        self._design, self._data, self._options = design, data, options or {}

    # What goes with the data

    @property
    def data(self) -> Any:
        """The data that were fitted, as they were given; None of a loaded model."""
        return self._data

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        """Which rows of the data were used, shape (rows,): ``data[fit.kept]`` are the rows of `residuals`.

        Raises
        ------
        OptionError
            The model was loaded: it does not know the data.
        """
        if self._design is None:
            raise OptionError("a loaded model does not know which rows its data had; predict(data) keeps their order")
        kept = self._design.kept
        return np.ones(self.nobs, np.bool_) if kept is None else kept.copy()

    # Rows

    def fitted(self, data: Any = None) -> FloatArray:
        """Fitted values of the rows used, shape (nobs,); `kept` says which rows of the data these are.

        The mean of the response at the conditional modes, as lme4's ``fitted``; of an ordinal response the probability
        of the row's own category, as that of ``ordinal::clmm``.
        """
        design, eta = self._linear_predictor(data)
        if self.model.sample is not None:
            return sampled_fitted(self.model, design)
        return fitted_values(self.model, design, eta)

    def residuals(self, type: ResidualKind | None = None, seed: int = 0, data: Any = None) -> FloatArray:
        """Residuals of the rows used, shape (nobs,); `kept` says which rows of the data these are.

        Parameters
        ----------
        type : {"response", "pearson", "deviance", "quantile", "scaled"}, optional
            Default: ``"response"``, or ``"quantile"`` of an ordinal response. Response minus fitted; times the root of
            the weight over that of the variance function; signed roots of the deviance; randomized quantile residuals,
            standard normal if the model holds (Dunn and Smyth 1996); Pearson's over `sigma`. An ordinal response has
            those of the deviance and of quantiles.
        seed : int
            Of ``"quantile"``: where the distribution has steps the residual lies at random within the step.
        data : any data, optional
            The rows, for a model that was loaded.
        """
        design, eta = self._linear_predictor(data)
        return residuals(self.model, design, eta, type, seed)

    def overdispersion(self, data: Any = None) -> Overdispersion:
        """Test whether counts, or proportions of several trials, vary more than their family says.

        The sum of the squared Pearson residuals over rows less parameters, and its chi-squared p value: the GLMM FAQ's
        ``overdisp_fun``. A ratio well above 1 calls for family ``"negative_binomial"``, or for a random effect of every
        row.

        Parameters
        ----------
        data : any data, optional
            The rows, for a model that was loaded.

        Returns
        -------
        Overdispersion
            ``chisq``, ``ratio``, ``df`` and ``p``.

        Raises
        ------
        OptionError
            The family has one trial a row, or learns its dispersion.
        """
        design, eta = self._linear_predictor(data)
        return overdispersion(self.model, design, eta)

    def simulate(self, count: int = 1, seed: int = 0, conditional: bool = False, data: Any = None) -> Any:
        """New responses from the fitted model: a table with columns ``sim_1`` ... and one row for each row used.

        They are what the response's column holds, so that `ranef.fit` takes them in its place: numbers, counts,
        proportions, or categories in the column's own type. A response ``cbind(successes, failures)`` gets its
        successes, where `predict` and `fitted` give their probability; the failures are the trials less these.

        Parameters
        ----------
        count : int
        seed : int
        conditional : bool
            Keep the conditional modes instead of drawing new random effects.
        data : any data, optional
            The rows, for a model that was loaded.
        """
        design = self._rows(data)
        draws = simulate(self.model, design, count, seed, conditional)
        return self._table({f"sim_{i + 1}": as_given(self.model, design, one) for i, one in enumerate(draws.T)})

    @with_habits(PREDICT)
    def predict(
        self,
        data: Any,
        type: Kind = "response",
        new_levels: Literal["population", "raise"] = "population",
        interval: Literal["confidence", "prediction"] | None = None,
        level: float = 0.95,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        tables: Mapping[str, Any] | None = None,
    ) -> Any:
        """Predict rows, in their order.

        Parameters
        ----------
        data : any data that `ranef.fit` takes
            The response need not be there.
        type : {"response", "link", "class", "probabilities", "rating"}
            The mean of the response, the inverse link of the linear predictor at the conditional modes (as lme4's
            ``predict``): of a binomial response the probability, also where it is ``cbind(successes, failures)``, of
            which `simulate` gives the successes; the linear predictor; where the response has categories, the most
            probable one in the type of the caller's column, or the probabilities of all. The response of an ordinal
            model is its probabilities, and its linear predictor is what the thresholds are compared with. ``"rating"``,
            where the response is at most 50 evenly spaced numbers, Gaussian or ordinal, is the one nearest to the mean.
            With latent terms a Gaussian response and its intervals are clipped at the smallest and largest rating, see
            ``clip`` of `ranef.fit`; the linear predictor is not.
        new_levels : {"population", "raise"}
            A level that was not seen in fitting counts as the average level, or is an error.
        interval : {"confidence", "prediction"}, optional
            For the expected value, or for a new response. Given the covariance parameters and the dispersion, but not
            the thresholds of an ordinal model: limits of its probabilities are those of the delta method on the logit
            scale, as ``predict.clm``.
            A new Gaussian response has the variance ``sigma^2 / weight``: its weight is in the column that the fit's
            weights came from, or else 1. The limits of a new count, proportion or positive number are quantiles of its
            predictive distribution, for counts and proportions with at least the coverage; a proportion's trials are
            in the columns that the fit's came from. A new category has no interval, only probabilities.
        level : float
            Coverage of the interval.
        include, exclude : str or sequence of str, optional
            ``"fixed"``, names of grouping factors, or terms as in the formula.
        tables : mapping of str to table, optional
            Attributes as in `ranef.fit`, of levels that the model has none of; they take the place of those that it
            has. Columns that ``data`` have themselves are taken from there.

        Returns
        -------
        array, shape (rows,), or table
            Missing where a covariate or grouping value is missing. With ``interval``, a table with the columns fit, lwr
            and upr. Probabilities are a table with one column a category.

        Warns
        -----
        DroppedRowsWarning
            Rows without a prediction.
        UnknownLevelWarning
            Rows whose level was not seen in fitting.
        """
        source = open_source(data)
        found = predict_rows(
            self.model,
            source,
            kind=type,
            new_levels=new_levels,
            interval=interval,
            level=level,
            include=include,
            exclude=exclude,
            tables=tables,
        )
        warn_about_rows(found.missing, len(found.fit), found.unknown)
        return prediction_result(self.model, type, found, source.library)

    # Inference

    def confint(
        self,
        method: Literal["wald", "profile", "bootstrap", "quantile"] | None = None,
        level: float = 0.95,
        *,
        ddf: Ddf = "satterthwaite",
        replicates: int = 500,
        seed: int = 0,
        threads: int | None = None,
        data: Any = None,
        parameters: str | Sequence[str] | None = None,
        progress: bool | None = None,
    ) -> Any:
        """Confidence intervals: parameter, estimate, lower, upper.

        Parameters
        ----------
        method : {"wald", "profile", "bootstrap", "quantile"}, optional
            From standard errors (standard deviations on the log scale); by the likelihood ratio, re-maximising over the
            other parameters (maximum likelihood, whatever the fit's method); or percentiles of parametric bootstrap
            replicates, which hold given covariances as the fit does. ``"wald"``, the default, gives NaN for a standard
            deviation that is estimated as zero. A Bayesian fit has ``"quantile"``, and no other: equal-tailed posterior
            intervals.
        level : float
        ddf : {"satterthwaite", None}
            For the fixed effects of ``"wald"``.
        replicates, seed : int
            For ``"bootstrap"``.
        data : any data, optional
            The rows, for a model that was loaded and a method that needs them.
        parameters : str or sequence of str, optional
            Those wanted, by their names in the column ``parameter``; default: all. A profile of few takes less time.
        progress : bool, optional
            Report what is done on stderr. Default: on a terminal, when it takes more than a second.

        Raises
        ------
        OptionError
            A parameter is unknown, or another option is wrong.
        """
        # profiles and replicates bring an optimiser with them: not at every start of the command line
        from ranef.result.intervals import confint

        if self.model.sample is not None:
            return self._table(posterior_intervals(self.model, method, level, parameters))
        needs_rows = isinstance(method, str) and method.lower() in ("profile", "bootstrap", "boot")
        design = self._rows(data) if needs_rows else None
        found = confint(
            self.model,
            method=method or "wald",
            level=level,
            ddf=ddf,
            design=design,
            replicates=replicates,
            seed=seed,
            threads=threads,
            parameters=parameters,
            progress=progress,
        )
        return self._table(found)

    def summary(self, ddf: Ddf = "satterthwaite", correlation: bool = False) -> Text:
        """The fit in the shape of lme4's summary, or that of ``ordinal::clmm``, with R2 and ICC where they are defined.

        Parameters
        ----------
        ddf : {"satterthwaite", None}
            Of Gaussian models.
        correlation : bool
            Add the correlations of the fixed effects.
        """
        scaled = None
        if self._design is not None and self.model.spec.kind != "ordered" and self.model.sample is None:
            scaled = scaled_residual_quantiles(self.model, self._design)
        return Text(summary_text(self.model, self._formula, ddf, correlation, scaled))

    def __str__(self) -> str:
        return str(self.summary())

    def __repr__(self) -> str:
        family = "" if self.family == "gaussian" else f"{self.family} ({self.link}), "
        how = f"{family}{self.method.upper()}, {self.nobs:,} rows"
        if self.method == "map":
            how += f", objective {self.history[-1].deviance:.4f}"
        elif self.model.latent and self.model.sample is None:
            how += f", bound {self.elbo:.4f}"
        elif self.model.sample is None:
            how += f", deviance {self.deviance:.4f}"
        return f"<ranef.Fit {self._formula!r}, {how}>"

    # Again

    def update(self, formula: Any = None, data: Any = None, **options: Any) -> Fit:
        """Fit again with some of it changed, as lme4's ``update``; or, given rows alone, `update_levels` by them.

        Parameters
        ----------
        formula : str, optional
            A new formula, or changes to this one: ``". ~ . + x - (1 | g)"``. Anything but a text is taken for rows:
            ``update(rows, forget=0.1)`` is ``update_levels(rows, forget=0.1)``, without a new fit.
        data : any data, optional
            Default: the data of this fit.
        **options
            As of `ranef.fit`.
        """
        if "forget" in options or not isinstance(formula, str | None):
            return self.update_levels(data if formula is None else formula, **options)
        from ranef.result.front import fit

        text = self._formula if formula is None else update_formula(self._formula, formula)
        options = {**self._options, **options}
        _check_weights(options.get("weights"))
        return fit(text, self._again(data), **options)

    def refit(self, data: Any = None, **options: Any) -> Fit:
        """Fit the same formula to other data, starting from this fit's covariances.

        Parameters
        ----------
        data : any data, optional
            Default: the data of this fit.
        **options
            As of `ranef.fit`. ``covariance="keep"`` holds this fit's covariances, and sigma: what was learned on a
            sample serves to fit all users and items on everything.
        """
        if isinstance(options.get("covariance"), str) and options["covariance"] == "keep":
            options = {**options, "covariance": self}
        return self.update(data=data, **{"start": self, **options})

    def extend(self, terms: str, data: Any = None, **options: Any) -> Fit:
        """This mixed model with latent terms for what it leaves: two stages, where a formula with both is one.

        The mixed model stays as it is, estimates and standard errors too. Its residuals are factorised by variational
        Bayes, and predictions are the sum; the residual standard deviation is that of the second stage.

        Parameters
        ----------
        terms : str
            ``"latent(user, item, rank=32)"``, or several joined by ``+``.
        data : any data, optional
            The rows of the fit, for a model that was loaded.
        **options
            ``seed``, ``tolerance``, ``max_iterations``, ``callbacks``, ``progress`` and ``validation`` (a table) of the
            sweeps, as of `ranef.fit`.

        Returns
        -------
        Fit
            ``method`` is ``"vb"``; its `update` and `refit` fit both parts together.

        Raises
        ------
        FormulaError, DataError, OptionError, FitError
        """
        from ranef.result.extend import extend

        _check_weights(self._options.get("weights"))
        rows = self._again(data)
        found = extend(self.model, self._formula, open_source(rows), terms, self._options, **options)
        return Fit(found.model, found.formula, self._library, found.design, rows, found.options)

    def save(
        self, path: str | os.PathLike[str], *, posterior: bool = True, seen: bool | tuple[str, str] = False
    ) -> None:
        """Write a model directory.

        Parameters
        ----------
        path : path
            A new directory, or a ranef model to replace.
        posterior : bool
            Keep what intervals of predictions need; the largest part of the files for crossed factors.
        seen : bool or pair of str
            Keep the pairs that the model was fitted on, so that recommendations can leave them out
            (``exclude="seen"``); of two columns, where the model has more than two factors.

        Raises
        ------
        ModelFileError
        OptionError
            If ``path`` is no path.
        """
        if not isinstance(path, str | os.PathLike):
            raise OptionError(f"save() takes the path of a directory, not {type(path).__name__}")
        model = replace(self.model, counts=self._counts(), seen=self._seen_to_keep(seen))
        save_model(model, path, posterior=posterior)

    # Within

    def _rows(self, data: Any) -> Design:
        if data is None:
            if self._design is None:
                raise OptionError("a loaded model does not hold its rows: pass data=")
            return self._design
        weights, offset = self._options.get("weights"), self._options.get("offset")
        _check_weights(weights)
        parsed, kind = parse(self._formula), self.model.spec.kind
        source = open_source(data)
        tables = lacking(self.model.attributes, source)
        design = build_design(parsed, source, weights=weights, offset=offset, kind=kind, tables=tables)
        check_rows(self.model, design)
        return design

    def _linear_predictor(self, data: Any) -> tuple[Design, FloatArray]:
        design = self._rows(data)
        if data is None:
            return design, linear_predictor(self.model, design)
        values = predict_rows(self.model, open_source(data), kind="link").fit
        return design, values if design.kept is None else values[design.kept]

    def _again(self, data: Any) -> Any:
        if data is not None:
            return data
        if self._data is None:
            raise OptionError("a loaded model does not hold its data: pass data=")
        return self._data


def same_response(one: Fit, other: Fit) -> bool:
    """Whether two fits are of the same response, value by value; true if one was loaded and does not hold it."""
    first, second = one._design, other._design
    if first is None or second is None:
        return True
    # a proportion of other trials is another response
    trials = first.weights is None or second.weights is None or np.array_equal(first.weights, second.weights)
    return np.array_equal(first.y, second.y) and (trials or first.spec.kind != "proportion")


def _check_weights(weights: Any) -> None:
    if isinstance(weights, str) and weights == "(array)":
        raise OptionError("the model was fitted with an array of weights; put them into a column and fit again")


def load(path: str | os.PathLike[str]) -> Fit:
    """Load a model that `Fit.save` wrote.

    Raises
    ------
    ModelFileError
        If the directory is truncated, damaged, foreign or written by a newer ranef.
    OptionError
        If ``path`` is no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise OptionError(f"load() takes the path of a model directory, not {type(path).__name__}")
    model = load_model(Path(path))
    if isinstance(model, ImplicitModel):
        from ranef.result.implicit_fit import ImplicitFit

        options: dict[str, Any] = {"family": "implicit", "exponent": model.info.weights.exponent}
        return ImplicitFit(model, model.spec.formula, preferred_library(), options=options)
    return Fit(model, model.spec.formula, preferred_library(), options=options_of(model))
