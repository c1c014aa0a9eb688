"""``ranef simulate``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ranef.cli.words import quoted
from ranef.errors import counted

if TYPE_CHECKING:
    from ranef.data import Simulated


def simulate(
    out: Annotated[Path, typer.Option(metavar="FILE", help="A .parquet file.", show_default=False)],
    rows: Annotated[str, typer.Option(help="As 5000 or 1e6.")] = "10000",
    group: Annotated[
        list[str], typer.Option(metavar="NAME=LEVELS", help="A grouping factor: user=6000. Repeatable, as those below.")
    ] = ["user=1000", "item=200"],  # noqa: B006  # typer copies it
    sd: Annotated[
        list[str] | None, typer.Option(metavar="NAME=SD", help="Of a factor's intercepts, user=0.5; default 1.")
    ] = None,
    slope: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[:X]=SD", help="A random slope: user:age=0.3; the covariate is x if not named."),
    ] = None,
    correlation: Annotated[
        list[str] | None, typer.Option(metavar="NAME=R", help="Among the coefficients of a level.")
    ] = None,
    fixed: Annotated[
        list[str] | None, typer.Option(metavar="X=EFFECT", help='A covariate, age=0.5; or "(Intercept)=3".')
    ] = None,
    binary: Annotated[list[str] | None, typer.Option(metavar="X=EFFECT", help="A two-level covariate.")] = None,
    nested: Annotated[list[str] | None, typer.Option(metavar="INNER=OUTER", help="class=school.")] = None,
    activity: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SPREAD", help="How uneven the levels' rows are: user=1.2 or item=zipf:1.1."),
    ] = None,
    family: Annotated[str, typer.Option(help="Distribution of the response.")] = "gaussian",
    residual_sd: Annotated[float | None, typer.Option(help="Default 1.", show_default=False)] = None,
    trials: Annotated[int | None, typer.Option(help="Of a binomial response.", show_default=False)] = None,
    threshold: Annotated[list[float] | None, typer.Option(help="Of an ordinal response.")] = None,
    ids: Annotated[str, typer.Option(help="Levels as int or text.")] = "int",
    seed: Annotated[int, typer.Option(help="The same seed gives the same rows.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the truth as one JSON document.")] = False,
) -> None:
    """Simulate mixed-model data with a known truth."""
    import msgspec

    from ranef.data.flags import simulate_from_flags

    made = simulate_from_flags(
        rows,
        group,
        out,
        sd=sd or (),
        slope=slope or (),
        correlation=correlation or (),
        fixed=fixed or (),
        binary=binary or (),
        nested=nested or (),
        activity=activity or (),
        family=family,
        residual_sd=residual_sd,
        trials=trials,
        threshold=threshold or (),
        ids=ids,
        seed=seed,
    )
    if json:
        document = {
            "formula": made.formula,
            "family": made.family,
            "rows": made.rows,
            "file": str(out),
            **made.truth.document(),
        }
        print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    else:
        print("\n".join(_lines(made, out)))


def _lines(made: Simulated, out: Path) -> list[str]:
    import numpy as np

    truth = made.truth
    lines = [f"{counted(made.rows, 'row')} in {out}, simulated from", ""]
    lines += [f"{'effect':<32}{'levels':>10}{'Std.Dev.':>12}", "Random:"]
    for name, covariance in truth.covariance.items():
        for coefficient, sd in zip(truth.coefficients[name], np.sqrt(np.diag(covariance)), strict=True):
            lines.append(f"  {f'{coefficient} | {name}':<30}{len(truth.effects[name]):>10,}{sd:>12.4g}")
    lines += [f"  {'Residual':<30}{'':>10}{truth.sigma:>12.4g}"] if truth.sigma is not None else []
    lines += [f"{'Fixed:':<42}{'Value':>12}"]
    lines += [f"  {name:<40}{value:>12.4g}" for name, value in truth.beta.items()]
    lines += [f"  {f'threshold {i + 1}':<40}{value:>12.4g}" for i, value in enumerate(truth.thresholds)]
    family = "" if made.family == "gaussian" else f" --family {made.family}"
    lines += ["", "levels: those that may occur; a fit counts the ones that its rows have"] if truth.covariance else []
    return [*lines, "", f"next: ranef fit {quoted(made.formula)} {shlex.quote(str(out))}{family}"]
