"""Which rank, and few long chains or many short ones: nine tenths of the training rows, judged on the other tenth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from benchmarks.latent import models
from benchmarks.latent.ratings import PROBLEMS, Chosen
from benchmarks.latent.score import rmse
from benchmarks.latent.splits import Split
from benchmarks.studies.page import Bar, Section, table

SEED = 11
ALONE, EVERYTHING = "ratings alone", "history and attributes"


@dataclass(frozen=True)
class Tried:
    """Candidates for ratings alone, and with history and attributes; on how many slices, one after the other."""

    alone: Sequence[Chosen]
    everything: Sequence[Chosen]
    slices: int = 1


CANDIDATES: Mapping[str, Tried] = {
    "ml-100k": Tried(
        (Chosen(8, 40, 200), Chosen(8, 4, 16, 12), Chosen(16, 4, 16, 12), Chosen(32, 4, 16, 12)),
        (Chosen(8, 4, 16, 12), Chosen(16, 4, 16, 12)),
        slices=3,
    ),
    "ml-1m-random": Tried(
        (Chosen(32, 40, 200), Chosen(16, 4, 16, 12), Chosen(32, 4, 16, 12), Chosen(32, 4, 16, 24)),
        (Chosen(16, 4, 16, 8), Chosen(32, 4, 16, 8), Chosen(32, 8, 24, 12)),
    ),
    "ml-1m-time": Tried(
        (Chosen(16, 4, 16, 12), Chosen(32, 4, 16, 12)),
        (Chosen(16, 4, 16, 8), Chosen(32, 4, 16, 8)),
    ),
    "goodbooks": Tried(
        (Chosen(4, 4, 16, 6), Chosen(16, 4, 16, 6), Chosen(16, 4, 16, 12)),
        (Chosen(8, 4, 16, 6), Chosen(16, 4, 16, 6)),
    ),
}


@dataclass(frozen=True)
class Judged:
    """One candidate: of which kind of model, seconds of the fit, clipped RMSE on the rows held out."""

    kind: str
    chosen: Chosen
    seconds: float
    error: float

    def cells(self, best: bool = False) -> list[object]:
        one, error = self.chosen, f"{self.error:.4f}"
        numbers = [one.rank, one.chains, one.warmup, one.draws, f"{self.seconds:.0f}"]
        return [self.kind, *numbers, f"**{error}**" if best else error]


def run(name: str) -> Section:
    """Every candidate, on the first part of the split."""
    tried = CANDIDATES[name]
    whole = next(iter(PROBLEMS[name].parts()))
    splits = [held_out(whole, SEED + number) for number in range(tried.slices)]
    kinds: dict[str, tuple[Sequence[Chosen], Callable[[int], str]]] = {
        ALONE: (tried.alone, models.alone),
        EVERYTHING: (tried.everything, lambda rank: models.everything(whole, rank)),
    }
    found = []
    for kind, (candidates, formula) in kinds.items():
        for one in candidates:
            seconds, errors = [], []
            for split in splits:
                fit = models.measured(formula(one.rank), split, one.options)
                seconds.append(fit.seconds)
                errors.append(rmse(split.y, fit.predicted))
            found.append(Judged(kind, one, float(np.mean(seconds)), float(np.mean(errors))))
            print(name, *found[-1].cells(), flush=True)
    return section(name, splits, found)


def section(name: str, splits: Sequence[Split], found: Sequence[Judged]) -> Section:
    """What was found."""
    best = [min((one for one in found if one.kind == kind), key=lambda one: one.error) for kind in (ALONE, EVERYTHING)]
    bars = [Bar("gain by history and attributes, RMSE", best[0].error - best[1].error, 0.0, float("inf"), 4)]
    several = len(splits) > 1
    body = [
        f"{splits[0].train.num_rows:,} rows to fit, {len(splits[0].y):,} to judge, all of the training part"
        f"{' of the first fold' if name == 'ml-100k' else ''}; no test row",
        f"takes part.{f' Means over {len(splits)} such slices.' if several else ''} Gibbs; draws of one chain are",
        "alike, those of chains from different starts are not. The least error of each kind is in bold: the runs on",
        "the test rows have its rank.",
        "",
        *table(
            ["", "rank", "chains", "warm-up", "draws", "seconds", "clipped RMSE"],
            [one.cells(one in best) for one in found],
        ),
    ]
    seeds = f"seeds {SEED} to {SEED + len(splits) - 1}" if several else f"seed {SEED}"
    return Section(f"rows' {seeds}, fits' seed 0", bars, body)


def held_out(split: Split, seed: int = SEED) -> Split:
    """The training rows alone, a tenth of them in the place of the test rows."""
    rows = split.train.num_rows
    judged = np.random.default_rng(seed).permutation(rows) < rows // 10
    train, test = (split.train.filter(pa.array(some)) for some in (~judged, judged))
    return Split(train, test, split.users, split.items)
