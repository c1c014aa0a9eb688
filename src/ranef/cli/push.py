"""``ranef push``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ranef.cli.guard import note
from ranef.errors import counted


def push(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RECS.parquet|DIR", help="A table of ranef recommend --out, or a saved model.", show_default=False
        ),
    ],
    store: Annotated[
        str,
        typer.Argument(
            metavar="STORE", help="A folder (LMDB), or redis://HOST:PORT/DB[?prefix=NAME].", show_default=False
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the version; default: time and fingerprint.", show_default=False)
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Column whose values are the keys; default: the first.", show_default=False)
    ] = None,
    ttl: Annotated[
        int | None, typer.Option(metavar="SECONDS", help="Let the records expire (Redis).", show_default=False)
    ] = None,
    keep: Annotated[
        int | None, typer.Option(metavar="N", help="Keep the N newest versions; default: all.", show_default=False)
    ] = None,
    use: Annotated[bool, typer.Option(help="Make it the current version.")] = True,
) -> None:
    """Write recommendations, or a model's vectors, into a store: a new version that readers see once it is complete.

    A push that was cut off is resumed by the same command. Every record is read back before readers see the version.
    """
    from ranef.serve.store import open_store
    from ranef.serve.store import push as push_records
    from ranef.serve.store.records import records_of

    def show(count: int) -> None:
        sys.stderr.write(f"\r{count:,} records")

    records = records_of(source, key)
    opened = open_store(store, make=True)
    try:
        terminal = sys.stderr.isatty()
        done = push_records(
            records, opened, name=name, ttl=ttl, keep=keep, use=use, progress=show if terminal else None
        )
        if terminal and done.written:
            sys.stderr.write("\n")
    finally:
        opened.close()
    there = "" if done.written == done.records else f" ({done.records - done.written:,} of them were there)"
    seen = ", which readers see now" if use else f"; readers see it after: ranef store use {store} {done.version}"
    note(f"{counted(done.records, 'record')}{there} in {done.seconds:.2f} s: version {done.version}{seen}")
    for one in done.removed:
        note(f"removed version {one}")
