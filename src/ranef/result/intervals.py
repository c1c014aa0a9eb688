"""Confidence intervals of all parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from ranef.artifact.model import Model
from ranef.design.build import Design
from ranef.engine.threads import engine
from ranef.errors import OptionError, nearest
from ranef.prior import Layout, Structure, factor_of
from ranef.result.bootstrap import bootstrap_limits
from ranef.result.options import choice
from ranef.result.parameters import Parameter, estimates_of, parameters_of
from ranef.result.profile import profile_limits
from ranef.result.progress import counter
from ranef.result.satterthwaite import Ddf, fixed_df, t_quantile
from ranef.result.tables import Columns

FloatArray = npt.NDArray[np.float64]
Method = Literal["wald", "profile", "bootstrap"]

METHODS = ("wald", "profile", "bootstrap")


def confint(
    model: Model,
    *,
    method: str = "wald",
    level: float = 0.95,
    ddf: Ddf = "satterthwaite",
    design: Design | None = None,
    replicates: int = 500,
    seed: int = 0,
    threads: int | None = None,
    parameters: str | Sequence[str] | None = None,
    progress: bool | None = None,
) -> Columns:
    """Confidence intervals.

    Parameters
    ----------
    model : Model
    method : {"wald", "profile", "bootstrap"}
        ``"wald"``: from standard errors; standard deviations and dispersions on the log scale, correlations on Fisher's
        z scale. ``"profile"``: by the likelihood ratio, maximised over all other parameters; by maximum likelihood also
        for a REML fit, as in lme4, and by Laplace's also for one at joint modes. ``"bootstrap"``: percentiles of refits
        to simulated responses.
    level : float
        Coverage, between 0 and 1.
    ddf : {"satterthwaite", None}
        Degrees of freedom of the t distribution for the fixed effects of ``"wald"``; None for the normal one.
    design : Design, optional
        The rows of the fit: ``"profile"`` and ``"bootstrap"`` need them.
    replicates, seed : int
        Of ``"bootstrap"``.
    threads : int, optional
        Default: all cores.
    parameters : str or sequence of str, optional
        The names of those wanted; default: all.
    progress : bool, optional
        Report what is done of a profile or bootstrap on stderr. Default: on a terminal, when it takes more than a
        second.

    Returns
    -------
    dict
        ``parameter`` (lme4's names: ``sd_x|g``, ``cor_x.z|g``, ``sigma``, fixed effects; and thresholds, ``theta``,
        ``dispersion``), ``estimate`` (of the fit),
        ``lower``, ``upper``. NaN where the method gives no limit: for ``"wald"`` where a standard deviation is
        estimated as zero or a correlation as one, else after a warning; and for covariances that were given.

    Raises
    ------
    OptionError
    FitError

    Warns
    -----
    ConvergenceWarning
        Limits that could not be found, or refits that failed.
    """
    method = choice("method", method, METHODS, also={"boot": "bootstrap"})
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
        raise OptionError(f"level={level!r}: give a number between 0 and 1, such as 0.95")
    wanted = _wanted(model, parameters)
    if method == "wald":
        lower, upper = wald_limits(model, wanted, level, ddf)
    else:
        if design is None:
            raise OptionError(f"method={method!r} needs the rows of the fit: pass data=")
        _check_kept(model, method)
        with engine(threads) as pool:
            if method == "profile":
                report = counter("profiles", progress)
                lower, upper = profile_limits(model, design, wanted, level, pool, report)
            else:
                report = counter("bootstrap refits", progress)
                lower, upper = bootstrap_limits(model, design, wanted, level, replicates, seed, pool, report)
    return {
        "parameter": [one.name for one in wanted],
        "estimate": estimates_of(model, wanted),
        "lower": lower,
        "upper": upper,
    }


def _check_kept(model: Model, method: str) -> None:
    locked = model.info.locked
    if model.latent:
        raise OptionError(
            f"method={method!r} needs a likelihood, which a model with latent() has not; use method='wald'"
        )
    if locked:
        raise OptionError(
            f"method={method!r} learns every coefficient anew, but those of {', '.join(locked)} are kept from an "
            "earlier fit; use method='wald'"
        )


def _wanted(model: Model, names: str | Sequence[str] | None) -> tuple[Parameter, ...]:
    known = {one.name: one for one in parameters_of(model)}
    if names is None:
        return tuple(known.values())
    if isinstance(names, str):
        names = [names]
    unknown = [name for name in names if name not in known]
    if unknown:
        close = nearest(str(unknown[0]), known, 1)
        guess = f"; did you mean {close[0]!r}?" if close else "."
        listed = " or ".join(map(repr, unknown))
        raise OptionError(f"there is no parameter {listed}{guess} The fit has {', '.join(known)}")
    return tuple(known[name] for name in names)


def wald_limits(model: Model, wanted: Sequence[Parameter], level: float, ddf: Ddf) -> tuple[FloatArray, FloatArray]:
    """Limits from standard errors; NaN for variances and correlations at the boundary.

    Correlations are NaN too if the model was saved without its posterior.
    """
    upper_tail = (1 + level) / 2
    normal = float(ndtri(upper_tail))
    quantile = t_quantile(upper_tail, fixed_df(model, ddf))
    estimates = estimates_of(model, wanted)
    slopes = covariance_slopes(model)
    lower, upper = np.empty(len(wanted)), np.empty(len(wanted))
    for place, (one, value) in enumerate(zip(wanted, estimates, strict=True)):
        if one.kind == "family" and model.info.thresholds is not None:
            reach = normal * model.info.family_parameters[one.i].se
            lower[place], upper[place] = value - reach, value + reach
        elif one.kind == "fixed":
            reach = quantile[one.i] * float(np.sqrt(model.vcov[one.i, one.i]))
            lower[place], upper[place] = value - reach, value + reach
        elif one.kind == "cor":
            reach = normal * _fisher_se(model, one, value, slopes)
            with np.errstate(invalid="ignore", divide="ignore"):
                lower[place], upper[place] = np.tanh(np.arctanh(value) + reach * np.array([-1, 1]))
        else:
            reach = normal * _log_se(model, one)
            with np.errstate(over="ignore"):  # a variance that the data hardly determine has no upper limit
                lower[place], upper[place] = value * np.exp(np.array([-reach, reach]))
    return lower, upper


def _log_se(model: Model, one: Parameter) -> float:
    """Standard error of the logarithm of a standard deviation or dispersion."""
    if one.kind == "family":
        own = model.info.family_parameters[one.i]
        return own.se / own.value
    gaussian = model.spec.kind == "number"
    if one.kind == "sigma":
        row = model.varcorr[-1]
    else:
        spec = model.spec.groups[one.group]
        name = spec.name if one.term == 0 else f"{spec.name}.{one.term}"
        term = spec.terms[one.term]
        random = model.varcorr[:-1] if gaussian else model.varcorr
        row = [row for row in random if row.grp == name and row.var2 is None][one.i - term.start]
    return row.se / row.vcov / 2 if row.vcov > 0 else float("nan")


def _fisher_se(model: Model, one: Parameter, value: float, slopes: Sequence[FloatArray] | None) -> float:
    if slopes is None or not abs(value) < 1:
        return float("nan")
    slope, covariance = slopes[one.group], model.groups[one.group].covariance
    size, other = covariance[one.i, one.i], covariance[one.j, one.j]
    change = slope[:, one.i, one.j] / np.sqrt(size * other) - value / 2 * (
        slope[:, one.i, one.i] / size + slope[:, one.j, one.j] / other
    )
    se = float(np.sqrt(max(change @ model.parameter_vcov @ change, 0.0)))
    return se / (1 - value**2) if se > 0 else float("nan")


def covariance_slopes(model: Model) -> list[FloatArray] | None:
    """Derivatives of each factor's covariance by the covariance parameters, shape (parameters + others, k, k).

    In the coordinates of ``model.parameter_vcov``: entries of the relative factor with a diagonal of at least zero,
    then the log residual variance; for other families ones that no covariance depends on. None if the model was saved
    without its posterior, which knows the coordinates.
    """
    if model.posterior is None:
        return None
    layout = Layout(tuple(tuple(Structure(t.covariance, t.size) for t in spec.terms) for spec in model.spec.groups))
    sigma2 = model.info.sigma**2
    out = []
    for b, (learned, back) in enumerate(zip(model.groups, model.posterior.z_back, strict=True)):
        into = np.linalg.inv(back)
        root = back @ factor_of(into @ learned.covariance @ into.T / sigma2)
        half = sigma2 * (back @ layout.basis[b]) @ root.T
        slopes = np.zeros((len(model.parameter_vcov), *learned.covariance.shape))
        slopes[layout.slices[b]] = half + half.transpose(0, 2, 1)
        if model.spec.kind == "number":
            slopes[-1] = learned.covariance
        out.append(slopes)
    return out
