"""``ranef evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ranef.cli.words import DATA_HELP, in_flags
from ranef.errors import OptionError

if TYPE_CHECKING:
    from ranef.result.fit import Fit
    from ranef.result.implicit_fit import ImplicitFit

_BY = (
    "Column whose levels, such as users, the bootstrap draws with all their rows; rows draws rows. Default: the "
    "largest grouping factor."
)
_TRAIN = (
    "The training rows, for the baselines mean and biases; of implicit feedback the training pairs, which are needed. "
    "Repeatable."
)
_FOLD_IN = (
    "Of implicit feedback: pairs that are known of the test users, never recommended to them; default: --train. "
    "Repeatable."
)
_METRIC = (
    "Of implicit feedback: ndcg@100 and the like, of recall, precision, ndcg, map, mrr, coverage, novelty. Repeatable."
)


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="A saved model.", show_default=False)],
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA...", help=f"The test rows. {DATA_HELP}", show_default=False),
    ],
    train: Annotated[list[str] | None, typer.Option(metavar="DATA", help=_TRAIN, show_default=False)] = None,
    fold_in: Annotated[list[str] | None, typer.Option(metavar="DATA", help=_FOLD_IN, show_default=False)] = None,
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
    metric: Annotated[list[str] | None, typer.Option(help=_METRIC, show_default=False)] = None,
    replicates: Annotated[int, typer.Option(help="Bootstrap samples; 0 for no errors.")] = 1000,
    level: Annotated[float, typer.Option(help="Coverage of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the bootstrap samples.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document in place of the table.")] = False,
) -> None:
    """Judge a saved model on test rows: errors, log loss and the like with intervals, beside simpler models."""
    from ranef.evaluate import evaluate_fit, evaluate_ranking, ranking_data
    from ranef.evaluate.document import to_json
    from ranef.evaluate.ranking import DEFAULT
    from ranef.result.fit import load
    from ranef.result.implicit_fit import ImplicitFit

    fits = {"model": load(model)}
    for path in other or []:
        if str(path) in fits:
            raise OptionError(f"--other {path} is given twice")
        fits[str(path)] = load(path)
    first = fits["model"]
    implicit = isinstance(first, ImplicitFit)
    for flag, given, of_pairs in (
        ("--by", by, False),
        ("--clip", clip, False),
        ("--fold-in", fold_in, True),
        ("--metric", metric, True),
    ):
        if given and implicit != of_pairs:
            raise OptionError(f"{flag} is for {'implicit feedback' if of_pairs else 'responses'}, not for this model")
    if isinstance(first, ImplicitFit):
        if not train:
            raise OptionError(
                "a model of implicit feedback is judged by rankings, which need the training pairs: give --train"
            )
        spec = first.model.spec
        found = evaluate_ranking(
            _of_pairs(fits),
            ranking_data(train, data, spec.user, spec.item, fold_in or None),
            metrics=metric or DEFAULT,
            replicates=replicates,
            level=level,
            seed=seed,
        )
    else:
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
        print(to_json(found, {"formula": first.formula, "family": first.family, "method": first.method}))
    else:
        print(in_flags(str(found), ("train",)))


def _of_pairs(fits: dict[str, Fit]) -> dict[str, ImplicitFit]:
    from ranef.result.implicit_fit import ImplicitFit

    found = {name: fit for name, fit in fits.items() if isinstance(fit, ImplicitFit)}
    other = next((name for name in fits if name not in found), None)
    if other is not None:
        raise OptionError(f"--other {other} is no model of implicit feedback, as the first is: they cannot be compared")
    return found


def _limits(words: str) -> tuple[float, float]:
    try:
        low, high = (float(word) for word in words.split(","))
    except ValueError:
        raise OptionError(f"--clip takes two numbers, as in --clip 1,5, not {words!r}") from None
    return low, high
