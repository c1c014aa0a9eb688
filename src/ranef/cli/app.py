"""The commands of ``ranef``. Importing them is quick: each imports the library when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from ranef.cli.demo import demo
from ranef.cli.evaluate import evaluate
from ranef.cli.fit import fit
from ranef.cli.guard import guarded
from ranef.cli.predict import predict
from ranef.cli.push import push
from ranef.cli.recommend import recommend
from ranef.cli.serve import serve
from ranef.cli.show import show
from ranef.cli.simulate import simulate
from ranef.cli.store import store

app = typer.Typer(
    name="ranef",
    help="Mixed models: lme4's formulas and numbers for large data.",
    epilog="New here? Start with: ranef demo",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from ranef import __version__

        print(f"ranef {__version__}")
        raise typer.Exit(0)


@app.callback()
def _top(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options that stand before the command; without one, the help."""
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


for _command in (fit, show, predict, evaluate, recommend, push, serve, simulate, demo):
    app.command()(guarded(_command))
app.add_typer(store)
