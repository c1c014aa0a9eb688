"""Two stages against one: a mixed model whose residuals are factorised after, or everything fitted together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import ranef
from benchmarks.latent import splits
from benchmarks.latent.models import BIASES, fitted, predicted
from benchmarks.latent.score import difference, rmse
from benchmarks.latent.splits import Split
from benchmarks.studies.page import Bar, Section, table

RANK = 16
PAIR = f"latent(user_id, item_id, rank={RANK})"
SIDES = f"latent(user_id + occupation + gender + age_group, item_id + bag(genres), rank={RANK})"
ATTRIBUTES = f"{BIASES} + (1 | occupation) + (1 | bag(genres))"


@dataclass(frozen=True)
class Problem:
    """Rows, a mixed model of them, and latent terms for what it leaves."""

    rows: Callable[[], Split]
    mixed: str
    terms: str


PROBLEMS: Mapping[str, Problem] = {
    "ml-1m-random": Problem(lambda: next(splits.ml1m("random")), BIASES, PAIR),
    "ml-1m-random, attributes": Problem(lambda: next(splits.ml1m("random")), ATTRIBUTES, SIDES),
    "ml-1m-time": Problem(lambda: next(splits.ml1m("time")), BIASES, PAIR),
    "ml-100k, fold 1": Problem(lambda: next(splits.ml100k()), BIASES, PAIR),
    "goodbooks": Problem(lambda: next(splits.goodbooks()), BIASES, PAIR),
}


def run() -> Section:
    """Fit both ways, and the mixed model alone."""
    bars, lines = [], []
    for name, problem in PROBLEMS.items():
        split = problem.rows()
        mixed, first = _timed(partial(fitted, problem.mixed, split, {}))
        two, second = _timed(partial(mixed.extend, problem.terms))
        together, both = _timed(partial(fitted, f"{problem.mixed} + {problem.terms}", split, {}))
        fits = {"mixed model": mixed, "two stages": two, "together": together}
        seconds = {"mixed model": first, "two stages": first + second, "together": both}
        values = {way: predicted(fit, split) for way, fit in fits.items()}
        for way, fit in fits.items():
            gain = "" if way == "together" else str(difference(split.y, values[way], values["together"]))
            row = [name, way, f"{seconds[way]:.1f}", f"{_sd(fit, 'user_id'):.3f}", f"{_sd(fit, 'item_id'):.3f}"]
            lines.append([*row, f"{fit.sigma:.3f}", f"{rmse(split.y, values[way]):.4f}", gain])
        gap = difference(split.y, values["together"], values["two stages"])
        bars.append(Bar(f"together less two stages in paired se, {name}", gap.value / gap.se, -float("inf"), 2.0, 1))
    body = [
        f"Rank {RANK}, variational Bayes: `fit.extend(terms)` after the mixed model, or a formula with both. Standard",
        "deviations of the users' and items' effects, and of the residuals; clipped RMSE on the test rows, and its",
        "difference to that of the fit of everything together, with its paired standard error. Seconds of two stages",
        "are of both.",
        "",
        *table(["", "", "seconds", "sd users", "sd items", "sigma", "clipped RMSE", "difference (se)"], lines),
    ]
    return Section("seeds 0", bars, body)


def _timed(fit: Callable[[], ranef.Fit]) -> tuple[ranef.Fit, float]:
    begun = time.perf_counter()
    return fit(), time.perf_counter() - begun


def _sd(fit: ranef.Fit, group: str) -> float:
    (row,) = (one for one in fit.model.varcorr if one.grp == group)
    return row.sdcor
