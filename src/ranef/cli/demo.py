"""``ranef demo``: a first fit, from the data to a saved model that predicts the same to the last bit."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ranef.cli.words import quoted
from ranef.errors import DataError, OptionError, counted

if TYPE_CHECKING:
    from ranef.design.build import Design
    from ranef.result.fit import Fit

SHARE, SEED = 0.1, 1
EXTREMES = 3


@dataclass(frozen=True)
class Study:
    """The data of a demo and the model for them.

    Attributes
    ----------
    about : tuple of str
        Lines that say what the data are.
    table : pyarrow.Table
        The columns of the formula.
    formula, method : str
    published : float or None
        -2 log-likelihood of this model in the literature.
    again : str
        The data as a command line names them.
    """

    about: tuple[str, ...]
    table: Any
    formula: str
    method: str
    published: float | None
    again: str


def demo(
    data: Annotated[
        str | None, typer.Option(metavar="PATH", help="Your own data, with --formula; default: InstEval.")
    ] = None,
    formula: Annotated[str | None, typer.Option(help="The model for --data.", show_default=False)] = None,
    dir: Annotated[Path, typer.Option(metavar="DIR", help="Where the model is saved.")] = Path("ranef-demo"),
) -> None:
    """See it work: fit, compare with published numbers, predict held-out rows, save and load."""
    from ranef.artifact import check_target
    from ranef.design.build import build_design
    from ranef.formula import parse
    from ranef.result.front import fit
    from ranef.table import open_source

    if (data is None) != (formula is None):
        raise OptionError("--data and --formula go together: give both, or neither for the data that come with ranef")
    check_target(dir)
    study = _insteval(dir) if data is None or formula is None else _own(data, formula)
    design = build_design(parse(study.formula), open_source(study.table))
    if not design.groups:
        raise OptionError("the demo is about random effects: the formula needs one, such as (1 | group)")

    _head(1, "The data")
    _say(*study.about, *_describe(design))
    _head(2, "The fit")
    fitted = fit(study.formula, study.table, method=study.method)  # type: ignore[arg-type]
    print(fitted)
    if study.published is not None:
        _compare(fitted.deviance, study.published)
    _head(3, "Rows it has not seen")
    _predict_held_out(study, design)
    _head(4, "The effects")
    _show_effects(fitted, design)
    _head(5, "Save and load")
    _round_trip(fitted, study.table, dir)
    _head(6, "Next")
    _say(*_next(study, dir))


def _insteval(directory: Path) -> Study:
    from ranef.data import insteval

    about = (
        "InstEval: students (s) of ETH Zurich rate their lecturers (d), 1 to 5; with the department (dept)",
        "and whether the lecture was a service for another one. Anonymised; from the R package lme4 (Bates,",
        "Maechler, Bolker & Walker 2015, Journal of Statistical Software 67).",
    )
    return Study(
        about=about,
        table=insteval(),
        formula="y ~ 1 + service + (1 | s) + (1 | d) + (1 | dept)",
        method="ml",
        published=237721.7688,
        again="",
    )


def _own(data: str, formula: str) -> Study:
    import pyarrow as pa

    from ranef.cli.fit import check_formula
    from ranef.formula import check_columns, parse, variables
    from ranef.table import open_source

    check_formula(formula, [data])
    parsed = parse(formula)
    source = open_source(data)
    check_columns(parsed, source.columns)
    try:
        table = pa.Table.from_batches(list(source.batches(variables(parsed))))
    except pa.ArrowInvalid as error:
        raise DataError(f"{data}: {error}") from error
    return Study((data,), table, formula, "reml", None, shlex.quote(data))


def _describe(design: Design) -> list[str]:
    named = zip(design.spec.groups, design.groups, strict=True)
    groups = ", ".join(f"{spec.name} ({counted(len(group.levels), 'level')})" for spec, group in named)
    y, response = design.y, design.spec.response_label
    lines = [
        f"{counted(len(y), 'row')}; {response} from {y.min():g} to {y.max():g}, mean {y.mean():.4g}, sd {y.std():.4g}",
        f"groups: {groups}",
    ]
    dropped = design.dropped.rows
    return lines + ([f"{counted(dropped, 'row')} left out: a value is missing"] if dropped else [])


def _compare(deviance: float, published: float) -> None:
    _say(
        f"-2 log-likelihood: {deviance:.4f}; published {published:.4f} (MixedModels.jl, lme4); "
        f"difference {abs(deviance - published):.1e}"
    )


def _predict_held_out(study: Study, design: Design) -> None:
    import numpy as np

    from ranef.cli.holdout import averages, hold_out
    from ranef.evaluate import rmse
    from ranef.result.front import fit

    used = np.arange(study.table.num_rows) if design.kept is None else np.flatnonzero(design.kept)
    held = hold_out(len(used), SHARE, SEED)
    train, test = study.table.take(used[~held]), study.table.take(used[held])
    fitted = fit(study.formula, train, method=study.method)  # type: ignore[arg-type]
    groups = design.groups[::-1]  # fewest levels first: the outer factor before the one nested in it
    y, names = design.y[held], ", ".join(spec.name for spec in design.spec.groups[::-1])
    _say(
        f"{len(y):,} random rows held out, the model fitted to the other {len(train):,} in {fitted.seconds:.2f} s.",
        "Root mean squared error of the predictions for the held-out rows:",
        "",
        f"  {'the mean':<58}{rmse(y, np.full(len(y), design.y[~held].mean())):>9.4f}",
        f"  {f'plain averages, one factor after the other ({names})':<58}"
        f"{rmse(y, averages(design.y, [group.codes for group in groups], held)):>9.4f}",
        f"  {'ranef':<58}{rmse(y, fitted.predict(test)):>9.4f}",
    )


def _show_effects(fitted: Fit, design: Design) -> None:
    """The highest and lowest levels of the factor that varies most."""
    import numpy as np

    spread = [group.covariance[0, 0] for group in fitted.model.groups]
    which = int(np.argmax(spread))
    spec, model = fitted.model.spec.groups[which], fitted.model.groups[which]
    counts = np.bincount(design.groups[which].codes, minlength=len(model.levels))
    effect, sd = model.modes[:, 0], np.sqrt(model.conditional[:, 0, 0])
    order = np.argsort(-effect, kind="stable")
    few = min(EXTREMES, len(order) // 2)
    lines = [
        f"{spec.coefficients[0]} by {spec.name}, the factor that varies most. The fewer rows, the closer to 0:",
        "",
        f"  {spec.name:<24}{'effect':>10}{'sd':>10}{'rows':>10}",
    ]
    for place in [*order[:few], *order[len(order) - few :]]:
        lines.append(f"  {model.levels.labels[place]:<24}{effect[place]:>+10.3f}{sd[place]:>10.3f}{counts[place]:>10,}")
    lines.insert(3 + few, f"  {'...':<24}")
    _say(*lines)


def _round_trip(fitted: Fit, table: Any, directory: Path) -> None:
    from ranef.result.fit import load

    fitted.save(directory)
    before, after = fitted.predict(table), load(directory).predict(table)
    size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    _say(f"saved to {directory} ({size / 1e3:,.0f} kB) and loaded again")
    if before.tobytes() == after.tobytes():
        _say(f"predictions of all {len(before):,} rows: identical to the last bit")
    else:
        _say(f"predictions differ in {int((before != after).sum()):,} of {len(before):,} rows: please report this")


def _next(study: Study, directory: Path) -> list[str]:
    model = shlex.quote(str(directory))
    if study.again:
        return [
            f"  ranef show {model}",
            f"  ranef predict {model} {study.again} --interval prediction --out predictions.csv",
            f"  ranef fit {quoted(study.formula)} {study.again} --json",
        ]
    return [
        f"  ranef show {model}",
        "  ranef simulate --rows 1e6 --out million.parquet",
        '  ranef fit "y ~ 1 + (1 | user) + (1 | item)" million.parquet --out million',
        "  ranef predict million million.parquet --interval prediction --out predictions.parquet",
        '  ranef demo --data YOUR.csv --formula "y ~ x + (1 | g)"',
    ]


def _head(number: int, text: str) -> None:
    print()
    typer.secho(f"{number}. {text}", bold=True)


def _say(*lines: str) -> None:
    print("\n".join(lines))
