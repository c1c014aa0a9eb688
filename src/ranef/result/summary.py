"""The fit as text, in the shape of lme4's summary."""

from __future__ import annotations

import textwrap

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model, VarianceRow
from ranef.design.matrix import INTERCEPT
from ranef.errors import counted
from ranef.result.criteria import aic, bic, icc, loglik, r2
from ranef.result.latent_terms import latent_terms
from ranef.result.satterthwaite import Ddf, check_ddf
from ranef.result.tables import fixef_table, thresholds_table
from ranef.result.text import align, family_text, format_numbers, format_p, r_coefficients

FloatArray = npt.NDArray[np.float64]

WIDTH = 100
# of validation rows, by the kind of the response; of others log loss
SCORES = {"number": "RMSE", "rating": "RMSE", "count": "mean deviance", "positive": "mean deviance"}
HOW = {
    "reml": "REML",
    "ml": "maximum likelihood",
    "laplace": "maximum likelihood (Laplace approximation)",
    "joint": "maximum likelihood (joint modes, nAGQ = 0)",
    "vb": "variational Bayes",
    "map": "penalised likelihood",
}


def summary_text(
    model: Model,
    formula: str | None = None,
    ddf: Ddf = "satterthwaite",
    correlation: bool = False,
    quantiles: FloatArray | None = None,
) -> str:
    """The fit in the shape of lme4's summary, with explained variance and how the search went.

    Parameters
    ----------
    model : Model
    formula : str, optional
        As the caller wrote it; default: its normal form.
    ddf : {"satterthwaite", None}
        Degrees of freedom of the fixed effects' t tests; None for tests by the normal distribution, which other
        families than the Gaussian always have.
    correlation : bool
        Add the correlations of the fixed effects.
    quantiles : float64 array, shape (5,), optional
        Smallest, quartiles and largest of the scaled residuals.

    Returns
    -------
    str
        Lines of at most 100 characters if the names are of ordinary length.

    Raises
    ------
    OptionError
        ``ddf`` is unknown.
    """
    check_ddf(ddf)
    if model.sample is not None:
        from ranef.result.bayes import posterior_summary

        return posterior_summary(model, model.spec.formula if formula is None else formula)
    ddf = ddf if model.info.family == "gaussian" else None
    parts = [
        _heading(model, model.spec.formula if formula is None else formula, ddf),
        _criteria(model),
        [] if quantiles is None else _residual_quantiles(quantiles),
        latent_terms(model),
        [*_random_effects(model), *_dispersion(model), *_counts(model)],
        _fixed_effects(model, ddf),
        _thresholds(model),
        _correlations(model) if correlation and len(model.beta) > 1 else [],
        [*_explained(model), *_search(model)],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _heading(model: Model, formula: str, ddf: Ddf) -> list[str]:
    info = model.info
    probes = f" ({info.probes} probes)" if info.probes else ""
    how = HOW[info.method] if model.groups or info.family == "gaussian" else "maximum likelihood"
    if info.quadrature > 1:
        how = f"maximum likelihood (adaptive Gauss-Hermite, {info.quadrature} nodes)"
    if info.two_stage:
        how = "two stages (latent terms by variational Bayes)"
    text = f"{_kind(model)} fit by {how}, {info.solver} solver{probes}"
    lines = [text] if len(text) <= WIDTH else [f"{_kind(model)} fit by {how},", f"{info.solver} solver{probes}"]
    if ddf and len(model.beta):
        basis = " (average information)" if info.information == "average" else ""
        tests = f"t-tests use Satterthwaite's method{basis}"
        together = f"{text}; {tests}"
        lines = [together] if len(together) <= WIDTH else [*lines, tests]
    if info.family != "gaussian":
        lines.append(f"Family: {family_text(info)}")
    lines += textwrap.wrap(f"Formula: {' '.join(formula.split())}", WIDTH, subsequent_indent=" " * 9)
    if model.spec.weights is not None:
        lines.append(f"Weights: {model.spec.weights}")
    return lines


def _kind(model: Model) -> str:
    mixed = "mixed model" if model.groups else "model"
    if model.info.thresholds is not None:
        return f"Cumulative link {mixed}"
    return f"Linear {mixed}" if model.info.family == "gaussian" else f"Generalized linear {mixed}"


def _criteria(model: Model) -> list[str]:
    info = model.info
    noise = _monte_carlo(model) if info.deviance_error else []
    if info.method == "vb":
        return [f"Lower bound of the log-likelihood: {info.elbo:.1f}"]
    if info.method == "map":
        what = "sum of squares" if info.family == "gaussian" else "deviance"
        return [f"Penalised {what}: {info.history[-1].deviance:.1f}"]
    if info.method == "reml":
        return [f"REML criterion at convergence: {info.deviance:.1f}", *noise]
    values = [aic(model), bic(model), loglik(model), info.deviance]
    cells = [[f"{value:.1f}"] for value in values] + [[str(info.nobs - info.df)]]
    return align(["AIC", "BIC", "logLik", "deviance", "df.resid"], cells, left=0) + noise


def _monte_carlo(model: Model) -> list[str]:
    """The log-likelihood's Monte-Carlo error, and the estimates' largest beside their standard errors."""
    info, fixed = model.info, np.array(model.info.fixef_mcse)
    known = [(row.mcse, row.se) for row in model.varcorr]
    known += [(one.mcse, one.se) for one in info.family_parameters]
    known += zip(fixed.tolist(), np.sqrt(np.diag(model.vcov)[: len(fixed)]).tolist(), strict=True)
    largest = max((mcse / se for mcse, se in known if se > 0), default=None)
    estimates = "" if largest is None else f", of the estimates at most {largest:.2g} standard errors"
    return [f"Monte-Carlo error of the log-likelihood {info.deviance_error / 2:.2g}{estimates}"]


def _residual_quantiles(quantiles: FloatArray) -> list[str]:
    values = format_numbers([round(float(value), 4) for value in quantiles], 5)
    lines = ["Scaled residuals:", *align(["Min", "1Q", "Median", "3Q", "Max"], [[v] for v in values], left=0)]
    if np.isinf(quantiles).any():
        lines.append("infinite where the fitted mean leaves the response no variance, as a count's mean of zero")
    return lines


def _random_effects(model: Model) -> list[str]:
    variances = [row for row in model.varcorr if row.var2 is None]
    if not variances:
        return []
    groups, names = [], []
    for i, row in enumerate(variances):
        groups.append(row.grp if i == 0 or variances[i - 1].grp != row.grp else "")
        names.append(row.var1 or "")
    header = ["Groups", "Name", "Variance", "Std.Dev."]
    columns = [
        groups,
        names,
        format_numbers([row.vcov for row in variances]),
        format_numbers([row.sdcor for row in variances]),
    ]
    correlations = _correlation_cells(model, variances)
    width = max((len(cells) for cells in correlations), default=0)
    for j in range(width):
        header.append("Corr" if j == 0 else "")
        columns.append([cells[j] if j < len(cells) else "" for cells in correlations])
    return ["Random effects:", *align(header, columns, left=2, indent=" ")]


def _correlation_cells(model: Model, variances: list[VarianceRow]) -> list[list[str]]:
    """For each variance's row, its correlations with the coefficients before it in the same term."""
    known = {(row.grp, row.var1, row.var2): row.sdcor for row in model.varcorr if row.var2 is not None}
    out = []
    for row in variances:
        pairs = [(row.grp, other.var1, row.var1) for other in variances if other.grp == row.grp]
        own = [known[pair] for pair in pairs if pair in known]
        out.append(["NaN" if np.isnan(value) else f"{value:.2f}" for value in own])
    return out


def _dispersion(model: Model) -> list[str]:
    info = model.info
    if info.thresholds is not None or not info.family_parameters:
        return []
    (one,) = info.family_parameters
    value, se = format_numbers([one.value]), format_numbers([one.se], 3)
    name = "Dispersion" if one.name == "dispersion" else f"Dispersion ({one.name})"
    return [f"{name}: {value[0]}, Std. Error {se[0]}"]


def _counts(model: Model) -> list[str]:
    info = model.info
    groups = [f"{spec.name}, {len(g.levels)}" for spec, g in zip(model.spec.groups, model.groups, strict=True)]
    text = f"Number of obs: {info.nobs}" + (f", groups: {'; '.join(groups)}" if groups else "")
    lines = textwrap.wrap(text, WIDTH, subsequent_indent="  ")
    if info.locked:
        text = f"Coefficients kept from an earlier fit: {', '.join(info.locked)}"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="  ")
    if info.held:
        lines += textwrap.wrap(f"Variances given, not learned: {', '.join(info.held)}", WIDTH, subsequent_indent="  ")
    if info.dropped:
        why = [f"{name} missing in {count}" for name, count in sorted(info.dropped_missing.items())]
        why += [f"weight zero in {info.dropped_zero_weight}"] if info.dropped_zero_weight else []
        lines += textwrap.wrap(f"Rows dropped: {info.dropped} ({', '.join(why)})", WIDTH, subsequent_indent="  ")
    if info.empty_categories:
        text = f"Categories without rows, left out: {', '.join(info.empty_categories)}"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="  ")
    if info.aliased:
        text = f"Columns dropped, others determine them: {', '.join(info.aliased)}"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="  ")
    return lines


