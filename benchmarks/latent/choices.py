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


@dataclass(frozen=True)
class Tried:
    """Candidates for ratings alone, and with history and attributes."""

    alone: Sequence[Chosen]
    everything: Sequence[Chosen]


def _short(chains: int, *ranks: int) -> tuple[Chosen, ...]:
    return tuple(Chosen(rank, 4, 16, chains) for rank in ranks)


CANDIDATES: Mapping[str, Tried] = {
    "ml-100k": Tried(
        (Chosen(8, 40, 200), *_short(12, 8, 16, 32)),
        (Chosen(16, 40, 200), *_short(12, 8, 16, 32)),
    ),
    "ml-1m-random": Tried(
        (Chosen(16, 40, 200), Chosen(32, 40, 200), *_short(12, 16, 32, 64)),
        (Chosen(16, 10, 50), *_short(3, 16, 32)),
    ),
    "goodbooks": Tried(_short(6, 4, 16), (Chosen(16, 10, 50), *_short(3, 8, 16, 32))),
}


def run(name: str) -> Section:
    """Every candidate, on the first part of the split."""
    tried = CANDIDATES[name]
    split = held_out(next(iter(PROBLEMS[name].parts())))
    kinds: dict[str, tuple[Sequence[Chosen], Callable[[int], str]]] = {
        "ratings alone": (tried.alone, models.alone),
        "history and attributes": (tried.everything, lambda rank: models.everything(split, rank)),
    }
    best, lines = [], []
    for kind, (candidates, formula) in kinds.items():
        scores = []
        for one in candidates:
            begun = time.perf_counter()
            fit = models.fitted(formula(one.rank), split, one.options)
            seconds = time.perf_counter() - begun
            scores.append(rmse(split.y, models.predicted(fit, split)))
            lines.append([kind, one.rank, one.chains, one.warmup, one.draws, f"{seconds:.0f}", f"{scores[-1]:.4f}"])
            print(name, *lines[-1], flush=True)
        best.append(min(scores))
    bars = [Bar("gain by history and attributes, RMSE", best[0] - best[1], 0.0, float("inf"), 4)]
    body = [
        f"{split.train.num_rows:,} rows to fit, {len(split.y):,} to judge, all of the training part"
        f"{' of the first fold' if name == 'ml-100k' else ''}; no test row",
        "takes part. Gibbs. Draws of one chain are alike, those of chains from different starts are not: as many",
        "sweeps predict better in short chains, and the more chains, the better.",
        "",
        *table(["", "rank", "chains", "warm-up", "draws", "seconds", "clipped RMSE"], lines),
    ]
    return Section(f"rows' seed {SEED}, fits' seed 0", bars, body)


def held_out(split: Split) -> Split:
    """The training rows alone, a tenth of them in the place of the test rows."""
    rows = split.train.num_rows
    judged = np.random.default_rng(SEED).permutation(rows) < rows // 10
    train, test = (split.train.filter(pa.array(some)) for some in (~judged, judged))
    return Split(train, test, split.users, split.items)
