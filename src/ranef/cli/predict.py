"""``ranef predict``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from ranef.cli.guard import note
from ranef.cli.output import check_out, write_csv
from ranef.cli.words import DATA_HELP, TABLE_HELP, tables_of
from ranef.errors import OptionError, counted


def predict(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="A saved model.", show_default=False)],
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA...", help=DATA_HELP, show_default=False),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=".parquet or .csv; default: CSV on stdout.", show_default=False),
    ] = None,
    type: Annotated[
        str,
        typer.Option(
            help="response, link, rating (the nearest one), class or probabilities (a column for each category of the "
            "response)."
        ),
    ] = "response",
    interval: Annotated[
        str | None, typer.Option(help="confidence or prediction: adds the columns lwr and upr.")
    ] = None,
    level: Annotated[float, typer.Option(help="Coverage of the interval.")] = 0.95,
    new_levels: Annotated[
        str, typer.Option(help="Levels not seen in fitting: population (an average level) or raise.")
    ] = "population",
    include: Annotated[
        list[str] | None, typer.Option(help="Only these parts: fixed, a grouping factor or a term. Repeatable.")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="All parts but these. Repeatable.")] = None,
    table: Annotated[list[str] | None, typer.Option(metavar="KEY=FILE", help=TABLE_HELP)] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Copy this column of the data, such as a key. Repeatable."),
    ] = None,
) -> None:
    """Predict the rows of DATA, one row out for each row in, in their order.

    The output has the predictions alone: the column fit, with --interval also lwr and upr, with --type probabilities
    a column for each category. Keys are copied beside them by name: --keep user --keep item.
    """
    from ranef.result.fit import load
    from ranef.result.prediction_parts import prediction_parts
    from ranef.result.predictions import prediction_columns
    from ranef.table import open_source, table_writer

    begun = time.perf_counter()
    check_out(out)
    fitted = load(model)
    copied = _checked(keep or [], prediction_columns(fitted.model, type, interval is not None))
    parts = prediction_parts(
        fitted,
        open_source(data),
        copied,
        type,
        new_levels=new_levels,
        interval=interval,
        level=level,
        include=include or None,
        exclude=exclude or None,
        tables=tables_of(table),
    )
    rows = lacking = 0
    with nullcontext(_to_stdout()) if out is None else table_writer(out) as write:
        for columns, missing in parts:
            write(columns)
            rows, lacking = rows + len(next(iter(columns.values()))), lacking + missing
    without = f", {lacking:,} of them without a prediction" if lacking else ""
    where = "" if out is None else f" to {out}"
    seconds = time.perf_counter() - begun
    rate = f", {60 * rows / seconds / 1e6:,.1f} million rows a minute" if rows >= 1_000_000 else ""
    note(f"{counted(rows, 'row')}{without} in {seconds:.2f} s{where}{rate}")


def _to_stdout() -> Callable[[Mapping[str, Any]], None]:
    """Pieces of a table as CSV, the names once."""
    begun = False

    def write(columns: Mapping[str, Any]) -> None:
        nonlocal begun
        write_csv(columns, header=not begun)
        begun = True

    return write


def _checked(keep: Sequence[str], taken: Sequence[str]) -> list[str]:
    """The columns to copy.

    Raises
    ------
    OptionError
    """
    for name in taken:
        if name in keep:
            raise OptionError(f"--keep {name}: the predictions have this name; rename the column in the data first")
    return list(dict.fromkeys(keep))
