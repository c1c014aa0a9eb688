"""Which rank: short chains on nine tenths of the training rows, judged on the other tenth; no test row takes part."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from benchmarks.latent import models
from benchmarks.latent.ratings import PROBLEMS
from benchmarks.latent.score import rmse
from benchmarks.latent.splits import Split
from benchmarks.studies.page import Bar, Section, table

SEED = 11
SLACK = 0.0005  # what a smaller rank may be worse by


@dataclass(frozen=True)
class Grid:
    """Ranks for ratings alone, and with history and attributes; options of the fits."""

    alone: Sequence[int]
    everything: Sequence[int]
    warmup: int
    draws: int


GRIDS: Mapping[str, Grid] = {
    "ml-100k": Grid((4, 8, 16, 32), (8, 16, 32), 100, 200),
    "ml-1m-random": Grid((8, 16, 32, 64), (16, 32), 80, 120),
    "ml-1m-time": Grid((8, 16, 32), (8, 16, 32), 80, 120),
    "goodbooks": Grid((8, 16, 32), (16, 32), 80, 120),
}


def run(name: str) -> Section:
    """Every rank of the split's grid, on the first of its parts."""
    grid, problem = GRIDS[name], PROBLEMS[name]
    split = held_out(next(iter(problem.parts())))
    options = {"method": "gibbs", "warmup": grid.warmup, "draws": grid.draws}
    kinds = (
        ("ratings alone", problem.alone.rank, {rank: models.alone(rank) for rank in grid.alone}),
        (
            "history and attributes",
            problem.everything.rank,
            {rank: models.everything(split, rank) for rank in grid.everything},
        ),
    )
    bars, lines = [], []
    for kind, chosen, formulas in kinds:
        scores = {}
        for rank, formula in formulas.items():
            begun = time.perf_counter()
            fit = models.fitted(formula, split, options)
            seconds = time.perf_counter() - begun
            scores[rank] = rmse(split.y, models.predicted(fit, split))
            lines.append([kind, rank, f"{seconds:.1f}", f"{scores[rank]:.4f}"])
        behind = scores[chosen] - min(scores.values())
        bars.append(Bar(f"{kind}: rank {chosen}, of the best", behind, -float("inf"), SLACK, 4))
    body = [
        f"{split.train.num_rows:,} rows to fit, {len(split.y):,} to judge, all of the training part"
        f"{' of the first fold' if name == 'ml-100k' else ''}. Gibbs, {grid.warmup} sweeps",
        f"thrown away and {grid.draws} draws: longer chains are better by about as much at any rank.",
        "",
        *table(["", "rank", "seconds", "clipped RMSE"], lines),
    ]
    return Section(f"rows' seed {SEED}, fits' seed 0", bars, body)


def held_out(split: Split) -> Split:
    """The training rows alone, a tenth of them in the place of the test rows."""
    rows = split.train.num_rows
    judged = np.random.default_rng(SEED).permutation(rows) < rows // 10
    train, test = (split.train.filter(pa.array(some)) for some in (~judged, judged))
    return Split(train, test, split.users, split.items)
