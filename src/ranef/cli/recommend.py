"""``ranef recommend``."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from ranef.cli.guard import note
from ranef.cli.output import check_out, write_csv
from ranef.cli.words import TABLE_HELP, tables_of
from ranef.errors import OptionError, counted


def recommend(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="A saved model.", show_default=False)],
    user: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="A user. Repeatable.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All users of the fit.")] = False,
    k: Annotated[int, typer.Option("-k", "--count", metavar="K", help="Items a user.")] = 10,
    exclude: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A table of pairs that are not to be recommended; or the word seen: those of the fit, of a model "
            "that was saved with them.",
            show_default=False,
        ),
    ] = None,
    among: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="The only items to recommend. Repeatable.")
    ] = None,
    deny: Annotated[list[str] | None, typer.Option(metavar="ID", help="Never this item. Repeatable.")] = None,
    table: Annotated[list[str] | None, typer.Option(metavar="KEY=FILE", help=TABLE_HELP)] = None,
    context: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="A value that all pairs have, such as hour=8. Repeatable."),
    ] = None,
    entity: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="What gets recommendations.", show_default=False)
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="What is recommended.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=".parquet or .csv; default: CSV on stdout.", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document in place of the table.")] = False,
) -> None:
    """Recommend items to users: the K with the highest scores, exactly, best first.

    The rows of a user stand together: user, rank, item, score, and whether the fit had the user and the item. A file is
    written batch by batch.
    """
    from ranef.result.fit import load
    from ranef.table import table_writer

    if every == bool(user):
        raise OptionError("say for whom: --user ID, once or several times, or --all")
    if json and out is not None:
        raise OptionError("--json prints on stdout; leave it out, or --out")
    begun = time.perf_counter()
    check_out(out)
    parts = load(model).recommendation_parts(
        None if every else user,
        k,
        among=among or None,
        deny=deny or None,
        exclude=exclude,
        tables=tables_of(table),
        context=_context(context),
        entity=entity,
        target=target,
    )
    users = rows = 0
    if json:
        print(_document(parts))
        return
    if out is None:
        for number, part in enumerate(parts):
            write_csv(part, header=number == 0)
        return
    with table_writer(out) as write:
        for part in parts:
            write(part)
            rank = part["rank"]
            users, rows = users + int((rank == 1).sum()), rows + len(rank)
    seconds = time.perf_counter() - begun
    note(
        f"{counted(rows, 'recommendation')} for {counted(users, 'user')} in {seconds:.2f} s, "
        f"{users / max(seconds, 1e-9):,.0f} users a second, to {out}"
    )


def _context(words: Iterable[str] | None) -> dict[str, Any] | None:
    """The values of ``COLUMN=VALUE`` words: numbers where they are, else text."""
    found: dict[str, Any] = {}
    for word in words or ():
        name, sign, value = word.partition("=")
        if not (sign and name and value):
            raise OptionError(f"--context {word}: write COLUMN=VALUE, such as hour=8")
        found[name] = _number(value)
    return found or None


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _document(parts: Iterable[dict[str, Any]]) -> str:
    """``{"recommendations": [{column: value, ...}, ...]}``."""
    import msgspec
    import pyarrow as pa

    from ranef.table import to_library

    rows: list[dict[str, Any]] = []
    for part in parts:
        arrow: pa.Table = to_library(part, "pyarrow")
        rows += arrow.to_pylist()
    return msgspec.json.encode({"recommendations": rows}).decode()
