"""Which rank, and few long chains or many short ones: nine tenths of the training rows, judged on the other tenth."""

from __future__ import annotations

import time
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
    """Candidates for ratings alone, and with history and attributes."""

    alone: Sequence[Chosen]
    everything: Sequence[Chosen]


CANDIDATES: Mapping[str, Tried] = {
    "ml-100k": Tried(
        (Chosen(8, 40, 200), Chosen(8, 4, 16, 12), Chosen(16, 4, 16, 12), Chosen(32, 4, 16, 12)),
        (Chosen(16, 40, 200), Chosen(8, 4, 16, 12), Chosen(16, 4, 16, 12), Chosen(32, 4, 16, 12)),
    ),
    "ml-1m-random": Tried(
        (Chosen(16, 45, 255, 4), Chosen(32, 45, 255), Chosen(64, 37, 212), Chosen(32, 3, 22, 12)),
        (Chosen(16, 18, 102), Chosen(16, 30, 70)),
    ),
    "goodbooks": Tried(
        (Chosen(4, 4, 16, 6), Chosen(16, 4, 16, 6)),
        (Chosen(16, 10, 50), Chosen(8, 4, 16, 3)),
    ),
}


@dataclass(frozen=True)
class Judged:
    """One candidate: of which kind of model, seconds of the fit, clipped RMSE on the rows held out."""

    kind: str
    chosen: Chosen
    seconds: float
    error: float

    def cells(self) -> list[object]:
        one = self.chosen
        return [self.kind, one.rank, one.chains, one.warmup, one.draws, f"{self.seconds:.0f}", f"{self.error:.4f}"]


def run(name: str) -> Section:
    """Every candidate, on the first part of the split."""
    tried = CANDIDATES[name]
    split = held_out(next(iter(PROBLEMS[name].parts())))
    kinds: dict[str, tuple[Sequence[Chosen], Callable[[int], str]]] = {
        ALONE: (tried.alone, models.alone),
        EVERYTHING: (tried.everything, lambda rank: models.everything(split, rank)),
    }
    found = []
    for kind, (candidates, formula) in kinds.items():
        for one in candidates:
            begun = time.perf_counter()
            fit = models.fitted(formula(one.rank), split, one.options)
            seconds = time.perf_counter() - begun
            found.append(Judged(kind, one, seconds, rmse(split.y, models.predicted(fit, split))))
            print(name, *found[-1].cells(), flush=True)
    return section(name, split, found)


def section(name: str, split: Split, found: Sequence[Judged]) -> Section:
    """What was found."""
    best = [min(one.error for one in found if one.kind == kind) for kind in (ALONE, EVERYTHING)]
    bars = [Bar("gain by history and attributes, RMSE", best[0] - best[1], 0.0, float("inf"), 4)]
    body = [
        f"{split.train.num_rows:,} rows to fit, {len(split.y):,} to judge, all of the training part"
        f"{' of the first fold' if name == 'ml-100k' else ''}; no test row",
        "takes part. Gibbs. Draws of one chain are alike, those of chains from different starts are not: as many",
        "sweeps predict better in short chains, and the more chains, the better.",
        "",
        *table(["", "rank", "chains", "warm-up", "draws", "seconds", "clipped RMSE"], [one.cells() for one in found]),
    ]
    return Section(f"rows' seed {SEED}, fits' seed 0", bars, body)


def held_out(split: Split) -> Split:
    """The training rows alone, a tenth of them in the place of the test rows."""
    rows = split.train.num_rows
    judged = np.random.default_rng(SEED).permutation(rows) < rows // 10
    train, test = (split.train.filter(pa.array(some)) for some in (~judged, judged))
    return Split(train, test, split.users, split.items)
