"""``ranef fit``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ranef.cli.guard import note
from ranef.cli.words import DATA_HELP, TABLE_HELP, quoted, tables_of
from ranef.errors import FormulaError, OptionError

if TYPE_CHECKING:
    from ranef.family import Family

_FILES = (".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz", ".arrow", ".feather")
_MISSING = (
    "Rows that lack a value: drop or raise. In CSV files empty fields, NA, N/A, NaN and null are missing values; "
    "other texts, such as a dot, make a column text."
)

_COVARIANCE = (
    "Variances that are given and not learned: a CSV or Parquet file with the columns grp, var1, var2 and vcov, or a "
    "saved model."
)
_FAMILY = (
    "Distribution of the response: gaussian, bernoulli (0 or 1, or a column of two levels), binomial "
    "(cbind(successes, failures) ~ ..., or a proportion with the trials as --weights), poisson, negative_binomial, "
    "gamma, ordinal or ratings (evenly spaced numbers, whose mean stays within their range). implicit: "
    'pairs that are observed or not, "1 ~ latent(user, item, rank=64)".'
)
_LINK = "logit (default), probit or cloglog, of bernoulli, binomial and ordinal."
_THRESHOLDS = "Of ordinal: flexible (default), symmetric around the middle, or equidistant."
_METHOD = (
    "gaussian: reml (default) or ml. Others: laplace (default) or joint (lme4's nAGQ=0). gibbs: draws from the "
    "posterior (not of every family). latent() and fm(): vb (default), map or gibbs."
)
_WEIGHTS = "gaussian: variance 1/weight. binomial proportion: trials. Others: how often a row counts."


def fit(
    formula: Annotated[
        str, typer.Argument(metavar="FORMULA", help='In quotes: "y ~ x + (1 + x | g)".', show_default=False)
    ],
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA...", help=DATA_HELP, show_default=False),
    ],
    family: Annotated[str, typer.Option(help=_FAMILY)] = "gaussian",
    link: Annotated[str | None, typer.Option(help=_LINK, show_default=False)] = None,
    thresholds: Annotated[str | None, typer.Option(help=_THRESHOLDS, show_default=False)] = None,
    method: Annotated[str | None, typer.Option(help=_METHOD, show_default=False)] = None,
    weights: Annotated[str | None, typer.Option(metavar="COLUMN", help=_WEIGHTS, show_default=False)] = None,
    offset: Annotated[str | None, typer.Option(metavar="COLUMN", help="Added to the linear predictor.")] = None,
    table: Annotated[list[str] | None, typer.Option(metavar="KEY=FILE", help=TABLE_HELP, show_default=False)] = None,
    covariance: Annotated[Path | None, typer.Option(metavar="FILE", help=_COVARIANCE, show_default=False)] = None,
    missing: Annotated[str, typer.Option(help=_MISSING)] = "drop",
    solver: Annotated[
        str,
        typer.Option(
            help="exact, stochastic (any number of levels; with Monte-Carlo errors), auto, or for a given --covariance "
            "bound (Diamond's bound of the curvature)."
        ),
    ] = "auto",
    probes: Annotated[str, typer.Option(help="Of the stochastic solver: 2 to 64, or auto.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of probes and draws: the same seed gives the same fit.")] = 0,
    quadrature: Annotated[
        int, typer.Option(help="Nodes of adaptive Gauss-Hermite quadrature, for one scalar random term.")
    ] = 1,
    draws: Annotated[
        int | None,
        typer.Option(
            help="Of each chain of --method gibbs; default 1,000, or 200 with latent terms.", show_default=False
        ),
    ] = None,
    warmup: Annotated[
        int | None,
        typer.Option(help="Sweeps thrown away before; default 500, or 100 with latent terms.", show_default=False),
    ] = None,
    chains: Annotated[
        int | None, typer.Option(help="Of --method gibbs; default 4, or 1 with latent terms.", show_default=False)
    ] = None,
    thin: Annotated[int | None, typer.Option(help="Sweeps for each draw; default 1.", show_default=False)] = None,
    prior: Annotated[
        str | None, typer.Option(help="Of the covariances: half-t (default) or inverse-wishart.", show_default=False)
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Stop when the deviance can fall by less; default 1e-9, stochastic 1e-5.", show_default=False
        ),
    ] = None,
    max_iterations: Annotated[
        int | None, typer.Option(help="Evaluations of the criterion; default 200.", show_default=False)
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: all cores.", show_default=False)] = None,
    memory: Annotated[
        str, typer.Option(help="memory, disk (rows in temporary files), a size to keep within, such as 2GB, or auto.")
    ] = "auto",
    start: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Start from the covariances of this saved model.")
    ] = None,
    lock: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GROUP", help="Keep this factor's coefficients of --start; may be repeated.", show_default=False
        ),
    ] = None,
    unobserved: Annotated[
        float | None,
        typer.Option(help="Of implicit: weight of a pair that is not observed; default: chosen.", show_default=False),
    ] = None,
    penalty: Annotated[
        float | None, typer.Option(help="Of implicit: penalty of the vectors; default: chosen.", show_default=False)
    ] = None,
    exponent: Annotated[
        float | None,
        typer.Option(help="Of implicit: power of a level's weight in its penalty; default 1.", show_default=False),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Save the model here.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document in place of the summary.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No summary, progress or notes; warnings and errors only.")
    ] = False,
) -> None:
    """Fit a linear or generalized linear mixed model and print its summary."""
    check_formula(formula, data)
    from ranef.artifact import check_target
    from ranef.result.document import to_json
    from ranef.result.fit import load
    from ranef.result.front import fit as fit_model

    if out is not None:
        check_target(out)
    fitted = fit_model(
        formula,
        data,
        family=family if thresholds is None else _with_thresholds(family, link, thresholds),
        link=link,
        method=method,  # type: ignore[arg-type]  # the library checks it, with a better message
        weights=weights,
        offset=offset,
        tables=tables_of(table),
        covariance=None if covariance is None else _table_or_model(covariance),
        missing=missing,  # type: ignore[arg-type]
        solver=solver,  # type: ignore[arg-type]
        probes=int(probes) if probes.isdecimal() else probes,  # type: ignore[arg-type]
        seed=seed,
        quadrature=quadrature,
        draws=draws,
        warmup=warmup,
        chains=chains,
        thin=thin,
        prior=prior,
        tolerance=tolerance,
        max_iterations=max_iterations,
        threads=threads,
        memory=memory,
        start=None if start is None else load(start),
        lock=lock or None,
        unobserved=unobserved,
        penalty=penalty,
        exponent=exponent,
        progress=False if quiet else None,
    )
    if out is not None:
        fitted.save(out)
        if not quiet:
            note(f"model saved to {out}")
    if json:
        print(to_json(fitted))
    elif not quiet:
        print(fitted)


def _with_thresholds(family: str, link: str | None, thresholds: str) -> Family:
    """The ordinal family of a name and a link, with thresholds of a kind.

    Raises
    ------
    OptionError
    """
    from ranef.family import family as family_of
    from ranef.family.ordinal import Ordinal
    from ranef.family.thresholds import STRUCTURES, Structure
    from ranef.result.options import choice

    found = family_of(family, link)
    if not isinstance(found, Ordinal):
        raise OptionError(f"thresholds= belongs to family='ordinal', not {found.name!r}; leave it out")
    return replace(found, thresholds=cast(Structure, choice("thresholds", thresholds, STRUCTURES)))


def _table_or_model(path: Path) -> Any:
    from ranef.artifact.manifest import MANIFEST_FILE
    from ranef.result.fit import load

    return load(path) if (path / MANIFEST_FILE).is_file() else path


def check_formula(formula: str, data: list[str]) -> None:
    """Catch what a shell does to a formula without quotes, and a file in the formula's place.

    Raises
    ------
    FormulaError, OptionError
    """
    if "~" in formula:
        return
    if formula.lower().endswith(_FILES) or Path(formula).exists():
        meant = next((word for word in data if "~" in word and " " in word), "y ~ x + (1 | g)")
        raise OptionError(f"{formula} is a file, and the formula comes first: ranef fit {quoted(meant)} {formula}")
    raise FormulaError(
        f'{formula!r} is not a formula: it has no ~. Put the whole formula in quotes, such as "y ~ x + (1 | g)"'
    )
