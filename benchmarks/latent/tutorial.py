"""The six models of the deep-recommendations tutorial on MovieLens-1M, nine tenths against one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import ranef
from benchmarks.clicks.real import real
from benchmarks.latent import splits
from benchmarks.latent.models import BIASES
from benchmarks.latent.score import rmse
from benchmarks.latent.splits import Split
from benchmarks.studies.page import Bar, Section, table

MOST_SECONDS = 60.0
TIMED_SHARE = 10
RANKS = (8, 16, 32)
SIDES = "latent(user_id + occupation + gender + age_group, item_id + bag(genres), rank={rank})"
FIELDS = "fm(user_id, item_id, occupation, bag(genres), rank={rank})"
PAIR = "latent(user_id, item_id, rank={rank})"


@dataclass(frozen=True)
class Model:
    """One of the six.

    Attributes
    ----------
    formula : str
        With the rank left open.
    method : str
    rank : int
        Of `RANKS`, the one that is better on a tenth of the training rows when fitted to the others.
    most : float
        The tutorial's validation MSE.
    """

    formula: str
    method: str
    rank: int
    most: float

    def text(self, rank: int | None = None) -> str:
        return self.formula.format(rank=rank or self.rank)


MODELS: Mapping[str, Model] = {
    "matrix factorization": Model(f"rating ~ 1 + {PAIR}", "map", 16, 0.80),
    "with biases": Model(f"{BIASES} + {PAIR}", "map", 16, 0.76),
    "with side features": Model(f"{BIASES} + (1 | occupation) + (1 | bag(genres)) + {SIDES}", "vb", 32, 0.76),
    "with time": Model(f"{BIASES} + (1 | rw(week(timestamp, unit = 's'))) + {PAIR}", "vb", 16, 0.77),
    "factorization machine": Model(f"{BIASES} + (1 | occupation) + (1 | bag(genres)) + {FIELDS}", "map", 8, 0.79),
    "variational": Model(f"rating ~ 1 + {PAIR}", "vb", 32, 0.80),
}


def run() -> Section:
    """Fit all six to the training rows."""
    whole = next(splits.ml1m("random"))
    timed = _timed(whole)
    bars, lines = [], []
    for name, model in MODELS.items():
        split = _rows(model, whole, timed)
        mse, seconds, computed = _fitted(model, model.rank, split)
        bars.append(Bar(f"validation MSE, {name}", mse, -float("inf"), model.most, 4))
        bars.append(Bar(f"processor seconds, {name}", computed, -float("inf"), MOST_SECONDS, 0))
        row = [
            name,
            f"`{model.text()}`",
            model.method,
            f"{split.train.num_rows:,}",
            f"{seconds:.0f}",
            f"{computed:.0f}",
        ]
        lines.append([*row, f"{mse:.4f}", f"{model.most:.2f}"])
    body = [
        "Predictions are clipped to the ratings' range, by default. The rows are those of ml-1m-random; times",
        f"are known for users 1 to 2999 only, whose rows the model with time has, every {TIMED_SHARE}th at random held",
        "out. Seconds have reading in them, and compilation where a kernel is met first; processor seconds are of both",
        "threads together, which a busy machine does not make more: alone a fit takes about half as many. Ranks are",
        "from `tutorial-ranks`. The models are walked through in docs/factorization.md.",
        "",
        *table(["", "formula", "method", "training rows", "seconds", "processor seconds", "MSE", "tutorial"], lines),
    ]
    return Section("split seed 42, fits' seed 0", bars, body)


def ranks() -> Section:
    """Fit every model at each rank to nine tenths of the training rows, and predict the rest of them."""
    whole = next(splits.ml1m("random"))
    inside, timed = _inside(whole), _inside(_timed(whole))
    lines, chosen = [], []
    for name, model in MODELS.items():
        found = {rank: _fitted(model, rank, _rows(model, inside, timed)) for rank in RANKS}
        best = min(found, key=lambda rank: found[rank][0])
        chosen.append(Bar(f"rank that is used less the best one, {name}", model.rank - best, 0, 0, 0))
        lines.append([name, model.method, *(f"{mse:.4f} ({computed:.0f} s)" for mse, _, computed in found.values())])
    body = [
        "MSE on a random tenth of the training rows, fitted to the others, and processor seconds.",
        "",
        *table(["", "method", *(f"rank {rank}" for rank in RANKS)], lines),
    ]
    return Section("slice seed 1, fits' seed 0", chosen, body)


def _rows(model: Model, whole: Split, timed: Split) -> Split:
    return timed if "timestamp" in model.formula else whole


def _fitted(model: Model, rank: int, split: Split) -> tuple[float, float, float]:
    """Mean square error on the test rows, seconds, and processor seconds."""
    begun, computed = time.perf_counter(), time.process_time()
    fit = ranef.fit(
        model.text(rank), split.train, tables={"user_id": split.users, "item_id": split.items}, method=model.method
    )
    seconds, computed = time.perf_counter() - begun, time.process_time() - computed
    return rmse(split.y, np.asarray(fit.predict(split.test), dtype=np.float64)) ** 2, seconds, computed


def _timed(whole: Split) -> Split:
    rows = pq.read_table(real("ml-1m/ratings.parquet"))
    rows = rows.filter(pc.is_valid(pq.read_table(real("splits/ml-1m-time.parquet"))["is_test"]))
    return _cut(rows, whole, 42)


def _inside(split: Split) -> Split:
    return _cut(split.train, split, 1)


def _cut(rows: pa.Table, split: Split, seed: int) -> Split:
    out = np.zeros(rows.num_rows, bool)
    out[np.random.default_rng(seed).permutation(rows.num_rows)[: rows.num_rows // TIMED_SHARE]] = True
    return Split(rows.filter(pa.array(~out)), rows.filter(pa.array(out)), split.users, split.items)
