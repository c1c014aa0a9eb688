"""`fit`: from a formula and data to a `Fit`. Checks options, reads, fits, warns."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.design.build import build_design
from ranef.engine.threads import engine
from ranef.errors import (
    ConvergenceWarning,
    DroppedColumnsWarning,
    DroppedRowsWarning,
    OptionError,
    SingularFitWarning,
    nearest,
)
from ranef.formula import parse
from ranef.learn.gaussian import MOST_PROBES, Method, fit_gaussian
from ranef.learn.minimise import Step
from ranef.result.fit import Fit
from ranef.table import open_source

FloatArray = npt.NDArray[np.float64]

METHODS: Mapping[str, tuple[str, ...]] = {"gaussian": ("reml", "ml")}
LINKS: Mapping[str, tuple[str, ...]] = {"gaussian": ("identity",)}
SOLVERS = ("auto", "exact", "stochastic")
MISSING = ("drop", "raise")


def fit(
    formula: str,
    data: Any,
    *,
    family: str = "gaussian",
    link: str | None = None,
    method: Literal["reml", "ml"] | None = None,
    weights: str | npt.ArrayLike | None = None,
    offset: str | None = None,
    start: Fit | None = None,
    missing: Literal["drop", "raise"] = "drop",
    solver: Literal["auto", "exact", "stochastic"] = "auto",
    probes: int | Literal["auto"] = "auto",
    seed: int = 0,
    tolerance: float | None = None,
    max_iterations: int | None = None,
    threads: int | None = None,
    progress: bool | None = None,
) -> Fit:
    """Fit a linear mixed-effects model.

    Parameters
    ----------
    formula : str
        lme4's language: ``"y ~ x + (1 + x | g) + (1 | a/b)"``.
    data : data frame, Arrow table or stream, dict of arrays, path, list of paths or glob
        Any data frame that narwhals knows; Parquet or CSV files.
    family : {"gaussian"}
    link : {"identity"}, optional
    method : {"reml", "ml"}, optional
        Restricted (the default) or full maximum likelihood.
    weights : str or array_like, shape (rows,), optional
        Prior weights (variance of a row is ``sigma^2 / weight``): a column's name, or numbers. Rows of weight zero
        are dropped and counted.
    offset : str, optional
        A column that is added to the linear predictor with coefficient one; as ``offset(column)`` in the formula.
    start : Fit, optional
        Start the search from the covariances of this fit.
    missing : {"drop", "raise"}
        What to do with rows that lack a value in a column of the model; dropped rows are counted in ``Fit.dropped``.
    solver : {"auto", "exact", "stochastic"}
        Exact: a dense Cholesky factorisation of what is left after the largest grouping factor, and what nests with
        it, is eliminated. Stochastic: conjugate gradients, and traces from random probes; the Monte-Carlo error of
        every variance and of the log-likelihood is reported. ``"auto"`` is exact where that takes seconds: up to 2,000
        random effects besides those eliminated.
    probes : int or "auto"
        Probes of the stochastic solver, 2 to 64. ``"auto"`` begins with 8 and doubles them until the Monte-Carlo error
        of every covariance parameter is at most a twentieth of its standard error.
    seed : int
        Of the probes: the same seed gives the same fit to the last bit.
    tolerance : float, optional
        The search ends when a step is predicted to lower the deviance by less than this; default 1e-9, an error of
        3e-5 standard errors in the covariance parameters.
    max_iterations : int, optional
        Evaluations of the criterion; default 200.
    threads : int, optional
        Default: all cores. The result is the same to the last bit for any number.
    progress : bool, optional
        Report each step on stderr. Default: on a terminal, when the fit takes more than a second.

    Returns
    -------
    Fit

    Raises
    ------
    FormulaError
        The formula is wrong, with the place.
    DataError
        The data cannot be used, with column, row and count.
    OptionError
        An option has a value that is not accepted.
    FitError
        The model cannot be fitted to these data.

    Warns
    -----
    DroppedRowsWarning, DroppedColumnsWarning, SingularFitWarning, ConvergenceWarning

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.fit("Reaction ~ Days + (Days | Subject)", ranef.data.sleepstudy())
    >>> round(fit.sigma, 2)
    25.59
    """
    begun = time.perf_counter()
    chosen = _method(family, link, method)
    _choice("solver", solver, SOLVERS)
    _choice("missing", missing, MISSING)
    if probes != "auto" and not (isinstance(probes, int) and 2 <= probes <= MOST_PROBES):
        raise OptionError(f"probes={probes!r}: give a whole number from 2 to {MOST_PROBES}, or 'auto'")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise OptionError(f"seed={seed!r}: give a whole number of at least 0")
    if tolerance is not None and not (isinstance(tolerance, int | float | np.floating) and 0 < tolerance < 1):
        raise OptionError(f"tolerance={tolerance!r}: give a number between 0 and 1, such as 1e-9")
    if max_iterations is not None and (
        isinstance(max_iterations, bool) or not isinstance(max_iterations, int | np.integer) or max_iterations < 1
    ):
        raise OptionError(f"max_iterations={max_iterations!r}: give a whole number of at least 1")
    if start is not None and not isinstance(start, Fit):
        raise OptionError(f"start={type(start).__name__}: give an earlier Fit")
    parsed = parse(formula)
    source = open_source(data)
    with engine(threads) as pool:
        design = build_design(parsed, source, weights=weights, offset=offset, missing=missing)
        model = fit_gaussian(
            design,
            chosen,
            pool,
            solver=solver,
            probes=None if probes == "auto" else probes,
            seed=seed,
            start=None if start is None else relative_covariances(start.model),
            tolerance=tolerance,
            max_iterations=max_iterations,
            report=_reporter(progress),
        )
    options = {"family": family, "link": link, "method": method, "weights": weights, "offset": offset}
    options |= {"probes": probes, "seed": seed}
    options |= {"missing": missing, "solver": solver, "tolerance": tolerance, "max_iterations": max_iterations}
    options |= {"threads": threads, "progress": progress}
    result = Fit(model, formula, source.library, design, data, options, time.perf_counter() - begun)
    warn_about(model)
    return result


def relative_covariances(model: Model) -> dict[str, FloatArray]:
    """Covariance of each grouping factor over the residual variance."""
    return {
        spec.name: group.covariance / model.info.sigma**2
        for spec, group in zip(model.spec.groups, model.groups, strict=True)
    }


def _method(family: str, link: str | None, method: str | None) -> Method:
    _choice("family", family, tuple(METHODS))
    if link is not None:
        _choice("link", link, LINKS[family])
    if method is None:
        return cast(Method, METHODS[family][0])
    return cast(Method, _choice("method", method, METHODS[family], f" for family={family!r}"))


def _choice(option: str, value: Any, known: tuple[str, ...], where: str = "") -> str:
    if isinstance(value, str) and value in known:
        return value
    close = nearest(value, known, 1) if isinstance(value, str) else []
    guess = f"; did you mean {close[0]!r}?" if close else ""
    raise OptionError(f"{option}={value!r} is not known{where}: use {' or '.join(map(repr, known))}{guess}")


def warn_about(model: Model) -> None:
    """The warnings that a fit deserves, each of its own class."""
    info = model.info
    if info.dropped:
        reasons = [f"{count:,} without {name}" for name, count in info.dropped_missing.items()]
        reasons += [f"{info.dropped_zero_weight:,} of weight zero"] if info.dropped_zero_weight else []
        message = f"{info.dropped:,} of {info.dropped + info.nobs:,} rows were dropped: {', '.join(reasons)}"
        warnings.warn(message, DroppedRowsWarning, stacklevel=3)
    if info.aliased:
        message = (
            f"the fixed part is rank-deficient: left out {', '.join(info.aliased)}, which the columns before determine"
        )
        warnings.warn(message, DroppedColumnsWarning, stacklevel=3)
    if not info.converged:
        message = (
            f"not converged after {info.iterations} evaluations: the largest entry of the gradient is "
            f"{info.gradient:.2g} standard errors. Raise max_iterations, start from a simpler fit (start=), or drop a "
            "random effect"
        )
        warnings.warn(message, ConvergenceWarning, stacklevel=3)
    if info.singular:
        message = (
            "boundary (singular) fit: a variance is estimated as zero or a correlation as one; the random effects may "
            "be more than the data can tell apart"
        )
        warnings.warn(message, SingularFitWarning, stacklevel=3)


def _reporter(progress: bool | None) -> Callable[[Step, float, Mapping[str, FloatArray]], None] | None:
    if progress is False or (progress is None and not sys.stderr.isatty()):
        return None

    def report(step: Step, sigma2: float, covariances: Mapping[str, FloatArray]) -> None:
        if progress is None and step.seconds < 1:
            return
        sds = ", ".join(f"{name} {np.sqrt(np.diag(c)).round(4).tolist()}" for name, c in covariances.items())
        note = "" if step.accepted else "  (refused)"
        line = (
            f"step {step.iteration}: deviance {step.deviance:.4f}, to gain {step.decrement:.2g}, {step.seconds:.1f} s"
        )
        sys.stderr.write(f"{line}; sd {sds}, residual {sigma2**0.5:.4f}{note}{os.linesep}")
        sys.stderr.flush()

    return report
