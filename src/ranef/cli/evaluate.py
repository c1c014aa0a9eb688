"""``ranef evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ranef.cli.words import DATA_HELP, in_flags
from ranef.errors import OptionError

_BY = (
    "Column whose levels, such as users, the bootstrap draws with all their rows; rows draws rows. Default: the "
    "largest grouping factor."
)


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="A saved model.", show_default=False)],
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA...", help=f"The test rows. {DATA_HELP}", show_default=False),
    ],
    train: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DATA", help="The training rows, for the baselines mean and biases. Repeatable.", show_default=False
        ),
    ] = None,
    other: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Another saved model to compare with. Repeatable.", show_default=False),
    ] = None,
    by: Annotated[str | None, typer.Option(metavar="COLUMN", help=_BY, show_default=False)] = None,
    clip: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH", help="Move predictions of a Gaussian response into this range: 1,5.", show_default=False
        ),
    ] = None,
    replicates: Annotated[int, typer.Option(help="Bootstrap samples; 0 for no errors.")] = 1000,
    level: Annotated[float, typer.Option(help="Coverage of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the bootstrap samples.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document in place of the table.")] = False,
) -> None:
    """Judge a saved model on test rows: errors, log loss and the like with intervals, beside simpler models."""
    from ranef.evaluate import evaluate_fit
    from ranef.evaluate.document import to_json
    from ranef.result.fit import load

    fits = {"model": load(model)}
    for path in other or []:
        if str(path) in fits:
            raise OptionError(f"--other {path} is given twice")
        fits[str(path)] = load(path)
    found = evaluate_fit(
        fits,
        data,
        by=by,
        clip=None if clip is None else _limits(clip),
        train=train or None,
        replicates=replicates,
        level=level,
        seed=seed,
    )
    if json:
        first = fits["model"]
        print(to_json(found, {"formula": first.formula, "family": first.family, "method": first.method}))
    else:
        print(in_flags(str(found), ("train",)))


def _limits(words: str) -> tuple[float, float]:
    try:
        low, high = (float(word) for word in words.split(","))
    except ValueError:
        raise OptionError(f"--clip takes two numbers, as in --clip 1,5, not {words!r}") from None
    return low, high