def _fixed_effects(model: Model, ddf: Ddf) -> list[str]:
    if not len(model.beta):
        return ["No fixed effects"]
    table = fixef_table(model, ddf)
    statistic, p = ("t value", "Pr(>|t|)") if ddf else ("z value", "Pr(>|z|)")
    header = ["", "Estimate", "Std. Error"] + (["df"] if ddf else []) + [statistic, p]
    columns = [list(table["term"]), *r_coefficients(table["estimate"], table["se"])]
    if ddf:
        columns.append([f"{value:.1f}" for value in table["df"]])
    columns += [format_numbers([round(float(z), 3) + 0.0 for z in table["z"]]), format_p(table["p"])]
    return ["Fixed effects:", *align(header, columns)]


def _thresholds(model: Model) -> list[str]:
    if model.info.thresholds is None:
        return []
    table = thresholds_table(model)
    columns = [list(table["threshold"]), *r_coefficients(table["estimate"], table["se"])]
    columns.append(format_numbers([round(float(z), 3) for z in table["z"]]))
    return ["Thresholds:", *align(["", "Estimate", "Std. Error", "z value"], columns)]


def _correlations(model: Model) -> list[str]:
    sd = np.sqrt(np.diag(model.vcov))
    # a sum with zero has no minus sign before 0.000
    correlation = np.round(model.vcov / np.outer(sd, sd), 3) + 0.0
    names = model.fixed_names
    short = [name.replace(INTERCEPT, "(Int)")[:7] for name in names[:-1]]
    stub = max(len(name) for name in names)
    per_panel = max(1, (WIDTH - stub) // 8)
    lines = ["Correlation of fixed effects:"]
    for first in range(0, len(short), per_panel):
        shown = range(first, min(first + per_panel, len(short)))
        rows = range(first + 1, len(names))
        columns = [[f"{correlation[i, j]:.3f}" if i > j else "" for i in rows] for j in shown]
        lines += align(["", *(short[j] for j in shown)], [[names[i] for i in rows], *columns])
    return lines


def _explained(model: Model) -> list[str]:
    explained, within = r2(model), icc(model)
    if explained is None or within is None:
        return []
    return [f"R2: {explained[0]:.3f} marginal, {explained[1]:.3f} conditional; ICC: {within:.3f}"]


def _search(model: Model) -> list[str]:
    info = model.info
    seconds = info.seconds
    state = "Converged" if info.converged else "NOT converged"
    took = f"{seconds:.1f}" if seconds >= 10 else f"{seconds:.2g}"
    if info.method in ("vb", "map"):
        state = {"callback": "Ended by a callback", "interrupt": "Interrupted"}.get(info.stopped, state)
        lines = [f"{state} after {counted(len(info.history), 'sweep')} in {took} s"]
        if info.validation_rows:
            score = SCORES.get(model.spec.kind, "log loss")
            best = f"{score} {info.score:.4f} on {counted(info.validation_rows, 'validation row')}"
            lines.append(f"Sweep {info.iterations} is kept, the best: {best}")
    elif info.mode_gradient is None:
        after = counted(info.iterations, "evaluation")
        lines = [f"{state} after {after} in {took} s; largest gradient {info.gradient:.1g} standard errors"]
    else:
        after = counted(info.iterations, "step")
        norm = f"the gradient's norm is {info.mode_gradient:.1g} of that without random effects"
        lines = [f"{state} after {after} in {took} s; {norm}"]
    if info.unbounded:
        text = f"No finite estimate: {', '.join(info.unbounded)}"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="  ")
    if info.singular:
        lines.append("boundary (singular) fit: a variance is estimated as zero or a correlation as one")
    return lines
