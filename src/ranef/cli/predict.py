"""``ranef predict``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ranef.cli.guard import note
from ranef.cli.output import check_out, write_csv
from ranef.cli.words import DATA_HELP, TABLE_HELP, tables_of
from ranef.errors import OptionError, counted

if TYPE_CHECKING:
    from ranef.table import Source


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
    import numpy as np

    from ranef.result.fit import load
    from ranef.result.predictions import prediction_columns
    from ranef.table import open_source, write_table

    begun = time.perf_counter()
    check_out(out)
    fitted = load(model)
    source = replace(open_source(data), library="dict")
    kept = _kept(source, keep or [], prediction_columns(fitted.model, type, interval is not None))
    found = fitted.predict(
        source,
        type=type,  # type: ignore[arg-type]  # the library checks these, with a better message
        new_levels=new_levels,  # type: ignore[arg-type]
        interval=interval,  # type: ignore[arg-type]
        level=level,
        include=include or None,
        exclude=exclude or None,
        tables=tables_of(table),
    )
    predicted = found if isinstance(found, dict) else {"fit": found}
    columns = {**kept, **predicted}
    if out is None:
        write_csv(columns)
    else:
        write_table(out, columns)
    first = next(iter(predicted.values()))
    lacking = int(np.sum(np.isnan(first))) if first.dtype.kind == "f" else sum(one is None for one in first.tolist())
    without = f", {lacking:,} of them without a prediction" if lacking else ""
    where = "" if out is None else f" to {out}"
    note(f"{counted(len(first), 'row')}{without} in {time.perf_counter() - begun:.2f} s{where}")


def _kept(source: Source, keep: Sequence[str], taken: Sequence[str]) -> dict[str, Any]:
    """The columns to copy, each as an Arrow array of plain values."""
    import pyarrow as pa

    for name in taken:
        if name in keep:
            raise OptionError(f"--keep {name}: the predictions have this name; rename the column in the data first")
    if not keep:
        return {}
    names = list(dict.fromkeys(keep))
    chunks: dict[str, list[Any]] = {name: [] for name in names}
    for batch in source.batches(names):
        for name, column in zip(names, batch.columns, strict=True):
            chunks[name].append(column.dictionary_decode() if pa.types.is_dictionary(column.type) else column)
    return {name: pa.chunked_array(chunks[name]) for name in names}
