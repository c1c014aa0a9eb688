"""``ranef serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ranef.cli.guard import note
from ranef.errors import OptionError


def serve(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="A saved model.", show_default=False)],
    host: Annotated[str, typer.Option(help="Address to bind to; 0.0.0.0 for the whole network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to bind to.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that share the port.")] = 1,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Ask for the bearer token in this file.", show_default=False),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="STORE",
            help="Keep events here and replay them after a restart: a folder (LMDB), or redis://HOST:PORT/DB.",
            show_default=False,
        ),
    ] = None,
    entity: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Who gets recommendations.", show_default=False)
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="What is recommended.", show_default=False)
    ] = None,
) -> None:
    """Serve a model over HTTP: scores, recommendations, new events. Ctrl-C ends it.

    A new model that is saved to DIR is served as soon as it is there, without a dropped request. A page for
    people is at the address itself, one for programmers at /docs.
    """
    try:
        from ranef.serve.run import run
        from ranef.serve.settings import Settings
    except ModuleNotFoundError as error:
        raise OptionError(f"serving needs the library {error.name!r}: pip install 'ranef[serve]'") from error
    settings = Settings(
        model=str(model),
        store=store,
        token_file=None if token_file is None else str(token_file),
        entity=entity,
        target=target,
    )
    if token_file is None and host not in ("127.0.0.1", "localhost", "::1"):
        note(f"warning: whoever reaches {host}:{port} can ask and send events; --token-file asks for a token")
    run(settings, host, port, workers, note)
