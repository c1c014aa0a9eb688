"""What a Bayesian fit says: its draws as a table, quantile intervals, its summary, and what it does not have."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model, Sample
from ranef.errors import OptionError, counted, nearest
from ranef.result.latent_terms import latent_terms
from ranef.result.options import choice
from ranef.result.parameters import parameters_of
from ranef.result.tables import Columns
from ranef.result.text import align

FloatArray = npt.NDArray[np.float64]

QUANTILES = (0.025, 0.5, 0.975)
WIDTH = 100


def sample_of(model: Model) -> Sample:
    """The draws of a Bayesian fit.

    Raises
    ------
    OptionError
        The fit is no such one.
    """
    if model.sample is None:
        raise OptionError(f"a fit with method={model.info.method!r} has no draws; fit with method='gibbs'")
    return model.sample


def draws_table(model: Model) -> Columns:
    """One row a draw: ``chain``, ``draw`` (both from 1), then one column a parameter.

    Raises
    ------
    OptionError
    """
    sample = sample_of(model)
    chains, draws, count = sample.parameters.shape
    columns: Columns = {
        "chain": np.repeat(np.arange(1, chains + 1), draws),
        "draw": np.tile(np.arange(1, draws + 1), chains),
    }
    return columns | dict(zip(sample.names, sample.parameters.reshape(-1, count).T.copy(), strict=True))


def posterior_table(model: Model, names: Sequence[str] | None = None) -> Columns:
    """Posterior mean, standard deviation, quantiles, R-hat and effective sample sizes of parameters.

    Parameters
    ----------
    model : Model
    names : sequence of str, optional
        Of those wanted; default: all.

    Returns
    -------
    dict
        ``parameter``, ``mean``, ``sd``, ``q2.5``, ``median``, ``q97.5``, ``rhat``, ``ess_bulk``, ``ess_tail``.
    """
    # SciPy's statistics are slow to import: only where there are draws
    from ranef.learn.convergence import ess_bulk, ess_tail, rhat

    sample = sample_of(model)
    wanted = sample.names if names is None else tuple(names)
    values = [sample.parameters[:, :, sample.names.index(name)] for name in wanted]
    low, median, high = np.array([np.quantile(one, QUANTILES) for one in values]).reshape(-1, 3).T
    return {
        "parameter": list(wanted),
        "mean": np.array([one.mean() for one in values]),
        "sd": np.array([one.std(ddof=1) for one in values]),
        "q2.5": low,
        "median": median,
        "q97.5": high,
        "rhat": np.array([rhat(one) for one in values]),
        "ess_bulk": np.array([ess_bulk(one) for one in values]),
        "ess_tail": np.array([ess_tail(one) for one in values]),
    }


def posterior_fixef(model: Model) -> Columns:
    """`posterior_table` of the fixed effects: ``term``, ``estimate`` (mean), ``se`` (standard deviation), and so on."""
    found = posterior_table(model, model.fixed_names)
    named = {"term": found.pop("parameter"), "estimate": found.pop("mean"), "se": found.pop("sd")}
    return named | found


def posterior_intervals(model: Model, method: str | None, level: float, wanted: str | Sequence[str] | None) -> Columns:
    """Posterior means and equal-tailed intervals: ``parameter``, ``estimate``, ``lower``, ``upper``.

    Raises
    ------
    OptionError
    """
    choice("method", method or "quantile", ("quantile",), " for a fit with method='gibbs'")
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
        raise OptionError(f"level={level!r}: give a number between 0 and 1, such as 0.95")
    sample = sample_of(model)
    # the draws' own order is that of fixed effects first
    known = [one.name for one in parameters_of(model)]
    names = known if wanted is None else (wanted,) if isinstance(wanted, str) else tuple(wanted)
    for name in names:
        if name not in known:
            close = nearest(str(name), known, 1)
            guess = f"; did you mean {close[0]!r}?" if close else "."
            raise OptionError(f"there is no parameter {name!r}{guess} The fit has {', '.join(known)}")
    values = [sample.parameters[:, :, sample.names.index(name)].ravel() for name in names]
    lower, upper = np.array([np.quantile(one, [(1 - level) / 2, (1 + level) / 2]) for one in values]).reshape(-1, 2).T
    means = np.array([one.mean() for one in values])
    return {"parameter": list(names), "estimate": means, "lower": lower, "upper": upper}


def posterior_summary(model: Model, formula: str) -> str:
    """The summary of a Bayesian fit."""
    info, sample = model.info, sample_of(model)
    chains, draws, _ = sample.parameters.shape
    if info.thresholds is not None:
        kind, family = "Cumulative link mixed model", f"Family: ordinal ({info.link}), {info.thresholds} thresholds"
    elif info.family == "gaussian":
        kind, family = "Linear mixed model", ""
    else:
        kind, family = "Generalized linear mixed model", f"Family: {info.family} ({info.link})"
    every = f", every {sample.thin} sweeps" if sample.thin > 1 else ""
    heading = [
        f"{kind} fit by Gibbs sampling, {counted(chains, 'chain')} of {counted(draws, 'draw')}{every} after "
        f"{sample.warmup:,} of warm-up",
        *([family] if family else []),
        *textwrap.wrap(f"Formula: {' '.join(formula.split())}", WIDTH, subsequent_indent=" " * 9),
        *([f"Weights: {model.spec.weights}"] if model.spec.weights is not None else []),
    ]
    random = "Random effects (posterior of standard deviations and correlations):"
    p, q = len(model.fixed_names), len(info.family_parameters)
    parts = [
        heading,
        [*_part(random, model, sample.names[p + q : -1]), *_counts(model)],
        latent_terms(model),
        _part("Fixed effects:", model, sample.names[:p]) if p else ["No fixed effects"],
        _part("Thresholds:", model, sample.names[p : p + q]) if q else [],
        _how(model),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _part(title: str, model: Model, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    table = posterior_table(model, names)
    # three digits of the smallest standard deviation: more is Monte-Carlo noise
    sd = np.asarray(table["sd"])[np.asarray(table["sd"]) > 0]
    decimals = max(0, 2 - int(np.floor(np.log10(sd.min())))) if len(sd) else 3
    numbers = [[f"{value:.{decimals}f}" for value in table[name]] for name in ("mean", "sd", "q2.5", "median", "q97.5")]
    rhat = [f"{value:.3f}" for value in table["rhat"]]
    sizes = [[f"{value:.0f}" for value in table[name]] for name in ("ess_bulk", "ess_tail")]
    header = ["", "Mean", "Std.Dev.", "2.5%", "50%", "97.5%", "R-hat", "Bulk ESS", "Tail ESS"]
    return [title, *align(header, [list(names), *numbers, rhat, *sizes])]


def _counts(model: Model) -> list[str]:
    info = model.info
    groups = [f"{spec.name}, {len(g.levels)}" for spec, g in zip(model.spec.groups, model.groups, strict=True)]
    text = f"Number of obs: {info.nobs}" + (f", groups: {'; '.join(groups)}" if groups else "")
    lines = textwrap.wrap(text, WIDTH, subsequent_indent="  ")
    return [*lines, *([f"Rows dropped: {info.dropped}"] if info.dropped else [])]


def _how(model: Model) -> list[str]:
    info, sample = model.info, sample_of(model)
    (posterior,) = [posterior_table(model, sample.names[-1:])]
    took = f"{info.seconds:.1f}" if info.seconds >= 10 else f"{info.seconds:.2g}"
    state = "The chains agree" if info.converged else "The chains have NOT come together"
    return [
        f"{state}; R-hat of the log posterior {posterior['rhat'][0]:.3f}, bulk ESS {posterior['ess_bulk'][0]:.0f}",
        f"{info.iterations:,} sweeps in {took} s, {info.solver} solver",
    ]


def not_together(model: Model) -> str:
    """What to say of chains that have not come together: the worst parameters, and what to do."""
    # latent terms: of the standard deviations alone, before the log posterior; the rest mixes slowly
    p = len(model.fixed_names)
    table = posterior_table(model, sample_of(model).names[p:-1] if model.latent else None)
    rhat = np.nan_to_num(table["rhat"], nan=np.inf)
    size = np.nan_to_num(np.minimum(table["ess_bulk"], table["ess_tail"]), nan=0.0)
    apart, few = int(np.argmax(rhat)), int(np.argmin(size))
    chains = sample_of(model).parameters.shape[0]
    if model.latent:
        return (
            f"the draws do not tell the posterior well yet: the largest R-hat is {rhat[apart]:.3f} "
            f"({table['parameter'][apart]}; 1.1 or less is good). Take more draws= or warmup=; predictions are often "
            "as good already"
        )
    return (
        f"the draws do not tell the posterior well yet: the largest R-hat is {rhat[apart]:.3f} "
        f"({table['parameter'][apart]}; 1.01 or less is good) and the smallest effective sample size {size[few]:.0f} "
        f"({table['parameter'][few]}; {100 * chains} or more is good). Take more draws= or warmup="
    )
